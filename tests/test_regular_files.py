"""Regular files are read; of anything else nothing is waited for."""

import os

import pytest

from kcnn.regular_files import open_regular, read_regular
from tests.endless_files import EMPTY, endless_files, time_limit


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    for name in endless_files(tmp_path):
        with time_limit():
            if name in EMPTY:
                assert read_regular(tmp_path / name, 10) == b""
                continue
            with pytest.raises(OSError, match="not a regular file"):
                open_regular(tmp_path / name)
    with pytest.raises(IsADirectoryError, match="a folder"):
        open_regular(tmp_path)


def test_a_file_that_becomes_a_pipe_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")
    os.mkfifo(tmp_path / "pipe")
    state = os.stat(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda path: state)
    with time_limit(), pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe")


def test_no_more_than_the_limit_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", 3) == b"abc"
    with pytest.raises(OSError, match="more than 0 MiB"):
        read_regular(tmp_path / "a", 2)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="more than 1 MiB"):
        read_regular(tmp_path / "sparse", 2**20)


def test_no_descriptor_is_left_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    for name in [*endless_files(tmp_path), ".", "missing"]:
        try:
            open_regular(tmp_path / name).close()
        except OSError:
            continue
    assert os.listdir("/proc/self/fd") == before
