"""The pages on extending: their files, put into a copy of the program, work without anything else."""

import json
import shutil
import subprocess
import sys

import pytest
from markdown import BLOCKS, ROOT, split_command

EXTENDING = [block for block in BLOCKS if block.page.startswith("docs/extending/")]
JOB = "--model TinyNet --dataset squares --augment grey --epochs 1 --name mobilenetv2 --to Pusher"


def apply_diff(lines, text):
    """Return the text with a hunk applied: lines that begin with " " or "-" are found once, those with "+" come in."""
    old = "".join(line[1:] + "\n" for line in lines if line[:1] in (" ", "-", ""))
    new = "".join(line[1:] + "\n" for line in lines if line[:1] in (" ", "+", ""))
    assert text.count(old) == 1, f"the page shows lines that are not in the program:\n{old}"
    return text.replace(old, new)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a copy of the program with all that the pages add."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("kcnn", "pipelines"):
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    shutil.copy(ROOT / "main.py", folder)
    for block in EXTENDING:
        title, *lines = block.text.splitlines()
        file = folder / title.removeprefix("# ")
        if block.language == "diff":
            file.write_text(apply_diff(lines, file.read_text()))
        elif block.title:
            assert not file.exists(), f"{block}: {title} is there already"
            file.write_text("\n".join(lines) + "\n")
    return folder


def run(project, arguments):
    """Run a command line in the copy and return its output."""
    environment = {"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin", "HOME": str(project)}
    command = [sys.executable, "main.py", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def output(project):
    """Run the main job with the new architecture, dataset and augmentation; return its output."""
    return run(project, JOB.split())


def test_every_kind_of_extension_has_a_file():
    titles = [block.title for block in EXTENDING if block.title and block.language == "python"]
    folders = {title.rsplit("/", 1)[0] for title in titles}
    expected = {"kcnn/models", "kcnn/data/datasets", "kcnn/data/input_pipeline/augmentations"}
    expected |= {f"pipelines/{name}" for name in ("artifacts", "components", "commands")}
    assert folders == expected | {"kcnn/serving/formats"}


def test_a_model_dataset_augmentation_and_component_take_part_in_a_run(project, output):
    assert "Published: saved_models/mobilenetv2/1" in output
    run(project, ["data", "--dataset", "squares"])
    (palette,) = (project / ".kcnn" / "PaletteGen" / "palette").glob("*/palette.json")
    assert set(json.loads(palette.read_text())) == {"train", "test"}


def test_a_command_and_a_format_do_what_their_pages_say(project, output):
    lines = [line for block in EXTENDING if block.reason == "needs the new file" for line in block.commands]
    printed = {words[2]: run(project, words[2:]) for words in map(split_command, lines) if words[1] == "main.py"}
    assert printed["labels"].split() == ["dark", "light"]
    assert "Published: saved_models/mobilenetv2/2" in printed["export"]
    assert (project / "saved_models/mobilenetv2/2/assets.extra/graphdef/model.pb").is_file()
