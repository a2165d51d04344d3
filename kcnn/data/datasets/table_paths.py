"""The files that the cells of a table mean: written for another system, without an extension, or for another folder."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".JPG", ".JPEG", ".PNG", ".GIF", ".BMP", ".WEBP")
_FOLDERS = 100  # folders in which a file is looked for, for a hint


def find_files(folder: str, cell: str) -> list[str]:
    """Return the names, relative to `folder`, of the files that a cell may mean, by the first way that finds any.

    The ways are: as it is written; with back slashes as slashes; with its letters composed or decomposed (Unicode's NFC
    and NFD); and with the extension of an image after it.
    """
    plain = normalize_path(cell)
    if _is_file(folder, plain):
        return [plain]
    slashed = normalize_path(cell.replace("\\", "/"))
    names = list(dict.fromkeys([slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))]))
    if found := [name for name in names if _is_file(folder, name)]:
        return found[:1]
    ends = {os.stat(os.path.join(folder, name)).st_ino: name for name in _complete(folder, names)}
    return [*ends.values()]  # a system that does not tell a.jpg from a.JPG has one file


def _complete(folder: str, names: Iterable[str]) -> list[str]:
    whole = (name + extension for name in names for extension in _EXTENSIONS)
    return [name for name in whole if _is_file(folder, name)]


def _is_file(folder: str, name: str) -> bool:
    return os.path.isfile(os.path.join(folder, name))


def normalize_path(cell: str) -> str:
    """Return a cell's path without "./" and the like, so that a file has one name."""
    usual = cell[:1] != "." and "/." not in cell and "//" not in cell and cell[-1:] != "/"
    return cell if usual else os.path.normpath(cell)


def find_folder(folder: str, cell: str) -> str | None:
    """Return a folder near `folder` to which the path in `cell` is relative: above it, in it, or the present one."""
    try:
        inner = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())[:_FOLDERS]
    except OSError:
        inner = []
    home = Path(folder).absolute()
    return next((near for near in [*inner, *map(str, home.parents), os.getcwd()] if find_files(near, cell)), None)
