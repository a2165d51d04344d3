"""The pictures that `predict` is given: on the command line and in lists, as editors and programs write them."""

import csv
import json
import os
import subprocess
import sys

import pytest

from kcnn.errors import UserError
from kcnn.serving.prediction.classifier import Prediction
from kcnn.serving.prediction.printing import FORMATS, print_predictions, read_names
from tests.endless_files import time_limit

NAMES = ["a.jpg", "chât/*.png", "https://example.org/b.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n \n\n"])
def test_lists_come_in_any_encoding(tmp_path, encoding, end):
    (tmp_path / "list").write_bytes(end.join([*NAMES, ""]).encode(encoding))
    assert list(read_names(["first.jpg"], str(tmp_path / "list"))) == ["first.jpg", *NAMES]


def test_names_that_are_no_utf8_stay(tmp_path):
    name = os.fsdecode(b"caf\xe9 .jpg")
    (tmp_path / "list").write_bytes(os.fsencode(name) + b"\nb\0c.jpg")
    assert list(read_names([], str(tmp_path / "list"))) == [name, "b\0c.jpg"]


def test_a_list_that_only_begins_like_utf16_is_told(tmp_path):
    (tmp_path / "list").write_bytes("a.jpg\n".encode("utf-16") + b"x")
    with pytest.raises(UserError, match=r"--files_from .*list: begins like UTF-16 and is none"):
        list(read_names([], str(tmp_path / "list")))


def test_what_systems_leave_is_skipped_and_named(tmp_path, capsys):
    (tmp_path / "list").write_text("photos/desktop.ini\nb.jpg\n")
    given = ["a.jpg", "photos/Thumbs.db", "~$a.jpg", "photos/@eaDir", "photos/@eaDir/"]
    assert list(read_names(given, str(tmp_path / "list"))) == ["a.jpg", "b.jpg"]
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: skipped, as a system left it" for name in [*given[1:], "photos/desktop.ini"]
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_lines_of_a_pipe_come_as_they_are_written(encoding):
    code = "from kcnn.serving.prediction.printing import *\n[print(name, flush=True) for name in read_names([], '-')]"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        text = "a.jpg\r\n".encode(encoding)
        process.stdin.write(text)
        process.stdin.flush()
        assert process.stdout.readline() == b"a.jpg\n"
        process.stdin.close()
        assert process.wait(60) == 0


EVIL = "a\nb.jpg: cat 99.9%\x1b[2J\x9b31m\u202e\r.jpg"


@pytest.mark.parametrize("layout", FORMATS)
def test_names_forge_no_line_and_act_on_no_terminal(layout, capsys):
    """Print file names, names of classes and reasons of servers that a stub of the classifier gives."""

    class Answers:
        labels = ("=1+1", EVIL)

        def stream(self, names, *_, **__):
            for name in names:
                yield Prediction(name, (EVIL, "=1+1"), (0.75, 0.25))
                yield Prediction(name, error=f"the server answers 404 {EVIL}")

    options = {"files_from": None, "allow_urls": False, "private_redirects": False, "top": 2, "batch_size": 1}
    assert print_predictions(Answers(), [EVIL, "-x.jpg"], layout=layout, **options) == 2
    printed = capsys.readouterr()
    lines = printed.out.split("\n")[:-1]
    assert len(lines) == 4 + (layout == "csv")
    assert all(line.isprintable() for line in [*lines, *printed.err.splitlines()])
    escaped = EVIL.encode("unicode_escape").decode()
    if layout == "csv":
        rows = list(csv.DictReader(lines))
        assert [row["file"] for row in rows] == [escaped, escaped, "'-x.jpg", "'-x.jpg"]
        assert (rows[0]["class_1"], rows[0]["class_2"]) == (escaped, "'=1+1")
        assert rows[1]["error"] == f"the server answers 404 {escaped}"
    elif layout == "json":
        rows = list(map(json.loads, lines))
        assert [row["file"] for row in rows] == [EVIL, EVIL, "-x.jpg", "-x.jpg"]
        assert rows[0]["classes"] == [EVIL, "=1+1"]
    else:
        assert lines[0] == f"{escaped}: {escaped} 75.0%, =1+1 25.0%"


def test_a_list_of_one_endless_line_is_told():
    if os.path.exists("/dev/zero"):
        with time_limit(), pytest.raises(UserError, match="a line of more than"):
            list(read_names([], "/dev/zero"))


def test_standard_input_that_cannot_be_read_is_told():
    code = (
        "from kcnn.serving.prediction.printing import *\n"
        "for one in read_names(['-'], None):\n    try: one.read()\n    except UnreadableError as error: print(error)"
    )
    with open(os.devnull, "w") as written:
        done = subprocess.run([sys.executable, "-c", code], stdin=written, capture_output=True, check=True, text=True)
    assert done.stdout == "Bad file descriptor\n"
