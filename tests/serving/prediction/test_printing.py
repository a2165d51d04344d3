"""The pictures that `predict` is given: on the command line and in lists, as editors and programs write them."""

import os
import subprocess
import sys

import pytest

from kcnn.errors import UserError
from kcnn.serving.prediction.printing import read_names

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
