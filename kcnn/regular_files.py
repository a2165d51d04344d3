"""Reading of files that hold bytes: a pipe, a device, or what the kernel makes up while it is read, may never end."""

import io
import os
import stat


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading, without waiting for anything.

    An empty file is not read: what the kernel makes up, such as /proc/kmsg, calls itself empty.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device.
        ValueError: the path holds a NUL.
    """
    _check(os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        _check(state)  # it may be another file by now
        if not state.st_size:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, descriptor, inheritable=False)
            os.close(nothing)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(state: os.stat_result) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(0, "a folder")
    if not stat.S_ISREG(state.st_mode):
        raise OSError(0, "not a regular file")


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: the file.
        limit: bytes.

    Raises:
        OSError: as `open_regular` does, or it holds more than the limit.
        ValueError: the path holds a NUL.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"more than {limit >> 20} MiB")
    return content
