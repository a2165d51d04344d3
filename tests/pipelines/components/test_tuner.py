"""Tuner: where it searches, how well, how it goes on after a kill, and what Trainer takes from it."""

import csv
import json
import math
import os
import random
import signal
import statistics

import keras
import keras_tuner
import pytest
from PIL import Image

from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import ingest
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.recipes import build
from kcnn.training.adaptation import adapt_config
from kcnn.training.epoch_end import DivergedError
from kcnn.training.hyperparameters import (
    Range,
    get_hyperparameters,
    keras_tuner_config,
    replace_hyperparameters,
    search_space,
)
from kcnn.training.run import TrainingData
from kcnn.training.trials import Trial, best_trial, plot_trials, read_trials, write_trials
from kcnn.training.tuning import expected_scores, is_hopeless, run_trials, tune
from pipelines.artifacts.training import ModelRun
from pipelines.artifacts.tuning import HyperParameters, TunerResults
from pipelines.engine.component import component
from pipelines.graphs import image_classification
from pipelines.graphs.preflight import check_tune
from pipelines.graphs.publication import Publication
from pipelines.reports import lineage

SUMMARY = Summary(("a", "b"), {"train": {"a": 60, "b": 40}}, {}, (), mean_bytes=1000, median_side=400, mirror=True)
RANGES = {
    "learning_rate": Range(1e-4, 1e-1, log=True),
    "weight_decay": Range(1e-4, 1.0, log=True),
    "batch_size": (16, 32, 64, 128),
}
OWN = {"learning_rate": 1e-3, "weight_decay": 0.1, "batch_size": 32}


def accuracy(values):
    """Has its optimum, 0.98, at 0.02, 0.003 and 64."""
    off = (
        math.log10(values["learning_rate"] / 0.02) ** 2 / 5
        + math.log10(values["weight_decay"] / 0.003) ** 2 / 20
        + math.log2(values["batch_size"] / 64) ** 2 / 100
    )
    return max(0.1, 0.98 - off)


def quick(values, report):
    """Four epochs of a training that takes no time."""
    report([accuracy(values) * part for part in (0.7,)], 0.0)
    report([accuracy(values) * part for part in (0.7, 0.8, 0.9, 1.0)], 0.0)


def searched(folder, objective=quick, trials=12, seed=0):
    return run_trials(RANGES, OWN, objective, trials=trials, epochs=4, seed=seed, journal=folder / "trials.jsonl")


def test_it_finds_the_planted_optimum_better_than_chance(tmp_path):
    found, by_chance = [], []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        done = searched(tmp_path / str(seed), trials=15, seed=seed)
        assert len(done) == 15
        assert done[0].values == OWN
        found.append(best_trial(done).score)
        draws = random.Random(seed)
        by_chance += [
            max(
                accuracy(
                    {
                        "learning_rate": 10 ** draws.uniform(-4, -1),
                        "weight_decay": 10 ** draws.uniform(-4, 0),
                        "batch_size": draws.choice((16, 32, 64, 128)),
                    }
                )
                for _ in range(15)
            )
            for _ in range(100)
        ]
    assert statistics.mean(found) > statistics.mean(by_chance) + statistics.stdev(by_chance) / 2
    assert min(found) > 0.96


def test_equal_seeds_propose_equal_values(tmp_path):
    lists = []
    for name in "ab":
        (tmp_path / name).mkdir()
        lists.append([(trial.values, trial.scores) for trial in searched(tmp_path / name, trials=7)])
    assert lists[0] == lists[1]
    (tmp_path / "c").mkdir()
    assert [trial.values for trial in searched(tmp_path / "c", trials=7, seed=1)] != [values for values, _ in lists[0]]


def test_a_killed_search_goes_on_and_repeats_nothing(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    calls = tmp_path / "calls"

    def counted(values, report):
        with calls.open("a") as file:
            file.write(json.dumps(values) + "\n")
        quick(values, report)

    def dying(values, report):
        if calls.exists() and len(calls.read_text().splitlines()) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        counted(values, report)

    child = os.fork()
    if child == 0:
        searched(tmp_path / "killed", dying, trials=9)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(read_trials(tmp_path / "killed" / "trials.jsonl")) == 6
    resumed = searched(tmp_path / "killed", counted, trials=9)
    whole = searched(tmp_path / "whole", trials=9)
    assert [(t.values, t.scores, t.ending) for t in resumed] == [(t.values, t.scores, t.ending) for t in whole]
    begun = [json.loads(line) for line in calls.read_text().splitlines()]
    assert begun == [dict(trial.values) for trial in whole]  # each once


def test_a_journal_of_other_proposals_is_not_believed(tmp_path):
    """As another version of a library would leave it."""
    searched(tmp_path, trials=4)
    journal = tmp_path / "trials.jsonl"
    kept = read_trials(journal)
    other = Trial(3, {**OWN, "learning_rate": 0.07}, [1.0], "finished", 1.0)
    write_trials(journal, [*kept[:2], other, kept[3]])
    again = searched(tmp_path, trials=4)
    assert [trial.values for trial in again] == [trial.values for trial in kept]
    assert read_trials(journal) == again


def test_hopeless_trials_are_stopped_at_a_quarter_or_half_of_their_epochs(tmp_path):
    done = [Trial(n, {}, [0.1 * n, 0.5, 0.5, 0.5, 0.1 * n + 0.3, 0.6, 0.6, 0.6], "finished", 1.0) for n in (1, 2, 3)]
    assert not is_hopeless([0.15], done, 8)  # no rung
    assert is_hopeless([0.15, 0.49], done, 8)
    assert not is_hopeless([0.15, 0.5], done, 8)
    assert not is_hopeless([0.15, 0.49, 0.4], done, 8)
    assert is_hopeless([0.15, 0.49, 0.4, 0.4], done, 8)
    assert not is_hopeless([0.15, 0.49], done[:2], 8)  # too few to tell
    assert not is_hopeless([0.1] * 4, [Trial(n, {}, [0.9], "stopped", 1.0) for n in range(4)], 8)  # none came as far

    def one_epoch_after_another(values, report):
        scores = []
        for part in (0.7, 0.8, 0.9, 1.0):
            scores.append(accuracy(values) * part)
            report(scores, 0.0)

    trials = searched(tmp_path, one_epoch_after_another)
    stopped = [trial for trial in trials if trial.ending == "stopped"]
    assert stopped
    assert {len(trial.scores) for trial in stopped} <= {1, 2}
    assert all(len(trial.scores) == 4 for trial in trials if trial.ending == "finished")
    assert best_trial(trials).ending == "finished"


def test_a_stopped_trial_counts_with_what_others_gained_later():
    done = [
        Trial(1, {}, [0.5, 0.7, 0.8], "finished", 1.0),
        Trial(2, {}, [0.6, 0.6, 0.7], "finished", 1.0),
        Trial(3, {}, [0.4, 0.9, 0.9], "finished", 1.0),
        Trial(4, {}, [0.1], "stopped", 1.0),
        Trial(5, {}, [], "failed", 1.0),
    ]
    assert expected_scores(done) == pytest.approx([0.8, 0.7, 0.9, 0.1 + 0.3, 0.1])
    assert expected_scores(done[3:]) == [0.1, 0.1]


def test_a_trial_that_diverges_is_one_that_failed(tmp_path, capsys):
    def diverging(values, report):
        if values["learning_rate"] > 1e-3:
            raise DivergedError("the loss became nan")
        quick(values, report)

    done = searched(tmp_path, diverging, trials=8)
    assert {trial.ending for trial in done} >= {"finished", "failed"}
    assert all((trial.values["learning_rate"] > 1e-3) == (trial.ending == "failed") for trial in done)
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("Trial ")]) == 8

    def never(values, report):
        raise DivergedError("the loss became nan")

    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="all of 2 trials failed"):
        searched(tmp_path / "none", never, trials=2)


def test_no_values_are_tried_twice(tmp_path):
    calls = []

    def counted(values, report):
        calls.append((values["batch_size"], values["augment"]))
        report([0.5], 0.0)

    ranges = {"batch_size": (16, 32, 64), "augment": ("", "flip")}
    own = {"batch_size": 32, "augment": "flip"}
    run_trials(ranges, own, counted, trials=20, epochs=1, seed=0, journal=tmp_path / "trials.jsonl")
    assert sorted(calls) == [(size, augment) for size in (16, 32, 64) for augment in ("", "flip")]


def test_what_the_user_gave_is_not_searched():
    free = search_space(build("scratch"), SUMMARY)
    assert free.keys() == get_hyperparameters(build("scratch")).keys()
    given = {"learning_rate": 0.01, "weight_decay": 0.1, "augmentations": ("flip",), "epochs": 3}
    left = search_space(build("scratch", **given), SUMMARY)
    assert left.keys() == free.keys() - {"learning_rate", "weight_decay", "augment"}
    everything = {**given, "label_smoothing": 0.0, "batch_size": 8}
    with pytest.raises(UserError, match="--tune: nothing is left to search"):
        search_space(build("linear_probe", **everything), SUMMARY)


@pytest.mark.parametrize("zero", ["weight_decay", "label_smoothing", "learning_rate"])
@pytest.mark.parametrize("recipe", ["scratch", "linear_probe"])
def test_a_recipes_own_value_may_be_zero(zero, recipe, tmp_path):
    config = replace_hyperparameters(build(recipe), {zero: 0.0})
    space, own = search_space(config, SUMMARY), get_hyperparameters(config)
    assert all(where.low < where.high for where in space.values() if isinstance(where, Range))
    assert all(where.low > 0 for where in space.values() if isinstance(where, Range) and where.log)
    assert (zero in space) == (zero != "learning_rate")  # multiples of 0 are 0
    own = {name: own[name] for name in space}

    def objective(values, report):
        report([0.5 + 0.1 * values["label_smoothing"] + (values.get("weight_decay", 0.0) > 0.01)], 0.0)

    done = run_trials(space, own, objective, trials=8, epochs=1, seed=0, journal=tmp_path / "trials.jsonl")
    assert done[0].values == own
    assert len({json.dumps(trial.values) for trial in done}) == 8
    plot_trials(tmp_path / "trials.png", done, space)
    loaded = keras_tuner.HyperParameters.from_config(keras_tuner_config(space, own, best_trial(done).values))
    assert loaded.values == best_trial(done).values


def test_a_trial_that_was_finished_before_a_kill_counts_with_its_scores_and_its_seconds(tmp_path):
    def found_finished(values, report):
        report([0.5, accuracy(values)], 1000.0)

    done = searched(tmp_path, found_finished, trials=2)
    assert [trial.seconds for trial in done] == [1000.0, 1000.0]
    assert all(trial.score for trial in done)


def test_ranges_suit_the_recipe_and_the_data():
    ranges = search_space(build("finetune"), SUMMARY, devices=1)
    rate = build("finetune").phases[1].learning_rate
    assert (ranges["learning_rate"].low, ranges["learning_rate"].high) == pytest.approx((rate / 10, rate * 10))
    assert ranges["batch_size"] == (16, 32, 64)  # of 100 images
    assert search_space(build("finetune", batch_size=48), SUMMARY).keys() == ranges.keys() - {"batch_size"}
    assert search_space(build("finetune"), SUMMARY, devices=32)["batch_size"] == (32, 64)
    assert ranges["crop_area"].low == 0.1
    digits = Summary(("a", "b"), SUMMARY.counts, {}, (), mean_bytes=100, median_side=8, mirror=False)
    ranges = search_space(adapt_config(build("scratch"), digits, (64, 64)), digits)
    assert ranges["augment"] == ("", "cutmix_mixup", "randaugment", "randaugment,cutmix_mixup")
    assert ranges["crop_area"].low == 0.7
    assert "augment" not in search_space(build("linear_probe"), SUMMARY)  # whose features are computed once


def test_values_go_where_the_flags_go():
    config = build("finetune")
    values = {"learning_rate": 0.01, "batch_size": 64, "augment": "", "crop_area": 0.5, "label_smoothing": 0.0}
    tuned = replace_hyperparameters(config, values)
    assert tuned.phases[0] == config.phases[0]
    assert get_hyperparameters(tuned) == {**values, "weight_decay": config.weight_decay}
    assert tuned.phases[1].augmentations == ()
    assert replace_hyperparameters(config, get_hyperparameters(config)) == config
    given = build("finetune", augmentations=("flip", "randaugment(n=3,m=12)"))
    assert replace_hyperparameters(given, get_hyperparameters(given)) == given


@component
def consumer(hyperparameters: HyperParameters | None = None) -> None: ...


def test_an_input_may_be_left_out():
    assert consumer().inputs == {}
    assert consumer(hyperparameters=None).inputs == {}
    with pytest.raises(TypeError, match="'hyperparameters' expects the output of a component, got 3"):
        consumer(hyperparameters=3)


def test_mistakes_are_known_before_the_work():
    check_tune(0)
    check_tune(2)
    for trials in (1, -3):
        with pytest.raises(UserError, match=f"--tune {trials}: expected 2 trials or more"):
            check_tune(trials)


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, name="stem_conv")(x)
    x = keras.layers.ReLU(name="stem_act")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))


@pytest.mark.slow
def test_a_real_search_and_its_artifacts(tmp_path, capfd):
    """Search a recipe with two phases, the first of which trains once; test images are not looked at."""
    summary = ingest.ingest(open_dataset("digits"), tmp_path)
    for shard in examples.shard_paths(tmp_path, "test"):
        os.remove(shard)
    shards = {split: examples.shard_paths(tmp_path, split) for split in ("train", "val")}
    data = TrainingData(**shards, train_count=summary.total("train"), val_count=summary.total("val"), classes=10,
                mean_bytes=summary.mean_bytes, preprocessing=Preprocessing((8, 8), crop_fraction=1.0))  # fmt: skip
    config = build("finetune", epochs=2, label_smoothing=0.0, batch_size=64)
    config = adapt_config(config, summary, (8, 8))
    results, best = TunerResults(tmp_path / "results"), HyperParameters(tmp_path / "best")
    for artifact in (results, best):
        artifact.path.mkdir()
    best.write(tune(config, data, summary, network, results.path, trials=3))
    done = read_trials(results.journal)

    captured = capfd.readouterr()
    assert captured.out.count("Trial ") == 3
    assert captured.out.count("Head: ") == 1
    assert "Training (all)" not in captured.err  # the search's bar stands for them
    assert [len(trial.scores) for trial in done] == [2, 2, 2]
    assert max(trial.score for trial in done) > 0.5

    config_read = json.loads((best.path / "best_hyperparameters.txt").read_text())
    assert keras_tuner.HyperParameters.from_config(config_read).get_config() == config_read
    loaded = keras_tuner.HyperParameters.from_config(json.loads((best.path / "best_hyperparameters.txt").read_text()))
    assert loaded.values == best.values() == best.properties() == dict(best_trial(done).values)
    assert not {"label_smoothing", "batch_size"} & loaded.values.keys()
    rows = list(csv.DictReader((results.path / "trials.csv").open()))
    assert [float(row["validation_accuracy"]) for row in rows] == pytest.approx([t.score for t in done], abs=1e-6)
    told = json.loads((results.path / "tuner_results.json").read_text())
    assert [(row["trial_id"], row["score"]) for row in told] == [(str(t.number), t.score) for t in done]
    assert results.properties()["best"] == max(trial.score for trial in done)
    with Image.open(results.path / "trials.png") as image:
        assert min(image.size) > 300
    assert [path.name for path in results.path.glob("*") if path.is_dir()] == list(results.scratch)


@pytest.mark.slow
def test_the_main_job_trains_with_what_was_found(tmp_path, capsys):
    config = build("scratch", model="lenet5", epochs=1, offline=True)
    job = image_classification.TrainingJob(
        config=config,
        publication=Publication(name="m", saved_models=str(tmp_path / "saved_models")),
        pipeline_root=str(tmp_path / "root"),
        command="main.py --tune 2",
        tune=2,
        last="Trainer",
    )
    assert image_classification.run(job) is None
    assert "Tuned: " in capsys.readouterr().out
    (folder,) = (tmp_path / "root" / "Trainer" / "model_run").iterdir()
    (found,) = (tmp_path / "root" / "Tuner" / "best_hyperparameters").iterdir()
    values = HyperParameters(found).values()
    trained = ModelRun(folder).config()
    assert (trained.phases[-1].learning_rate, trained.weight_decay) == (values["learning_rate"], values["weight_decay"])
    told = lineage.find_lineage(tmp_path / "root", folder)
    (tuned,) = (row for row in told["executions"] if row["component"] == "Tuner")
    assert tuned["parameters"]["trials"] == 2
    results = {row["type"]: row for row in told["artifacts"]}["TunerResults"]
    assert results["properties"]["trials"] == 2
    assert "hyperparameters: HyperParameters in Tuner/best_hyperparameters/" in "\n".join(lineage.format_lineage(told))
