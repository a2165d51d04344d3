"""Ingestion: every kind of file that turns up in a folder of photos, and its outcome."""

import hashlib
import io
import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data import examples, records
from kcnn.data.datasets import Dataset, ImageSource
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import ingest, splits
from kcnn.data.ingestion.summary import check_trainable
from kcnn.data.records import SPLITS
from kcnn.errors import UserError
from tests.endless_files import EMPTY, endless_files, time_limit


def in_this_process(function, tasks, **_):
    """Run tasks one after the other, as the plainest driver."""
    return map(function, tasks)


def encoded(seed, format="JPEG", size=(40, 30), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def parsed(paths):
    """Return the records of shards, parsed."""
    return examples.read_examples(paths).map(examples.parse_example).as_numpy_iterator()


@pytest.fixture
def photos(tmp_path):
    """Write thirty good images of each of two classes in many formats, and the broken and odd files of real folders."""
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
    for split in SPLITS:
        for record in parsed(examples.shard_paths(out, split)):
            name = record["filename"].decode()
            assert record["encoded"] == (photos / name).read_bytes()
            assert summary.labels[record["label"]] == name.split("/")[0]
            counted[split, name.split("/")[0]] += 1
            seen.add(name)
    assert len(seen) == 60
    assert {(s, c): n for s in SPLITS for c, n in summary.counts[s].items() if n} == dict(counted)
    assert any("6 files excluded" in warning for warning in summary.warnings)


def test_formats_of_others_are_named_with_what_reads_them(photos, tmp_path):
    (photos / "cat" / "IMG_7.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    (photos / "cat" / "a.jxl").write_bytes(b"\xff\x0a" + bytes(99))
    (photos / "dog" / "DSC_1.NEF").write_bytes(encoded(5, "TIFF"))
    excluded = ingest.ingest(open_dataset(str(photos)), tmp_path / ".out").excluded
    supported = "is not a supported format (BMP, GIF, JPEG, PNG, WEBP)"
    assert excluded["cat/IMG_7.HEIC"] == f"HEIC {supported}; pillow-heif or heif-convert of libheif reads it"
    assert excluded["cat/a.jxl"] == f"JPEG XL {supported}; djxl of libjxl reads it"
    assert excluded["dog/DSC_1.NEF"].startswith(f"RAW (NEF) {supported}; rawpy, ")
    assert excluded["dog/scan.tiff"] == f"TIFF {supported}; Pillow or ImageMagick reads it"


def test_records_have_the_usual_keys(photos, tmp_path):
    ingest.ingest(open_dataset(str(photos)), tmp_path / ".out")
    record = next(iter(examples.read_examples(examples.shard_paths(tmp_path / ".out", "train")))).numpy()
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
    for split in SPLITS:
        a, b = (
            list(examples.read_examples(examples.shard_paths(tmp_path / name, split)).as_numpy_iterator())
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


def test_nothing_to_look_at(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "broken\n.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="none of its 2 files") as caught:
        ingest.ingest(open_dataset(str(tmp_path)), tmp_path / ".out")
    assert r"cat/broken\n.png (not an image)" in str(caught.value)


def drawn_into(split, seed=0):
    """Return an image whose bytes draw it into a split."""
    bounds = {"test": (0.0, 0.15), "val": (0.15, 0.3), "train": (0.3, 1.0)}[split]
    found = (encoded(index, "PNG", (9, 8)) for index in itertools.count(seed))
    return next(data for data in found if bounds[0] <= splits.position(hashlib.sha256(data).hexdigest()) < bounds[1])


@pytest.mark.parametrize(
    ("files", "flaws"),
    [
        ({"cat": ["train", "test"]}, ["only class 'cat' has readable images; two or more are needed"]),
        (
            {"cat": ["train", "test"], "dog": ["train"], "one": ["test"]},
            ["1 class without an image to train on; add some, or leave the class out: one (1 image)"],
        ),
        (
            {"cat": ["train"], "dog": ["train"]},
            ["2 images are too few to hold out a test split; add some, or a test folder"],
        ),
        (
            {"cat": ["test"], "dog": ["test"]},
            ["2 classes without an image to train on; add some, or leave the class out: cat (1 image), dog (1 image)"],
        ),
        ({"cat": ["train", "test"], "dog": ["train"], "two": ["val", "val"]}, []),  # one moves to train
        ({"cat": ["train", "test"], "dog": ["train"], "two": ["test", "test"]}, []),
    ],
)
def test_what_cannot_be_trained_on_is_a_warning_until_then(tmp_path, files, flaws):
    for seed, (label, places) in enumerate(files.items()):
        (tmp_path / label).mkdir()
        for index, split in enumerate(places):
            (tmp_path / label / f"{index}.png").write_bytes(drawn_into(split, 10_000 * seed + 1000 * index))
    summary = ingest.ingest(open_dataset(str(tmp_path)), tmp_path / ".out")
    assert summary.flaws() == flaws
    assert [warning for warning in summary.warnings if warning in flaws] == flaws
    assert sum(map(summary.total, SPLITS)) == sum(map(len, files.values()))
    if flaws:
        with pytest.raises(UserError, match=flaws[0][:40]):
            check_trainable(summary)
    else:
        check_trainable(summary)
        assert summary.counts["train"]["two"] == 1


def test_names_do_not_reach_the_terminal_raw(photos, tmp_path):
    (photos / "cat" / "0\nerror: fake\x1b[31m.jpg").touch()
    summary = ingest.ingest(open_dataset(str(photos)), tmp_path / ".out")
    (line,) = (warning for warning in summary.warnings if "files excluded" in warning)
    assert line.isprintable()
    assert r"cat/0\nerror: fake\x1b[31m.jpg (empty file)" in line


def test_what_never_ends_is_no_image(photos, tmp_path):
    names = endless_files(photos / "cat")
    with time_limit(60):
        summary = ingest.ingest(open_dataset(str(photos)), tmp_path / ".out")
    reasons = {name: summary.excluded[f"cat/{name}"] for name in names}
    assert {name for name, reason in reasons.items() if reason == "empty file"} == {*EMPTY}
    assert {reasons[name] for name in names if name not in EMPTY} == {"cannot be read: not a regular file"}


def test_missing_files_of_a_table_are_excluded(tmp_path):
    lines = ["path,label"]
    for label, seed in (("cat", 0), ("dog", 1000)):
        for index in range(20):
            (tmp_path / f"{label}{index}.png").write_bytes(encoded(seed + index, "PNG"))
            lines.append(f"{label}{index}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join([*lines, "gone.png,cat"]))
    summary = ingest.ingest(open_dataset(str(tmp_path / "list.csv")), tmp_path / ".out")
    assert summary.excluded == {"gone.png": "cannot be read: No such file or directory"}
    (tmp_path / "photos").mkdir()
    (tmp_path / "cat0.png").rename(tmp_path / "photos/cat100.png")
    (tmp_path / "list.csv").write_text("path,label\ncat100.png,cat\n")
    with pytest.raises(UserError, match=r"none of its 1 files .*; did you mean --data_dir .*/photos\?"):
        ingest.ingest(open_dataset(str(tmp_path / "list.csv")), tmp_path / ".out")


def test_many_shards_hold_every_image_once(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "SHARD_BYTES", 20_000)
    summary = ingest.ingest(open_dataset("digits"), tmp_path, in_this_process)
    assert len(examples.shard_paths(tmp_path, "train")) > 3
    names = [record["filename"] for split in SPLITS for record in parsed(examples.shard_paths(tmp_path, split))]
    assert len(names) == len(set(names)) == 1797
    assert sum(summary.total(split) for split in SPLITS) == 1797


def pictures(folder):
    for label, seed in (("cat", 0), ("dog", 1000)):
        (folder / label).mkdir(parents=True)
        for index in range(30):
            (folder / label / f"{index}.png").write_bytes(encoded(seed + index, "PNG"))
    return open_dataset(str(folder))


def overwrite(folder):
    (folder / "cat" / "7.png").write_bytes(encoded(5000, "PNG"))


def remove(folder):
    (folder / "dog" / "3.png").unlink()


@pytest.mark.parametrize(("change", "name"), [(overwrite, "cat/7.png"), (remove, "dog/3.png")])
def test_a_file_that_changes_between_the_readings_is_named(tmp_path, change, name):
    def changing(function, tasks, *, description, **_):
        if description == "Writing examples":
            change(tmp_path / "in")
        return map(function, tasks)

    with pytest.raises(UserError, match=f"--dataset in: {name} changed while it was read; run again"):
        ingest.ingest(pictures(tmp_path / "in"), tmp_path / "out", changing)
    assert not list((tmp_path / "out").rglob("*.gz"))


def test_a_file_that_comes_after_the_count_is_told(tmp_path):
    dataset = pictures(tmp_path / "in")
    (tmp_path / "in" / "cat" / "new.png").write_bytes(encoded(1, "PNG"))
    with pytest.raises(UserError, match="changed while it was read, from 60 to 61 images; run again"):
        ingest.ingest(dataset, tmp_path / "out")


def test_a_name_that_is_listed_twice_is_told(tmp_path):
    pictures(tmp_path)
    names = [f"{label}/{index}.png,{label}" for label in ("cat", "dog") for index in range(30)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *names, names[40]]))
    with pytest.raises(UserError, match=r"dog/10\.png is listed 2 times; expected each image once"):
        ingest.ingest(open_dataset(str(tmp_path / "list.csv")), tmp_path / "out")


def test_other_columns_stay_with_their_image(tmp_path):
    pictures(tmp_path)
    names = [(label, index) for label in ("cat", "dog") for index in range(30)]
    lines = [f"{label}/{index}.png,{label},hall {index % 3} é,{'yes' if index % 2 else ''}" for label, index in names]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,Place,flash", *lines]), encoding="utf-8")
    ingest.ingest(open_dataset(str(tmp_path / "list.csv")), tmp_path / "out")
    seen = 0
    for split in SPLITS:
        for path in examples.shard_paths(tmp_path / "out", split):
            for record in records.read_records(path):
                example = records.TFExample.FromString(record)
                index = int(example.features.feature["image/filename"].bytes_list.value[0][4:-4])
                expected = {"Place": f"hall {index % 3} é", **({"flash": "yes"} if index % 2 else {})}
                features = example.features.feature.items()
                found = {name: one.bytes_list.value[0] for name, one in features if name.startswith(records.COLUMN)}
                assert found == {records.COLUMN + name: value.encode() for name, value in expected.items()}
                seen += 1
    assert seen == 60


def test_a_reader_that_cannot_be_pickled_will_do(tmp_path):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    def sources():
        for index in range(60):
            data = encoded(index, "PNG")
            yield ImageSource(f"{index}.png", "ab"[index % 2], None, gone if index == 3 else lambda data=data: data)

    dataset = Dataset(name="pictures", labels=("a", "b"), sources=sources, count=60, fingerprint="1")
    summary = ingest.ingest(dataset, tmp_path)
    assert summary.excluded == {"3.png": "cannot be read: No such file or directory"}
    assert sum(summary.total(split) for split in SPLITS) == 59


def test_parts_and_shards_are_even_and_hold_every_part_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "SHARD_BYTES", 40_000)
    monkeypatch.setattr(ingest, "PART", 700)
    ingest.ingest(open_dataset("digits"), tmp_path, in_this_process)  # in no order of class; numbers are places
    shards = [
        [int(record["filename"][-8:-4]) for record in parsed([path])]
        for path in examples.shard_paths(tmp_path, "train")
    ]
    size = sum(map(len, shards)) / len(shards)
    for shard in shards:
        assert len(shard) == pytest.approx(size, abs=4 * size**0.5)
        assert np.mean(shard) == pytest.approx(898, abs=4 * 519 / len(shard) ** 0.5)  # of a uniform sample
