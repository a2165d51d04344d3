"""Folders: which are splits, which are classes, and which are neither."""

from collections import Counter

import pytest
from PIL import Image

from kcnn.data.datasets.opening import open_dataset
from kcnn.errors import UserError

CLASSES = ("cat", "dog", "fox")


def found_in(folder):
    """Return (split, label) → number of images, and the data set."""
    dataset = open_dataset(str(folder))
    return Counter((source.split, source.label) for source in dataset.sources() if source.label), dataset


def put_all(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (200, 30, 60)).save(folder / name, "PNG")


def left_out_of(dataset):
    """Return filename → reason of what is in no class."""
    return {source.filename: source.reason for source in dataset.sources() if source.label is None}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("training_set", "test_set"), ("train", "test")),
        (("seg_train/seg_train", "seg_test/seg_test"), ("train", "test")),
        (("seg_train", "seg_val", "seg_test"), ("train", "val", "test")),
        (("TrainImages", "ValidationImages", "TestImages"), ("train", "val", "test")),
        (("trainset", "devset"), ("train", "val")),
        (("01-Train", "02-Valid"), ("train", "val")),
        (("train2017", "val2017"), ("train", "val")),
        (("train.X1", "val.X"), ("train", "val")),
        (("train", "my_test_data"), ("train", "test")),
        (("train/train", "test/test"), ("train", "test")),
        (("flowers_train",), ("train",)),
    ],
)
def test_split_folders_of_other_names(tmp_path, names, splits):
    for name in names:
        put_all(tmp_path, *(f"{name}/{label}/{name.replace('/', '-')}.png" for label in CLASSES))
        (tmp_path / name / "read me.txt").write_text("about")
    found, dataset = found_in(tmp_path)
    assert found == {(split, label): 1 for split in splits for label in CLASSES}
    assert dataset.labels == CLASSES
    assert dataset.flaws == ()
    unlabelled = open_dataset(str(tmp_path), labelled=False)
    assert {s.split for s in unlabelled.sources() if s.filename.endswith("png")} == {*splits}


def test_several_folders_may_be_parts_of_one_split(tmp_path):
    put_all(tmp_path, "train.X1/cat/1.png", "train.X2/dog/2.png", "val.X/cat/3.png", "val.X/dog/4.png")
    found, dataset = found_in(tmp_path)
    assert found == {("train", "cat"): 1, ("train", "dog"): 1, ("val", "cat"): 1, ("val", "dog"): 1}
    assert dataset.flaws == ()
    put_all(tmp_path, "train_masks.X/cat/5.png")
    assert found_in(tmp_path)[1].flaws == (
        "train.X1, train.X2 and train_masks.X are all named as train; expected one folder for a split",
    )


def test_splits_may_stand_within_the_classes(tmp_path):
    put_all(tmp_path, *(f"{label}/{split}/a.png" for label in CLASSES for split in ("train", "test_images")))
    put_all(tmp_path, "cat/loose.png")
    assert found_in(tmp_path)[1].labels == CLASSES  # with a picture of its own, a class is one
    (tmp_path / "cat" / "loose.png").unlink()
    (tmp_path / "cat" / "notes.txt").touch()
    found, dataset = found_in(tmp_path)
    assert found == {(split, label): 1 for split in ("train", "test") for label in CLASSES}
    assert dataset.flaws == ()
    assert left_out_of(dataset) == {"cat/notes.txt": "not in a folder of train, val or test"}
    assert {s.split for s in open_dataset(str(tmp_path), labelled=False).sources()} == {"train", "test", None}


@pytest.mark.parametrize(
    ("files", "flaw"),
    [
        (
            [f"{part}/{label}/a.png" for part in ("fold1", "fold2") for label in CLASSES],
            "fold1 and fold2 hold the same folders (cat, dog and fox); expected train, val and test as the names of ",
        ),
        (
            [f"{part}/{label}/a.png" for part in ("entrenamiento", "prueba") for label in CLASSES] + ["prueba/x/a.png"],
            "entrenamiento and prueba hold the same folders (cat, dog and fox); ",
        ),
        ([f"{part}/{label}/a.png" for part in ("val", "test") for label in CLASSES], "test and val hold the same "),
        (["train_images/a.png", "test_images/b.png"], "test_images and train_images are named as splits, but hold no "),
        (
            ["training_set/cat/a.png", "training_set/dog/b.png", "single_prediction/c.png"],
            "training_set is named as a split and holds folders (cat and dog), beside single_prediction; expected ",
        ),
        (["seg_train/cat/a.png", "seg_train/dog/b.png", "seg_pred/c.png"], "seg_train is named as a split and holds "),
        (["trainA/a.png", "trainB/b.png", "testA/c.png", "testB/d.png"], "testA and trainA are named as splits, "),
    ],
)
def test_what_may_be_splits_is_asked(tmp_path, files, flaw):
    put_all(tmp_path, *files)
    (line,) = open_dataset(str(tmp_path)).flaws
    assert flaw in line
    assert "expected train, val and test as the names of splits, or a table of path,label where they are" in line
    open_dataset(str(tmp_path), labelled=False)


@pytest.mark.parametrize(
    "files",
    [
        ["freight_train/a.png", "test_tube/b.png"],
        ["freight_train/2019/a.png", "test_tube/2020/b.png"],
        ["freight_train/2019/a.png", "freight_train/2020/a.png", "bus/b.png"],
        ["cat/images/a.png", "dog/images/b.png"],
        ["cat/day/a.png", "cat/night/a.png", "dog/c.png"],
        ["cat/day/a.png", "cat/night/a.png", "dog/day/c.png"],
        ["cat/a/1.png", "cat/b/1.png", "dog/c/1.png", "dog/d/1.png"],
        ["-1/a.png", "1/b.png"],
    ],
)
def test_classes_are_no_splits(tmp_path, files):
    put_all(tmp_path, *files)
    found, dataset = found_in(tmp_path)
    assert dataset.flaws == ()
    assert found == Counter((None, name.split("/")[0]) for name in files)


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/a.png/SYNOPHOTO_THUMB_SM.jpg", "System Volume Information/a.png", "$RECYCLE.BIN/S-1-5/b.png",
        "#recycle/a.png", "@Recycle/a.png", "lost+found/a.png", "__MACOSX/cat/._a.png", "FOUND.000/a.png",
        "LOST.DIR/1", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "a.png:Zone.Identifier", "Picasa.ini",
        "SYNOINDEX_MEDIA_INFO", "a.png@SynoEAStream", ".AppleDouble/a.png", "~$notes.docx",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["", "cat", "cat/deep"])
def test_leftovers_of_systems_are_no_data(tmp_path, name, place):
    put_all(tmp_path, "cat/a.png", "dog/b.png", "cat/deep/c.png")
    expected = [source.filename for source in open_dataset(str(tmp_path)).sources()]
    put_all(tmp_path / place, name)
    for labelled in (True, False):
        dataset = open_dataset(str(tmp_path), labelled=labelled)
        assert [source.filename for source in dataset.sources()] == expected
        assert dataset.flaws == ()


def test_a_class_may_sound_like_a_leftover(tmp_path):
    put_all(tmp_path, "recycled/a.png", "tmp/b.png", "recycle/c.png")
    assert open_dataset(str(tmp_path)).labels == ("recycle", "recycled", "tmp")


def test_what_the_program_made_is_no_class(tmp_path):
    put_all(tmp_path, "cat/a.png", "dog/b.png", "published/lenet/1/assets.extra/confusion.png", "out/ImageScan/1/x.png")
    (tmp_path / "published" / "lenet" / "1" / "saved_model.pb").touch()
    (tmp_path / "out" / ".system").mkdir()
    (tmp_path / "out" / "metadata.sqlite").touch()
    dataset = open_dataset(str(tmp_path))
    assert dataset.labels == ("cat", "dog")
    assert left_out_of(dataset) == {"out": "made by this program", "published": "made by this program"}
    flat = open_dataset(str(tmp_path), labelled=False)
    assert {s.filename for s in flat.sources() if s.label} == {"cat/a.png", "dog/b.png"}


def test_links_that_lead_nowhere_or_upwards_are_named(tmp_path):
    root = tmp_path / "photos"
    put_all(root, "cat/a.png", "dog/b.png", "train.txt/c.png")
    put_all(tmp_path / "elsewhere", "eel/d.png", "fox/e.png")
    for name, target in {
        "loop": "loop", "round": "back", "back": "round", "here": ".", "up": "..", "gone": "nothing",
        "far": tmp_path / "elsewhere" / "fox", "others": tmp_path / "elsewhere", "cat/up": "..", "cat/self": "self",
        "alias": "dog",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    dataset = open_dataset(str(root))
    assert dataset.labels == ("alias", "cat", "dog", "far", "train.txt")
    endless = "cannot be read: Too many levels of symbolic links"
    assert left_out_of(dataset) == {
        "loop": endless, "round": endless, "back": endless,
        "here": "a link to a folder above it", "up": "a link to a folder above it",
        "gone": "cannot be read: No such file or directory",
        "others": "a link to a folder of other classes",
        "cat/up": "a link to a folder, which is not followed",
    }  # fmt: skip
    (tmp_path / "made beside the data").mkdir()
    assert open_dataset(str(root)).fingerprint == dataset.fingerprint
    (looping,) = (source for source in dataset.sources() if source.filename == "cat/self")
    with pytest.raises(OSError, match="Too many levels"):
        looping.read()
    flat = open_dataset(str(root), labelled=False)
    assert {s.filename for s in flat.sources() if s.label} == {
        "cat/a.png", "cat/self", "dog/b.png", "train.txt/c.png", "loop", "round", "back", "gone",
    }  # fmt: skip


def test_a_link_upwards_in_a_split_folder_is_no_class(tmp_path):
    put_all(tmp_path, *(f"{split}/{label}/a.png" for split in ("train", "test") for label in CLASSES))
    (tmp_path / "train" / "all").symlink_to("..")
    (tmp_path / "test" / "more").symlink_to("../train")
    dataset = open_dataset(str(tmp_path))
    assert dataset.labels == CLASSES
    assert left_out_of(dataset) == {
        "test/more": "a link to a folder of other classes", "train/all": "a link to a folder above it"
    }  # fmt: skip


def test_a_folder_of_links_alone_has_no_classes(tmp_path):
    (tmp_path / "up").symlink_to("..")
    with pytest.raises(UserError, match="1 files but no class folders"):
        open_dataset(str(tmp_path))


CAFE, CAFE_APART = "caf\u00e9", "cafe\u0301"


def test_one_class_in_two_unicode_forms(tmp_path):
    put_all(tmp_path, f"train/{CAFE}/a.png", f"test/{CAFE_APART}/b.png", "train/bar/c.png", f"test/{CAFE}/d.png")
    dataset = open_dataset(str(tmp_path))
    assert dataset.labels == ("bar", CAFE)
    assert {(s.filename, s.label) for s in dataset.sources() if s.split == "test"} == {
        (f"test/{CAFE_APART}/b.png", CAFE), (f"test/{CAFE}/d.png", CAFE),
    }  # fmt: skip
    assert dataset.remarks == ()
    put_all(tmp_path, "one/c.png")
    (tmp_path / "list.csv").write_text(f"path,label\na.png,{CAFE}\nb.png,{CAFE_APART}\nc.png,bar\n", encoding="utf-8")
    table = open_dataset(str(tmp_path / "list.csv"))
    assert table.labels == ("bar", CAFE)
    assert [s.label for s in table.sources()] == [CAFE, CAFE, "bar"]
    assert open_dataset(str(tmp_path / "list.csv")).fingerprint == table.fingerprint


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("ant", "Ant", "'Ant' and 'ant'"),
        ("ice cream", "ice_cream", "'ice cream' and 'ice_cream'"),
        ("ant", "ant ", "'ant' and 'ant '"),
        ("ant", "an\u200bt", r"'ant' and 'an\u200bt'"),
        ("ant", "\uff41nt", r"'ant' and '\uff41nt'"),
        ("cat", "c\u0430t", r"'cat' and 'c\u0430t'"),
        ("stra\u00dfe", "STRASSE", r"'STRASSE' and 'stra\xdfe'"),
        ("ice cream", "ice\u00a0cream", r"'ice cream' and 'ice\xa0cream'"),
    ],
)
def test_classes_that_look_alike_are_named(tmp_path, one, other, shown):
    put_all(tmp_path, f"{one}/a.png", f"{other}/b.png", "bee/c.png")
    dataset = open_dataset(str(tmp_path))
    assert set(dataset.labels) == {one, other, "bee"}
    assert dataset.remarks == (f"classes that look alike, perhaps one under several names: {shown}",)


def test_many_classes_that_look_alike_are_counted(tmp_path):
    put_all(tmp_path, *(f"{letter}/x.png" for word in ("abcde", "ABCDE") for letter in word), "\uff21/y.png")
    (line,) = open_dataset(str(tmp_path)).remarks
    assert line.endswith(r": 'A', 'a' and '\uff21'; 'B' and 'b'; 'C' and 'c' and 2 more")
