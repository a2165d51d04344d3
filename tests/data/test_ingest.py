"""Ingest: every kind of file that turns up in a folder of photos, and what becomes of it."""

import io
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data import examples, ingest
from kcnn.data.datasets import open_dataset
from kcnn.errors import UserError


def encoded(seed, format="JPEG", size=(40, 30), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Thirty good images of each of two classes in many formats, and the broken and odd files of real folders."""
    kinds = [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("GIF", "P"),
        ("BMP", "RGB"),
    ]
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(30):
            format, mode = kinds[index % len(kinds)]
            data = encoded(index + 1000 * (label == "dog"), format, mode=mode)
            (tmp_path / label / f"{index:02d}.jpg").write_bytes(data)  # all are called .jpg
    whole = encoded(1)
    (tmp_path / "cat" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cat" / "truncated.png").write_bytes(encoded(2, "PNG")[:-200])
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "dog" / "notes.txt").write_text("not a picture")
    (tmp_path / "dog" / "scan.tiff").write_bytes(encoded(3, "TIFF"))
    (tmp_path / "stray.png").write_bytes(encoded(4, "PNG"))
    return tmp_path


BROKEN = {
    "cat/truncated.jpg": "corrupt or truncated",
    "cat/truncated.png": "corrupt or truncated",
    "cat/empty.jpg": "empty file",
    "dog/notes.txt": "not an image",
    "dog/scan.tiff": "TIFF is not a supported format",
    "stray.png": "not inside a class folder",
}


def test_what_cannot_be_decoded_is_excluded_by_name_and_the_rest_arrives_untouched(photos, tmp_path):
    out = tmp_path / ".out"
    summary = ingest.ingest(open_dataset(str(photos)), out)
    assert summary.excluded.keys() == BROKEN.keys()
    for name, reason in BROKEN.items():
        assert summary.excluded[name].startswith(reason)
        assert "\n" not in summary.excluded[name]
    assert summary.labels == ("cat", "dog")
    counted, seen = Counter(), set()
    for split in examples.SPLITS:
        for record in examples.read(examples.shard_paths(out, split)).map(examples.parse).as_numpy_iterator():
            name = record["filename"].decode()
            assert record["encoded"] == (photos / name).read_bytes()
            assert summary.labels[record["label"]] == name.split("/")[0]
            counted[split, name.split("/")[0]] += 1
            seen.add(name)
    assert len(seen) == 60
    assert {(s, c): n for s in examples.SPLITS for c, n in summary.counts[s].items() if n} == dict(counted)
    assert any("6 files excluded" in warning for warning in summary.warnings)


def test_records_have_the_usual_keys(photos, tmp_path):
    ingest.ingest(open_dataset(str(photos)), tmp_path / ".out")
    record = next(iter(examples.read(examples.shard_paths(tmp_path / ".out", "train")))).numpy()
    features = tf.train.Example.FromString(record).features.feature
    assert set(features) == {
        "image/encoded", "image/filename", "image/class/label", "image/class/text", "image/format", "image/height",
        "image/width", "image/key/sha256",
    }  # fmt: skip
    assert features["image/height"].int64_list.value == [30]
    assert features["image/width"].int64_list.value == [40]


def test_the_same_data_gives_the_same_bytes(photos, tmp_path):
    for name in (".a", ".b"):
        ingest.ingest(open_dataset(str(photos)), tmp_path / name)
    for split in examples.SPLITS:
        a, b = (
            list(examples.read(examples.shard_paths(tmp_path / name, split)).as_numpy_iterator())
            for name in (".a", ".b")
        )
        assert a == b


def test_duplicates_across_given_splits_are_told(tmp_path):
    for split in ("train", "test"):
        for label, seed in (("cat", 0), ("dog", 1000)):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(5):
                (tmp_path / split / label / f"{index}.png").write_bytes(encoded(seed + index, "PNG"))
    summary = ingest.ingest(open_dataset(str(tmp_path)), tmp_path / ".out")
    assert any("byte for byte" in warning for warning in summary.warnings)


@pytest.mark.parametrize(
    ("good", "message"),
    [({"cat": 0, "dog": 0}, "none of its 4 files"), ({"cat": 30, "dog": 0}, "only class 'cat' has readable images")],
)
def test_too_little_to_learn_from(tmp_path, good, message):
    for label, count in good.items():
        (tmp_path / label).mkdir()
        for index in range(count):
            (tmp_path / label / f"{index}.png").write_bytes(encoded(index, "PNG"))
        for index in range(2):
            (tmp_path / label / f"broken{index}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=message):
        ingest.ingest(open_dataset(str(tmp_path)), tmp_path / ".out")


def test_missing_files_of_a_table_are_excluded(tmp_path):
    lines = ["path,label"]
    for label, seed in (("cat", 0), ("dog", 1000)):
        for index in range(20):
            (tmp_path / f"{label}{index}.png").write_bytes(encoded(seed + index, "PNG"))
            lines.append(f"{label}{index}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join([*lines, "gone.png,cat"]))
    summary = ingest.ingest(open_dataset(str(tmp_path / "list.csv")), tmp_path / ".out")
    assert summary.excluded == {"gone.png": "cannot be read: No such file or directory"}


def test_many_shards_hold_every_image_once(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "SHARD_BYTES", 20_000)
    summary = ingest.ingest(open_dataset("digits"), tmp_path)
    assert len(examples.shard_paths(tmp_path, "train")) > 3
    names = [
        record["filename"]
        for split in examples.SPLITS
        for record in examples.read(examples.shard_paths(tmp_path, split)).map(examples.parse).as_numpy_iterator()
    ]
    assert len(names) == len(set(names)) == 1797
    assert sum(summary.total(split) for split in examples.SPLITS) == 1797
