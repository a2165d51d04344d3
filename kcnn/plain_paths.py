r"""Paths that TensorFlow can load from: it takes the path of saved weights for a pattern, with [ and \ as signs."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from kcnn.errors import UserError


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return whether TensorFlow would look for something else than this path."""
    return any(sign in os.fspath(path) for sign in "[\\")


@contextlib.contextmanager
def plain_path(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Give a path without signs of a pattern for an existing folder, within the block.

    It is the folder's own, or a link in the folder for temporary files.

    Raises:
        UserError: the folder for temporary files has such signs too.
    """
    if not is_pattern(folder):
        yield os.fspath(folder)
        return
    if is_pattern(tempfile.gettempdir()):
        raise UserError(
            f"TMPDIR {tempfile.gettempdir()}: expected a folder without [ and \\ in its path, to load "
            f"{os.fspath(folder)} from, which has them"
        )
    with tempfile.TemporaryDirectory() as links:
        link = os.path.join(links, "model")
        os.symlink(os.path.abspath(folder), link)
        yield link
