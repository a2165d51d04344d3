"""The layout of a data set's folders: which are splits, and which are classes.

    photos/cat/a.jpg             class folders
    photos/seg_train/cat/a.jpg   split folders of class folders
    photos/cat/train/a.jpg       class folders of split folders

Short names ("train", "val", "test" and their kin, `split_name`) are splits where two of them stand side by side, or
train alone. A longer name ("seg_train", "TestImages") is one where its folder holds the class folders of another split:
a class may be called "freight_train". Folders that hold the same folders and are not named as splits are doubtful.
"""

import dataclasses
import functools
import itertools
import mimetypes
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kcnn.data.datasets import split_name
from kcnn.errors import UserError
from kcnn.leftovers import is_data

_MORE_WORDS = {
    "development": "val",
    "devel": "val",
    "trn": "train",
    "tst": "test",
    "validate": "val",
}
_GENERAL = ("data", "dataset", "dir", "examples", "folder", "images", "imgs", "photos", "pictures", "set", "split")
_NAMED = 3  # folders of many, in a message
NO_CLASS, NO_SPLIT = "not inside a class folder", "not in a folder of train, val or test"
_EXPECTED = "expected train, val and test as the names of splits, or a table of path,label where they are classes"


@dataclasses.dataclass(frozen=True)
class ClassFolder:
    """A folder of the images of one class.

    Attributes:
        split: "train", "val" or "test", or None where the folders are no splits.
        label: the class's name.
        folder: its path.
    """

    split: str | None
    label: str
    folder: Path


@dataclasses.dataclass(frozen=True)
class Layout:
    """The folders of a data set.

    Attributes:
        classes: the class folders.
        splits: the split folders, each with its split; below the class folders or above them.
        parents: the folders whose own files belong to no class, each with the reason.
        beside: the folders that stand beside the splits and are none.
        left_out: the folders that are left out, each with the reason.
        flaws: what is doubtful, a line each.
    """

    classes: tuple[ClassFolder, ...]
    splits: dict[Path, str]
    parents: dict[Path, str]
    beside: tuple[Path, ...] = ()
    left_out: dict[Path, str] = dataclasses.field(default_factory=dict)
    flaws: tuple[str, ...] = ()


def list_folder(folder: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in `folder` that are data (`is_data`), and all else in it that is, both sorted.

    A link to `folder` or to one above it counts as a file: what it leads to is what is being listed.

    Args:
        folder: the folder, within the data set.
        root: the data set, for messages.

    Raises:
        UserError: it cannot be read.
    """
    folders, files = _scan(folder, root)
    return sorted(map(Path, folders)), sorted(map(Path, files))


def read_layout(root: Path) -> Layout:
    """Find the splits and the classes among the folders below `root`.

    Raises:
        UserError: a folder cannot be read.
    """
    folders, _ = list_folder(root, root)
    left_out = {folder: "made by this program" for folder in folders if _is_output(folder)}
    found = [folder for folder in folders if folder not in left_out]
    parents = {root: NO_CLASS}
    beside: tuple[Path, ...] = ()
    flaws: list[str] = []
    if splits := _split_folders(found, root):
        homes = {top: _innermost(top, root) for top in splits}
        classes = [
            ClassFolder(split, folder.name, folder)
            for top, split in splits.items()
            for folder in list_folder(homes[top][-1], root)[0]
        ]
        parents |= dict.fromkeys(itertools.chain.from_iterable(homes.values()), NO_CLASS)
        beside = tuple(folder for folder in found if folder not in splits)
        flaws = [f"{_names(beside)} beside {_names(splits)}; expected train, val and test alone"] if beside else []
        flaws += _rivals(splits)
    elif splits := _splits_of_classes(found, root):
        classes = [ClassFolder(split, folder.parent.name, folder) for folder, split in splits.items()]
        parents |= dict.fromkeys(found, NO_SPLIT)
    else:
        classes = [ClassFolder(None, folder.name, folder) for folder in found]
        flaws = [doubt] if (doubt := _doubt(found, root)) else []
    left_out |= dict.fromkeys(_links_to_others([one.folder for one in classes]), "a link to a folder of other classes")
    return Layout(
        classes=tuple(one for one in classes if one.folder not in left_out),
        splits=splits,
        parents=parents,
        beside=beside,
        left_out=left_out,
        flaws=tuple(flaws),
    )


def _scan(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Return the paths that `list_folder` returns, in no order."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if is_data(entry.name)]
    except OSError as error:
        raise UserError(f"--dataset {root}: the folder {folder} cannot be read: {error.strerror}") from None
    here = Path(os.path.realpath(folder))
    folders: list[str] = []
    files: list[str] = []
    for entry in entries:
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself, or into a folder that cannot be read
            is_folder = False
        upwards = is_folder and entry.is_symlink() and here.is_relative_to(os.path.realpath(entry.path))
        (folders if is_folder and not upwards else files).append(entry.path)
    return folders, files


def _is_output(folder: Path) -> bool:
    """Return whether a folder is a pipeline's root, a SavedModel, or a folder of these as models are published."""
    if (folder / "metadata.sqlite").is_file() and (folder / ".system").is_dir():
        return True
    return any(next(folder.glob(f"{above}saved_model.pb"), None) for above in ("", "*/", "*/*/"))


def _links_to_others(folders: Sequence[Path]) -> list[Path]:
    """Return the folders that are links to a folder in which another of them lies."""
    real = {folder: Path(os.path.realpath(folder)) for folder in folders}
    above = {parent for path in real.values() for parent in path.parents}
    return [folder for folder in folders if real[folder] in above and folder.is_symlink()]


@functools.cache
def _split_in(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the one split that a word of a name means, or None, and the other words but for general ones.

    "seg_train" → train and "seg"; "TestImages", "testset" → test and nothing; "train_val" → None.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    meant = [split for word in words if (split := _split_of_word(word))]
    rest = tuple(word for word in words if not _split_of_word(word) and word not in _GENERAL)
    return (meant[0] if len(set(meant)) == 1 else None), rest


def _split_of_word(word: str) -> str | None:
    stems = [word, *(word.removesuffix(general) for general in _GENERAL)]
    return next((split for stem in stems if (split := split_name(stem) or _MORE_WORDS.get(stem))), None)


def _split_folders(found: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return the split folders among the folders of the data set, each with its split; none without train."""
    named = {folder: split for folder in found if (split := _split_in(folder.name)[0])}
    sure = {folder for folder in named if split_name(folder.name)}
    # One folder called "train" among others may hold pictures of trains; two such names mean splits.
    if "train" not in {named[folder] for folder in sure} or (len(sure) == 1 and len(found) > 1):
        sure = set()
    if len(found) == 1 and named and _classes_below(found[0], root):
        sure = set(found)
    below = {} if sure == set(named) else {folder: _classes_below(folder, root) for folder in named}
    alike = {
        folder
        for folder, other in itertools.permutations(below, 2)
        if named[folder] != named[other] and below[folder] & below[other] and _are_kin(folder, other)
    }
    splits = {folder: split for folder, split in named.items() if folder in sure | alike}
    return splits if "train" in splits.values() else {}


def _are_kin(one: Path, other: Path) -> bool:
    """Return whether the names of two splits differ in the split alone, or one says no more than it."""
    rests = set(_split_in(one.name)[1]), set(_split_in(other.name)[1])
    return rests[0] <= rests[1] or rests[1] <= rests[0]


def _innermost(folder: Path, root: Path) -> list[Path]:
    """Return a split folder and, as archives are often unpacked, the one folder of the same split in it, and so on."""
    folders, files = list_folder(folder, root)
    if len(folders) == 1 and not files and _split_in(folders[0].name)[0] == _split_in(folder.name)[0]:
        return [folder, *_innermost(folders[0], root)]
    return [folder]


def _classes_below(folder: Path, root: Path) -> set[str]:
    """Return the names of the class folders of what may be a split folder; none where it holds pictures itself."""
    folders, files = _scan(_innermost(folder, root)[-1], root)
    return set() if any(map(_is_named_as_picture, files)) else set(map(os.path.basename, folders))


def _is_named_as_picture(path: str) -> bool:
    kind, _ = mimetypes.guess_type(path)
    return str(kind).startswith("image/") or not os.path.splitext(path)[1]


def _rivals(splits: dict[Path, str]) -> list[str]:
    """Return a line for each split with several folders that are more than parts of it ("train.1", "train.2")."""
    lines = []
    for split in dict.fromkeys(splits.values()):
        folders = [folder for folder in splits if splits[folder] == split]
        if len({_split_in(folder.name)[1] for folder in folders}) > 1:
            lines.append(f"{_names(folders)} are all named as {split}; expected one folder for a split")
    return lines


def _splits_of_classes(found: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return the split folders where every class folder holds nothing but these, each with its split."""
    splits: dict[Path, str] = {}
    for folder in found:
        names = _classes_below(folder, root)
        inner = {folder / name: split for name in sorted(names) if (split := _split_in(name)[0])}
        if not names or len(inner) < len(names):
            return {}
        splits |= inner
    return splits if len(found) > 1 and "train" in splits.values() and len({*splits.values()}) > 1 else {}


def _doubt(found: Sequence[Path], root: Path) -> str | None:
    """Return a line where what was taken for classes may be splits, by the folders in them or by their names."""
    return _held_alike(found, root) or _named_alike(found) or _named_alone(found, root)


def _held_alike(found: Sequence[Path], root: Path) -> str | None:
    """Return a line where all folders hold the same folders, or nearly."""
    held: list[set[str]] = []
    for folder in found:
        held.append(_classes_below(folder, root))
        if not held[-1]:
            return None
    common = set.intersection(*held) if held else set()
    if len(found) < 2 or len(common) < 2 or 2 * len(common) < len(set.union(*held)):
        return None
    return f"{_names(found)} hold the same folders ({_names(map(Path, sorted(common)))}); {_EXPECTED}"


def _named_alike(found: Sequence[Path]) -> str | None:
    """Return a line where the names of folders differ in the split alone."""
    alike: dict[tuple[str, ...], dict[str, Path]] = {}
    for folder in found:
        split, rest = _split_in(folder.name)
        if split:
            alike.setdefault(rest, {})[split] = folder
    for named in alike.values():
        if "train" in named and len(named) > 1:
            same = "are named as splits, but hold no class folders of the same name"
            return f"{_names(named.values())} {same}; {_EXPECTED}"
    return None


def _named_alone(found: Sequence[Path], root: Path) -> str | None:
    """Return a line where one folder is named as train and holds folders, and the others are no splits."""
    for folder in found:
        split, rest = _split_in(folder.name)
        others = [other for other in found if other != folder] if split == "train" else []
        if any(set(rest) <= set(_split_in(other.name)[1]) for other in others):
            below = sorted(_classes_below(folder, root))
            if len(below) > 1:
                holds = f"is named as a split and holds folders ({_names(map(Path, below))})"
                return f"{folder.name} {holds}, beside {_names(others)}; {_EXPECTED}"
    return None


def _names(folders: Iterable[Path]) -> str:
    """Return the names of folders as a list in words: "a", "a and b", "a, b, c and 4 more"."""
    names = [folder.name for folder in folders]
    if len(names) > _NAMED + 1:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
