"""The images that users name: files, folders, patterns and URLs, as encoded images that threads read ahead."""

import functools
import glob
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from kcnn.regular_files import open_regular
from kcnn.serving.prediction.folders import FoundFile, folder_files, named_file, pattern_files

LIMIT = 256 * 2**20  # bytes of a file
_FETCH_SIZE = 8 * 2**20  # the size that is assumed before it is known, so that few are in memory at once
THREADS = 8
_NUL = "a null character (NUL) in its name"
NOT_FETCHED = "a URL, which is fetched only where that is asked for (--allow_urls)"


class UnreadableError(Exception):
    """A file cannot be read; the message says why, in a few words."""


class InputImage(NamedTuple):
    """An image to read.

    Attributes:
        name: its path or URL.
        read: gives its bytes, or raises UnreadableError.
        size: its bytes as far as known; 0 where not.
    """

    name: str
    read: Callable[[], bytes]
    size: int = 0


Fetch = Callable[[str], bytes]


def expand_input(item: str | os.PathLike[str], fetch: Fetch | None = None) -> Iterator[InputImage]:
    """Yield the images that a path, a pattern or a URL stands for, sorted by name.

    Folders and patterns are as in `kcnn.serving.prediction.folders`. A pattern is a name that holds *, ? or [ and is no
    file's name. Nothing is judged by its extension. A name that does not exist becomes an InputImage that raises the
    error when it is read, and so does a URL without `fetch`.
    """
    name = os.fspath(item)
    if not isinstance(name, str):
        name = os.fsdecode(name)
    if "\0" in name:
        yield InputImage(name, lambda: _refuse(_NUL))
    elif is_url(name) and not os.path.lexists(name):
        yield InputImage(name, lambda: fetch(name) if fetch else _refuse(NOT_FETCHED), _FETCH_SIZE)
    elif glob.has_magic(name) and not os.path.lexists(name):
        found = map(_image, pattern_files(name))
        yield next(found, InputImage(name, lambda: _refuse("no file matches this pattern")))
        yield from found
    elif os.path.isdir(name):
        yield from map(_image, folder_files(name))
    else:
        yield _image(named_file(name))


def is_url(name: str) -> bool:
    """Return whether a name looks like a URL, with any scheme."""
    scheme, separator, _ = name.partition("://")
    return bool(separator) and scheme.isalnum()


def _refuse(reason: str) -> bytes:
    raise UnreadableError(reason)


def _image(found: FoundFile) -> InputImage:
    read = functools.partial(_refuse, found.obstacle) if found.obstacle else None
    return InputImage(found.path, read or functools.partial(read_image_file, found.path), found.size)


def read_image_file(path: str) -> bytes:
    """Return a file's bytes.

    Raises:
        UnreadableError: it is no regular file, cannot be read, or holds more than LIMIT bytes.
    """
    try:
        with open_regular(path) as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except ValueError:
        raise UnreadableError(_NUL) from None
    if len(content) > LIMIT:
        raise UnreadableError(f"more than {LIMIT >> 20} MiB")
    return content


class ReaderThreads:
    """Threads that read images. They end with the process, whatever they wait for."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], bytes], Future[bytes]] | None] = queue.SimpleQueue()
        for _ in range(THREADS):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, task: Callable[[], bytes]) -> "Future[bytes]":
        """Run the task in the next thread that is free; the future gets its result."""
        future: Future[bytes] = Future()
        self._tasks.put((task, future))
        return future

    def _work(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)
            del task, future, item

    def close(self) -> None:
        """End the threads when the submitted tasks are done."""
        for _ in range(THREADS):
            self._tasks.put(None)


def count_images(items: Iterable[Any]) -> int:
    """Return how many images the paths, patterns and URLs stand for; anything else counts for one."""
    return sum(sum(1 for _ in expand_input(item)) if isinstance(item, str | os.PathLike) else 1 for item in items)
