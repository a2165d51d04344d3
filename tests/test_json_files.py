"""Small files are read with limits, whatever lies in their place."""

import os

import pytest

from kcnn import documents
from kcnn.json_files import DamagedFileError, read_json, read_small_file, warn_of_damage


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path):
    ways = {
        "pipe": os.mkfifo,
        "folder": os.mkdir,
        "endless": lambda path: path.symlink_to("/dev/zero"),
        "circle": lambda path: path.symlink_to(path.name),
        "nothing": lambda path: path.symlink_to("nowhere"),
        "large": lambda path: (path.touch(), os.truncate(path, documents.LARGEST + 1)),
    }
    for name, make in ways.items():
        make(tmp_path / name)
        with pytest.raises(DamagedFileError, match=name):
            read_small_file(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_small_file(tmp_path / "missing")


def test_another_kind_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    assert read_json(tmp_path / "a.json", list) == []
    with pytest.raises(DamagedFileError, match="expected an object of JSON"):
        read_json(tmp_path / "a.json")


def test_a_warning_is_one_line(capsys):
    warn_of_damage(["a\nb\x1b[31m"])
    assert capsys.readouterr().err == "Warning: a\\nb\\x1b[31m\n"
