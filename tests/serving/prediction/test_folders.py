"""Walks through folders and patterns end, whatever links lead where, and name each file once."""

import contextlib
import os

import pytest

from kcnn.serving.prediction import inputs
from kcnn.serving.prediction.folders import pattern_files
from kcnn.serving.prediction.inputs import UnreadableError
from tests.endless_files import EMPTY, endless_files, time_limit


def names(item, folder):
    with time_limit():
        return [os.path.relpath(source.name, folder) for source in inputs.expand_input(str(item))]


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


@pytest.fixture
def tree(tmp_path):
    touch(tmp_path, "a.jpg", "b.png", "x/c.jpg", "x/y/d.jpg", "x/y/x/e.jpg", ".h/f.jpg", "x/.g.jpg", "x/thumbs.db")
    return tmp_path


ALL = ["a.jpg", "b.png", "x/c.jpg", "x/y/d.jpg", "x/y/x/e.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**", ALL),
        ("**/*", ALL),
        ("**/**", ALL),
        ("**/**/*", ALL),
        ("*", ALL),
        ("**/*.jpg", [name for name in ALL if name.endswith(".jpg")]),
        ("*/**", ALL[2:]),
        ("x/**", ALL[2:]),
        ("x/**/", ALL[2:]),
        ("**/x", ALL[2:]),
        ("**/x/**", ALL[2:]),
        ("**/x/*.jpg", ["x/c.jpg", "x/y/x/e.jpg"]),
        ("**/y/**/e.*", ["x/y/x/e.jpg"]),
        ("?/[a-y]/*.jpg", ["x/y/d.jpg"]),
        ("*/", ALL[2:]),
        (".*", [".h/f.jpg"]),
        ("x/.*", ["x/.g.jpg"]),
        ("./x/y/*.jpg", ["x/y/d.jpg"]),
        ("x/../a*", ["a.jpg"]),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_each_file_once(tree, pattern, expected, linked, monkeypatch):
    if linked:  # to itself and to folders above, in every folder
        for folder in (tree, tree / "x", tree / "x/y", tree / "x/y/x"):
            for number in range(5):
                (folder / f"z{number}").symlink_to("." if number else "..")
            (folder / "top").symlink_to(tree)
    assert names(f"{tree}/{pattern}", tree) == expected
    monkeypatch.chdir(tree)
    assert [os.path.normpath(name) for name in names(pattern, ".")] == expected


@pytest.mark.parametrize("pattern", ["", "**", "**/*", "*/*/*/*/*/*/*/*", "**/*/**/*/**"])
def test_folders_that_all_link_to_one_another(tmp_path, pattern):
    count = 8
    for here in range(count):
        touch(tmp_path, f"{here}/{here}.jpg")
        for there in range(count):
            (tmp_path / str(here) / f"to{there}").symlink_to(tmp_path / str(there))
    found = names(tmp_path / pattern, tmp_path)
    assert len(found) == len(set(found)) <= 3 * count**2
    if pattern in ("", "**", "**/*"):
        assert {os.path.basename(name) for name in found} == {f"{here}.jpg" for here in range(count)}


def test_links_to_folders_beside_are_followed(tmp_path):
    touch(tmp_path, "one/a.jpg", "two/b.jpg", "away/c.jpg")
    (tmp_path / "two" / "link").symlink_to(tmp_path / "one")
    (tmp_path / "two" / "more").symlink_to(tmp_path / "away")
    (tmp_path / "two" / "same").symlink_to(tmp_path / "away")
    (tmp_path / "two" / "b.jpg").write_bytes(b"abc")
    assert [source.size for source in inputs.expand_input(str(tmp_path / "two" / "*.jpg"))] == [3]
    expected = ["two/b.jpg", "two/link/a.jpg", "two/more/c.jpg", "two/same/c.jpg"]
    for pattern in ("two", "two/**", "t*", "**/two"):
        assert names(tmp_path / pattern, tmp_path) == expected


def test_folders_as_deep_as_a_path_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    touch(type(tmp_path)(), "e.jpg")
    deepest = "/".join(["d"] * 1200)
    monkeypatch.chdir(tmp_path)
    try:
        for pattern in ("d", "**", "**/*.jpg"):
            assert names(tmp_path / pattern, tmp_path) == [f"{deepest}/e.jpg"]
    finally:  # what removes temporary folders calls itself for each
        os.chdir(deepest)
        os.unlink("e.jpg")
        for _ in range(1200):
            os.chdir("..")
            os.rmdir("d")


def test_what_never_ends_is_no_picture(tmp_path):
    touch(tmp_path, "a.jpg")
    for name in endless_files(tmp_path):
        for found in (name, f"{name[:-1]}?"):
            (one,) = inputs.expand_input(str(tmp_path / found))
            with (
                time_limit(),
                contextlib.nullcontext() if name in EMPTY else pytest.raises(UnreadableError, match="not a regular"),
            ):
                assert one.read() == b""
    assert names(tmp_path, tmp_path) == ["a.jpg", "kmsg", "mem"]


def test_a_pattern_of_what_cannot_be_read_matches_nothing(tmp_path):
    assert [*pattern_files(str(tmp_path / "missing" / "*"))] == []
    (tmp_path / "loop").symlink_to("loop")
    assert [*pattern_files(str(tmp_path / "**" / "*.jpg"))] == []
    assert [found.path for found in pattern_files(str(tmp_path / "l*"))] == [str(tmp_path / "loop")]
