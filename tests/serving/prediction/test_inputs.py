"""Names, files and patterns become images."""

import os

import pytest

from kcnn.serving.prediction import inputs
from kcnn.serving.prediction.inputs import UnreadableError


def names(item, folder=None):
    found = [source.name for source in inputs.expand_input(item)]
    return [os.path.relpath(name, folder) for name in found] if folder else found


def error(source_or_call):
    with pytest.raises(UnreadableError) as caught:
        source_or_call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    shown = ("b.jpg", "a.png", "sub/c.jpg", "sub/deep/d.jpg", "odd[1].jpg", "e*.jpg")
    for name in (*shown, ".hidden/x.jpg", "sub/.y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "sub" / "pipe")
    return tmp_path


def test_folders_are_walked_in_order(folder):
    found = names(folder, folder)
    assert found == ["a.png", "b.jpg", "e*.jpg", "odd[1].jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert [source.read() for source in inputs.expand_input(folder)] == [name.encode() for name in found]
    assert [source.size for source in inputs.expand_input(folder)] == list(map(len, found))


def test_patterns(folder):
    assert names(str(folder / "*.jpg"), folder) == ["b.jpg", "e*.jpg", "odd[1].jpg"]
    (folder / "sub" / "circle").unlink()  # which the shell follows as well
    assert names(str(folder / "**" / "?.jpg"), folder) == ["b.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert names(str(folder / "s?b"), folder) == ["sub/c.jpg", "sub/deep/d.jpg"]
    assert names(str(folder / "odd[1].jpg"), folder) == ["odd[1].jpg"]  # there is such a file
    assert names(str(folder / "e*.jpg"), folder) == ["e*.jpg"]
    (nothing,) = inputs.expand_input(str(folder / "*.gif"))
    assert error(nothing.read) == "no file matches this pattern"


def test_leftovers_of_systems_are_no_pictures(folder):
    before = names(folder, folder)
    leftovers = (
        "Thumbs.db",
        "sub/desktop.ini",
        "@eaDir/b.jpg/SYNOPHOTO_THUMB_SM.jpg",
        "System Volume Information/x.jpg",
    )
    for name in leftovers:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert names(folder, folder) == before
    (folder / "sub" / "circle").unlink()
    assert names(str(folder / "**" / "*.jpg"), folder) == [name for name in before if name.endswith(".jpg")]
    assert set(names(str(folder / "*"), folder)) == {*before}
    assert names(str(folder / "System Volume Information"), folder) == [leftovers[3]]  # it is asked for
    assert names(str(folder / "System Volume Information" / "*"), folder) == [leftovers[3]]
    assert names(str(folder / "Thumbs.db"), folder) == ["Thumbs.db"]


def test_a_link_upwards_is_not_followed(folder):
    before = names(folder / "sub", folder)
    (folder / "sub" / "up").symlink_to(folder.parent)
    (folder / "sub" / "deep" / "root").symlink_to("/")
    assert names(folder / "sub", folder) == before
    (folder / "sub" / "loop").symlink_to("loop")
    assert names(folder / "sub", folder) == [*before, "sub/loop"]


def test_what_cannot_be_read_says_why(folder, monkeypatch):
    (missing,) = inputs.expand_input(folder / "missing.jpg")
    assert error(missing.read) == "No such file or directory"
    (null,) = inputs.expand_input("a\0b")
    assert "null" in error(null.read)
    for name in ("http://a\0b", "*\0", "a\0/*"):
        (null,) = inputs.expand_input(name)
        assert "null" in error(null.read)
    (long,) = inputs.expand_input("x" * 5000)
    assert error(long.read) == "File name too long"
    (folder / "nowhere").symlink_to(folder / "gone")
    broken = next(source for source in inputs.expand_input(folder) if source.name.endswith("nowhere"))
    assert error(broken.read) == "No such file or directory"
    (folder / "empty" / "inner").mkdir(parents=True)
    (empty,) = inputs.expand_input(folder / "empty")
    assert error(empty.read) == "no files in this folder"
    monkeypatch.setattr(inputs, "LIMIT", 4)
    assert error(lambda: inputs.read_image_file(str(folder / "a.png"))) == "more than 0 MiB"


def test_bytes_that_are_no_text_in_a_name(folder):
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    source = next(source for source in inputs.expand_input(folder) if "\udcff" in source.name)
    assert source.read() == b"x"
    assert [one.read() for one in inputs.expand_input(os.fsencode(str(folder / "b.jpg")).decode())] == [b"b.jpg"]


def test_urls_are_refused_unless_asked_for(folder, monkeypatch):
    (source,) = inputs.expand_input("https://example.com/a.jpg")
    assert "--allow_urls" in error(source.read)
    monkeypatch.chdir(folder)
    (folder / "http:").mkdir()
    (folder / "http:" / "a").write_bytes(b"a file all the same")
    assert next(inputs.expand_input("http://a")).read() == b"a file all the same"


def test_readers_keep_what_went_wrong():
    readers = inputs.ReaderThreads()
    good, bad = readers.submit(lambda: b"x"), readers.submit(lambda: inputs.read_image_file("/nothing"))
    assert good.result() == b"x"
    with pytest.raises(UnreadableError, match="No such file"):
        bad.result()
    readers.close()


def test_count(folder):
    assert inputs.count_images([folder, str(folder / "b.jpg"), "http://x/y", b"bytes"]) == 6 + 3
