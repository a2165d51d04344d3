"""The pages on extending: their files, put into a copy of the program, work without anything else."""

import json
import shutil
import subprocess
import sys

import pytest
from markdown import BLOCKS, ROOT, split_command

EXTENDING = [block for block in BLOCKS if block.page.startswith("docs/extending/")]
# Runs the command lines of a JSON list in one process, which loads TensorFlow once.
PROGRAM = """
import json, sys
from pipelines.command_line import run
for arguments in json.loads(sys.argv[1]):
    print("\\0", end="", flush=True)
    if status := run(["main.py", *arguments]):
        sys.exit(status)
"""
LINES = [line for block in EXTENDING if block.reason == "needs the new file" for line in block.commands]
SHOWN = [words[2:] for words in map(split_command, LINES) if words[1] == "main.py"]
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


@pytest.fixture(scope="module")
def outputs(project):
    """Run the main job with all that is new, `data`, and the commands of the pages; return command → its output."""
    asked = [JOB.split(), ["data", "--dataset", "squares"], *(words for words in SHOWN if words[0] != "export")]
    return dict(zip(["train", *(words[0] for words in asked[1:])], ask(project, asked), strict=True))


def ask(project, asked):
    """Run command lines in the copy of the program; return what each prints."""
    environment = {"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin", "HOME": str(project)}
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\0")[1:]


def test_every_kind_of_extension_has_a_file():
    titles = [block.title for block in EXTENDING if block.title and block.language == "python"]
    folders = {title.rsplit("/", 1)[0] for title in titles}
    expected = {"kcnn/models", "kcnn/data/datasets", "kcnn/data/input_pipeline/augmentations"}
    expected |= {f"pipelines/{name}" for name in ("artifacts", "components", "commands")}
    assert folders == expected | {"kcnn/serving/formats"}


def test_a_model_dataset_augmentation_and_component_take_part_in_a_run(project, outputs):
    assert "Published: saved_models/mobilenetv2/1" in outputs["train"]
    (palette,) = (project / ".kcnn" / "PaletteGen" / "palette").glob("*/palette.json")
    assert set(json.loads(palette.read_text())) == {"train", "test"}


def test_a_command_does_what_its_page_says(outputs):
    assert outputs["labels"].split() == ["dark", "light"]


@pytest.mark.slow
def test_a_format_does_what_its_page_says(project, outputs):
    (export,) = (words for words in SHOWN if words[0] == "export")
    (output,) = ask(project, [export])
    assert "Published: saved_models/mobilenetv2/2" in output
    assert (project / "saved_models/mobilenetv2/2/assets.extra/graphdef/model.pb").is_file()
