"""Obstacles: errors of the disk, in one line that says what could not be read or written, where, and why."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

_NO_SPACE = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_NO_ENTRY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
_NUMPY_NO_SPACE = " requested and "  # "1000 requested and 12 written", which is all that numpy says


def describe_obstacle(error: BaseException | None, folder: Path, outputs: Sequence[Path] = ()) -> str | None:
    """Describe the obstacle that an error, or one that it follows from, tells of.

    Args:
        error: what was raised.
        folder: where the work was going on, for errors that name no file.
        outputs: folders in which every file is being written.

    Returns:
        "cannot read FILE: reason" or "cannot write in FOLDER: reason"; None where the disk is not to blame.
    """
    while error is not None:
        place, other = getattr(error, "filename", None), getattr(error, "filename2", None)  # other: of a copy's target
        code, text = getattr(error, "errno", None), str(error)
        if isinstance(error, shutil.Error):  # it gathers source, target and reason of what could not be copied
            source, target, text = error.args[0][0]
            code = next((code for code in _NO_ENTRY if os.strerror(code) in text), None)
            place, other = source if repr(source) in text else target, target if repr(target) in text else None
        full = next((reason for reason in _NO_SPACE if reason in text), None)
        if full is None and isinstance(error, OSError) and code is None and _NUMPY_NO_SPACE in text:
            full = _NO_SPACE[0]
        if full is not None:
            return f"cannot write in {_folder(other or place, folder)}: {full}"
        if isinstance(error, OSError) and code in _NO_ENTRY:
            reason = os.strerror(code)
            if isinstance(place, str) and other is None and _was_read(code, Path(place), outputs):
                return f"cannot read {place}: {reason}"
            if place is None and code == errno.EIO:
                return f"cannot read or write in {folder}: {reason}"
            return f"cannot write in {_folder(other or place, folder)}: {reason}"
        error = error.__cause__ or error.__context__
    return None


def _folder(place: object, otherwise: Path) -> Path:
    return Path(place).parent if isinstance(place, str) else otherwise


def _was_read(code: int, path: Path, outputs: Sequence[Path]) -> bool:
    """Return whether a file was being read when the system refused it; a file to be written is rarely there before."""
    if code == errno.EROFS or any(path.absolute().is_relative_to(output.absolute()) for output in outputs):
        return False
    if not os.path.lexists(path):
        return not os.access(path.parent, os.X_OK)  # cannot even be looked for
    return code == errno.EIO or not os.access(path, os.R_OK) or os.access(path, os.W_OK)
