"""Data sets: the images that each offers, and one clear line for each mistake."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from kcnn.data.datasets.image_folder import file_state, read_file
from kcnn.data.datasets.opening import normalize_dataset_name, open_dataset
from kcnn.data.records import UNLABELLED
from kcnn.errors import UserError
from tests.endless_files import endless_files, time_limit


def put(path, size=(12, 10), colour=(200, 30, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "PNG")


def test_digits_are_scikit_learns():
    dataset = open_dataset("digits")
    sources = list(dataset.sources())
    expected = sklearn.datasets.load_digits()
    assert dataset.count == len(sources) == 1797
    assert [source.label for source in sources] == [str(target) for target in expected.target]
    pixels = np.asarray(Image.open(io.BytesIO(sources[5].read())))
    np.testing.assert_allclose(pixels, expected.images[5] * 255 / 16, atol=0.5)


def test_class_folders(tmp_path):
    for name in ("cat/a.png", "cat/deep/b", "dog/c.jpg", ".git/x/y.png", "dog/.DS_Store", "dog/Thumbs.db", "loose.png"):
        put(tmp_path / name)
    (tmp_path / "empty").mkdir()
    dataset = open_dataset(str(tmp_path))
    found = {source.filename: (source.label, source.split) for source in dataset.sources()}
    assert found == {
        "cat/a.png": ("cat", None),
        "cat/deep/b": ("cat", None),
        "dog/c.jpg": ("dog", None),
        "loose.png": (None, None),
    }
    assert dataset.labels == ("cat", "dog")
    assert dataset.count == 4


def test_split_folders(tmp_path):
    for name in ("train/cat/a.png", "train/dog/b.png", "validation/cat/c.png", "test/dog/d.png"):
        put(tmp_path / name)
    found = {(source.filename, source.split) for source in open_dataset(str(tmp_path)).sources()}
    assert found == {
        ("train/cat/a.png", "train"),
        ("train/dog/b.png", "train"),
        ("validation/cat/c.png", "val"),
        ("test/dog/d.png", "test"),
    }


def test_a_train_folder_alone_is_a_split(tmp_path):
    for name in ("train/cat/a.png", "train/dog/b.png"):
        put(tmp_path / name)
    assert {(s.label, s.split) for s in open_dataset(str(tmp_path)).sources()} == {("cat", "train"), ("dog", "train")}


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train/a.png", "bus/b.png"):
        put(tmp_path / name)
    assert open_dataset(str(tmp_path)).labels == ("bus", "train")


def test_what_cannot_be_trained_on_can_be_looked_at(tmp_path):
    for name in ("one/cat/a.png", "two/train/cat/a.png", "two/test/dog/b.png", "two/unsorted/x/c.png"):
        put(tmp_path / name)
    assert open_dataset(str(tmp_path / "one")).labels == ("cat",)
    (tmp_path / "list.csv").write_text("path,label\na.png,cat\n")
    assert open_dataset(str(tmp_path / "list.csv")).labels == ("cat",)
    found = open_dataset(str(tmp_path / "two"))
    assert found.flaws == ("unsorted beside test and train; expected train, val and test alone",)
    assert (found.labels, found.count) == (("cat", "dog"), 3)
    assert [(s.filename, s.reason) for s in found.sources() if s.label is None] == [
        ("unsorted/x/c.png", "not in a folder of train, val or test")
    ]
    with pytest.raises(UserError, match="unsorted beside test and train"):
        open_dataset(str(tmp_path / "two"), labelled=False)


def test_what_is_left_out_is_said(tmp_path):
    for name in ("cat/a.png", "dog/b.png"):
        put(tmp_path / name)
    (tmp_path / "void" / "deep").mkdir(parents=True)
    (tmp_path / "cat" / "more").symlink_to("../dog")
    (tmp_path / "fox").symlink_to("dog")  # a class
    found = open_dataset(str(tmp_path))
    assert found.remarks == ("class folders without a file, left out: void",)
    assert {(s.filename, s.label) for s in found.sources()} == {
        ("cat/a.png", "cat"), ("cat/more", None), ("dog/b.png", "dog"), ("fox/b.png", "fox"),
    }  # fmt: skip
    assert found.count == 4
    (link,) = (s for s in open_dataset(str(tmp_path), labelled=False).sources() if s.filename == "cat/more")
    assert (link.label, link.reason) == (None, "a link to a folder, which is not followed")


@pytest.mark.parametrize("locked", ["", "cat", "cat/deep"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, locked):
    for name in ("cat/a.png", "cat/deep/c.png", "dog/b.png"):
        put(tmp_path / name)
    scandir = os.scandir

    def refusing(folder):
        if str(folder) == str(tmp_path / locked):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    for labelled in (True, False):
        with pytest.raises(UserError, match=f"the folder {tmp_path / locked} cannot be read: Permission denied"):
            open_dataset(str(tmp_path), labelled=labelled)


def test_a_table_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "list.csv").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=r"list\.csv: cannot be read: Permission denied"):
        open_dataset(str(tmp_path / "list.csv"))


@pytest.mark.parametrize(
    ("size", "beginning", "message"),
    [
        (3 * 2**30, b"\xff\xd8\xff", r"too large \(3,072 MiB\)"),
        (300 * 2**20, b"\0\0\0\x18ftyp", "300 MiB that do not begin like an image"),
        (None, b"", "not a regular file"),
    ],
)
def test_what_can_be_no_image_is_not_read(tmp_path, size, beginning, message):
    path = tmp_path / "x.jpg"
    if size is None:
        os.mkfifo(path)
    else:
        path.write_bytes(beginning)
        os.truncate(path, size)  # sparse
    with pytest.raises(OSError, match=message) as caught:
        read_file(str(path))
    assert caught.value.strerror


def test_a_name_with_a_null_character_is_none_of_a_file():
    assert file_state("a\0b.png") == ("a\0b.png", None, None)
    with pytest.raises(OSError, match="null character"):
        read_file("a\0b.png")
    for name in ("./a\0b", "a\0b.csv", "a\0b"):
        with pytest.raises(UserError):
            open_dataset(name, offline=True)


def test_large_images_are_read(tmp_path):
    path = tmp_path / "x.png"
    put(path)
    expected = path.stat().st_size
    os.truncate(path, 65 * 2**20)
    assert len(read_file(str(path))) == 65 * 2**20 > expected


def test_a_path_has_one_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("photos/cat", "digits/cat"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "list.csv").touch()
    for given in ("photos", "photos/", "./photos", "./photos//", "photos/."):
        assert normalize_dataset_name(given) == "photos"
    assert normalize_dataset_name("./list.csv") == "list.csv"
    assert normalize_dataset_name("~/photos/") == str(tmp_path / "photos")
    for given in ("digits", "cifar10", "imagenette/160px-v2", "./gone/"):
        assert normalize_dataset_name(given) == given
    assert (
        normalize_dataset_name("./digits/") == "./digits" == normalize_dataset_name("./digits")
    )  # not the registered one


def test_without_labels_any_folder_will_do_and_splits_stay(tmp_path):
    for name in ("a.png", "album/b.png", "album/more/c.png", ".hidden/d.png"):
        put(tmp_path / "flat" / name)
    flat = open_dataset(str(tmp_path / "flat"), labelled=False)
    assert [s.filename for s in flat.sources()] == ["a.png", "album/b.png", "album/more/c.png"]
    assert (flat.labels, flat.count, flat.labelled) == ((UNLABELLED,), 3, False)
    assert {(s.label, s.split) for s in flat.sources()} == {(UNLABELLED, None)}

    for name in ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png"):
        put(tmp_path / "split" / name)
    split = {s.filename: s.split for s in open_dataset(str(tmp_path / "split"), labelled=False).sources()}
    assert split == {"train/cat/a.png": "train", "train/dog/b.png": "train", "test/cat/c.png": "test"}

    (tmp_path / "list.csv").write_text("path,label,split\na.png,cat,train\nb.png,dog,test\n")
    table = open_dataset(str(tmp_path / "list.csv"), labelled=False)
    assert [(s.label, s.split) for s in table.sources()] == [(UNLABELLED, "train"), (UNLABELLED, "test")]
    assert table.fingerprint != open_dataset(str(tmp_path / "list.csv")).fingerprint

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        open_dataset(str(tmp_path / "empty"), labelled=False)


def test_fingerprint_follows_the_data(tmp_path):
    for name in ("cat/a.png", "dog/b.png"):
        put(tmp_path / name)
    before = open_dataset(str(tmp_path)).fingerprint
    assert open_dataset(str(tmp_path)).fingerprint == before
    put(tmp_path / "dog/c.png")
    assert open_dataset(str(tmp_path)).fingerprint != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label,split\na.png,cat,train\nb.png,dog,test\n"),
        ("list.csv", "\ufefflabel,extra,path,split\ncat,1,a.png,TRAIN\ndog,2,b.png,Test\n"),
        ("list.csv", "a.png,cat,train\nb.png,dog,test\n"),
        ("list.tsv", "path\tlabel\tsplit\na.png\tcat\ttraining\n\nb.png\tdog\ttest\n"),
    ],
)
def test_tables(tmp_path, name, text):
    put(tmp_path / "a.png")
    (tmp_path / name).write_text(text, encoding="utf-8")
    sources = list(open_dataset(str(tmp_path / name)).sources())
    assert [(s.filename, s.label, s.split) for s in sources] == [("a.png", "cat", "train"), ("b.png", "dog", "test")]
    assert sources[0].read() == (tmp_path / "a.png").read_bytes()
    with pytest.raises(FileNotFoundError):
        sources[1].read()


def test_table_with_data_dir(tmp_path):
    put(tmp_path / "images" / "a.png")
    (tmp_path / "list.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    dataset = open_dataset(str(tmp_path / "list.csv"), data_dir=str(tmp_path / "images"))
    assert next(iter(dataset.sources())).read()


def test_other_columns_of_a_table(tmp_path):
    (tmp_path / "list.csv").write_text("Camera,path,label,,place\nA, a.png ,cat,x, hall \nB,b.png,dog,,\n")
    dataset = open_dataset(str(tmp_path / "list.csv"))
    assert [source.columns for source in dataset.sources()] == [{"Camera": "A", "place": "hall"}, {"Camera": "B"}]
    (tmp_path / "list.csv").write_text("Camera,path,label,,place\nA, a.png ,cat,x, hall \nC,b.png,dog,,\n")
    assert open_dataset(str(tmp_path / "list.csv")).fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    ("files", "dataset", "message"),
    [
        ({}, ".", "empty"),
        ({"a.png": "", "b.png": ""}, ".", "2 files but no class folders"),
        ({"cat/.x": "", "dog/.x": ""}, ".", "no files in its 2 class folders"),
        ({"a\nb/a.png": "", "c/b.png": ""}, ".", r"the class 'a\\nb' has a line break"),
        ({"caf\udce9/a.png": "", "c/b.png": ""}, ".", r"the class 'caf\\udce9' has a name that is not UTF-8"),
        ({"l.csv": 'path,label\na,"x\ny"\nb,z\n'}, "l.csv", r"the class 'x\\ny' has a line break"),
        ({"l.csv": "path,label\na,\nb,\n"}, "l.csv", "no class in its 2 lines"),
        ({"l.csv": "path,label,split\na,x,trian\n"}, "l.csv", "did you mean 'train'"),
        ({"l.csv": "path,label,x,x\na,b,c,d\n"}, "l.csv", "line 1: two columns are called 'x'"),
        ({"l.csv": "path,label\na,x\nb,y\n,,\nc,z,trian\n", "m.csv": "a,x\nb\n"}, "m.csv", "line 2: 1 columns"),
        ({"l.csv": "just one column\n"}, "l.csv", "line 1: 1 columns"),
        ({"l.csv": ""}, "l.csv", "empty"),
        ({"photos/a": ""}, "./photso/", "did you mean"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, files, dataset, message):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_dataset(dataset)
    assert "\n" not in str(caught.value)


def test_a_class_is_not_to_be_renamed_where_python_reads_names_as_ascii(tmp_path):
    for name in ("café", "thé"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    code = "import sys\nfrom kcnn.data.datasets.opening import open_dataset\nopen_dataset(sys.argv[1])"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].endswith(
        r"Python reads the name of the class 'caf\udcc3\udca9' as ascii; set PYTHONUTF8=1"
    )


PREPARE = """
import sys, numpy as np, tensorflow_datasets as tfds
class TinyShapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        image, label = tfds.features.Image(shape=(None, None, 3)), tfds.features.ClassLabel(names=["b", "a"])
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(6), "test": self._generate_examples(4)}
    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((9, 7 + i, 3), 10 * i, np.uint8), "label": i % 2}
builder = TinyShapes(data_dir=sys.argv[1])
builder.download_and_prepare()
"""

READ = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a connection was attempted")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from kcnn.data.datasets.opening import open_dataset
from kcnn.errors import UserError
dataset = open_dataset("tiny_shapes", data_dir=sys.argv[1], offline=True)
for source in dataset.sources():
    print(source.split, source.label, source.read()[1:4].decode())
for missing in ("cifar10", "cifar11", "no_such_thing"):
    try:
        open_dataset(missing, data_dir=sys.argv[1], offline=True)
    except UserError as error:
        print(error)
"""


def test_tensorflow_datasets_offline(tmp_path):
    def python(name, code):
        script = tmp_path / name
        script.write_text(code)
        command = [sys.executable, script, tmp_path / "data"]
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    python("prepare.py", PREPARE)
    *images, known, close, unknown = python("read.py", READ)
    assert sorted(images) == sorted(
        [f"train {'ba'[i % 2]} PNG" for i in range(6)] + [f"test {'ba'[i % 2]} PNG" for i in range(4)]
    )
    assert "--offline forbids the download" in known
    assert "did you mean cifar10" in close
    assert "no such directory, CSV file or data set" in unknown


def test_a_data_set_never_ends(tmp_path):
    with (tmp_path / "sparse.csv").open("wb") as file:
        file.truncate(2**40)
    for name in [*endless_files(tmp_path), "sparse.csv"]:
        with time_limit(), pytest.raises(UserError, match=r"^--dataset [^\n]*(not a regular|is empty|a line of more)"):
            open_dataset(str(tmp_path / name))


def test_class_folders_may_nest_as_deep_as_a_path_can_be(tmp_path, monkeypatch):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.jpg").touch()
    monkeypatch.chdir(tmp_path / "cat")
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    Path("e.jpg").touch()
    os.chdir(tmp_path)
    try:
        assert [len(source.filename) for source in open_dataset(str(tmp_path)).sources()] == [9, 2409, 9]
    finally:  # what removes temporary folders calls itself for each
        os.chdir("cat/" + "/".join(["d"] * 1200))
        os.unlink("e.jpg")
        for _ in range(1200):
            os.chdir("..")
            os.rmdir("d")
