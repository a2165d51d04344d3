"""What the shared flags are turned into."""

import copy
import sys

import pytest

from kcnn.errors import UserError
from pipelines.commands import export, pretrain, train
from pipelines.commands.shared.publication_flags import read_publication
from pipelines.commands.shared.run_flags import called_as, part_fields
from pipelines.commands.shared.training_flags import read_config
from pipelines.graphs.publication import Publication


def parsed(command, *arguments):
    values = copy.deepcopy(command.FLAGS)
    values(["main.py", *arguments])
    return values


@pytest.mark.parametrize(
    ("arguments", "ends"),
    [
        ([], (None, None)),
        (["--from", "Trainer"], ("Trainer", None)),
        (["--from=Trainer", "--to=Evaluator"], ("Trainer", "Evaluator")),
        (["--only", "Evaluator"], ("Evaluator", "Evaluator")),
    ],
)
def test_the_flags_for_parts(arguments, ends):
    fields = part_fields(parsed(train, *arguments))
    assert (fields["first"], fields["last"]) == ends


def test_only_stands_alone():
    with pytest.raises(UserError, match="--only: expected without --from and --to"):
        part_fields(parsed(train, "--only", "Trainer", "--to", "Trainer"))


def test_a_config_takes_what_the_flags_give_and_leaves_the_rest_to_the_recipe():
    arguments = ["--epochs", "3", "--design", "width=0.5", "--design", "norm=group", "--augment", "", "--seed=0"]
    config = read_config(parsed(train, *arguments), "finetune")
    expected = {"epochs": 3, "design": {"width": 0.5, "norm": "group"}, "augmentations": (), "seed": 0}
    assert config.overrides == expected
    augmented = read_config(parsed(train, "--augment", "flip, randaugment(n=3, m=12)"), "scratch")
    assert augmented.phases[-1].augmentations == ("flip", "randaugment(n=3,m=12)")
    assert read_config(parsed(pretrain), "pretrain").dataset == pretrain.FLAGS["dataset"].default == "fractals"
    with pytest.raises(UserError, match="--design 'width': expected NAME=VALUE"):
        read_config(parsed(train, "--design", "width"), "scratch")


def test_dropout_is_an_argument_of_the_design():
    config = read_config(parsed(train, "--dropout", "0.3", "--design", "width=0.5", "--l2=0.01"), "scratch")
    assert (config.design, config.l2) == ({"width": 0.5, "dropout": 0.3}, 0.01)
    assert read_config(parsed(train, "--dropout", "0"), "scratch").design == {"dropout": 0.0}
    with pytest.raises(UserError, match="--dropout and --design dropout=: expected one of them"):
        read_config(parsed(train, "--dropout", "0.3", "--design", "dropout=0.4"), "scratch")


def test_a_publication_takes_what_the_flags_give_and_leaves_the_rest_to_its_defaults():
    assert read_publication(parsed(train), "m", "out") == Publication(name="m", saved_models="out")
    values = parsed(export, "--formats", "savedmodel,onnx", "--min_accuracy", "0.5", "--allow_worse")
    expected = {"formats": ("savedmodel", "onnx"), "min_accuracy": 0.5, "allow_worse": True}
    assert read_publication(values, "m", "out") == Publication(name="m", saved_models="out", **expected)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["main.py", "data", "--dataset", "my photos"], "python main.py data --dataset 'my photos'"),
        (["/opt/venv/bin/kcnn", "data"], "kcnn data"),
    ],
)
def test_the_records_hold_the_command_as_a_shell_takes_it(argv, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert called_as() == line
