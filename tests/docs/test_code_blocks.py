"""Every code block of README and docs: Python is run, commands are run or parsed, the rest says why it is not."""

import contextlib
import io
import re
import sys

import numpy as np
import pytest
from markdown import BLOCKS, ROOT, split_command
from PIL import Image

import kcnn
from kcnn.data.input_pipeline.transform import Preprocessing
from pipelines import command_line

PYTHON = [b for b in BLOCKS if b.language == "python" and not (b.page.startswith("docs/extending/") and b.title)]
SHELL = [block for block in BLOCKS if block.language == "sh"]
# The arguments of a block that reads them from the command line.
ARGUMENTS = {"classify.py": ["saved_models/mobilenetv2/1", "a.jpg", "b.png"]}
QUICK = ("models", "label", "rollback", "predict")  # commands that take seconds
MAIN = re.compile(r"(?:\S*/)?(?:uv run -q --locked )?(?:python main\.py|kcnn)(?: (?P<rest>.*))?$")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """Return a folder with photos and two versions of a model, the first in three formats, as the pages suppose."""
    folder = tmp_path_factory.mktemp("workplace")
    random = np.random.default_rng(0)
    names = ["a.jpg", "b.png", "holiday/1.jpg", "holiday/2.jpg"]
    for name in (*names, *(f"photos/{label}/{index}.jpg" for label in ("cat", "dog") for index in range(12))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / name)
    (folder / "list.txt").write_text("a.jpg\nb.png\n")
    model = kcnn.create_model("mobilenetv2_0.35", num_classes=2, input_size=32)
    published, preprocessing = folder / "saved_models" / "mobilenetv2", Preprocessing(image_size=(32, 32))
    first = {"formats": ("savedmodel", "onnx", "tflite-int8"), "calibration": [(folder / "a.jpg").read_bytes()]}
    for version, settings in (("1", first), ("2", {"temperature": 2.0})):
        kcnn.export_classifier(
            model, published / version, ["cat", "dog"], preprocessing, optimize_for="none", **settings
        )
    (folder / "assets.extra").symlink_to(published / "1" / "assets.extra")
    return folder


@pytest.mark.parametrize("block", [b for b in PYTHON if b.reason is None], ids=str)
def test_python_runs(block, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", [block.title or "block.py", *ARGUMENTS.get(block.title, [])])
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


def flags_of(command):
    """Return the names of the flags that a command reads, and the `no` forms of those that are true or false."""
    assert command in command_line.command_names()
    values = command_line.load_command(command).FLAGS
    return {"help"} | set(values) | {f"no{name}" for name in values if values[name].boolean}


def commands_of(blocks):
    """Return the lines of shell blocks, each with the place where it stands."""
    return [pytest.param(block, line, id=f"{block} {line[:40]}") for block in blocks for line in block.commands]


@pytest.mark.parametrize(("block", "line"), commands_of(SHELL))
def test_commands_exist_and_read_their_flags(block, line):
    line = line.split(" # ")[0].split(" && ")[-1].strip()
    words = split_command(line)
    match = MAIN.search(line)
    if block.reason == "needs the new file":
        return  # tests/docs/test_extending.py runs it
    if match and not line.startswith("pip"):
        arguments = split_command(match["rest"] or "")
        command = arguments[0] if arguments and not arguments[0].startswith("-") else "train"
        given = {argument.lstrip("-").partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert given <= flags_of(command), f"{block}: {command} does not read {given - flags_of(command)}"
    elif words[0] == "python" and words[1].startswith(("tests/", "docs/")):
        source = (ROOT / words[1]).read_text()
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            handed_on = "parse_known_args" in source and flag.removeprefix("--") in flags_of("train")
            assert f'"{flag}"' in source or handed_on, f"{block}: {words[1]} has no {flag}"
    elif words[0].startswith(("tests/", ".ci/")):
        assert (ROOT / words[0]).is_file()
    elif line != "source .venv/bin/activate" and not line.endswith("pytest"):
        assert block.reason, f"{block}: say above the block why it is not run: <!-- not run: REASON -->"


def runnable():
    """Yield the lines that call a quick command, as far as the workplace has what they need."""
    for block in SHELL:
        for line in block.commands:
            match = MAIN.match(line.split(" # ")[0].strip())
            arguments = split_command(match["rest"] or "") if match else []
            if block.reason is None and arguments and arguments[0] in QUICK and "--runtime" not in arguments:
                yield pytest.param(arguments, id=f"{block} {line[:40]}")


@pytest.mark.parametrize("arguments", runnable())
def test_quick_commands_run(arguments, workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    assert command_line.run(["main.py", *arguments]) == 0, capsys.readouterr().err


def test_every_other_block_says_why_it_is_not_run():
    skipped = [block for block in PYTHON if block.reason is not None]
    assert skipped == [], "a Python block can always be made to run"
