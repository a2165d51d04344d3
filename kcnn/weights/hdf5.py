"""HDF5 files, of which only plain arrays and names are read: no link, filter, chunk or other file is followed.

HDF5 lets eight kilobytes declare any number of numbers: by fill values, by chunks that inflate, by arrays in other
files. Keras writes none of these.
"""

import itertools
import math
import mmap
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from kcnn.weights.stored import DEPTH, NAME_LENGTH, NAMES_BYTES, OBJECTS, StoredTensor, shown_name

_HEAP = b"GCOL\x01\x00\x00\x00"  # at the start of each heap


def find_member(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """Return what is at a path below a group, over hard links alone.

    Raises:
        ValueError: there is nothing, or a link to elsewhere.
    """
    item = group
    for part in filter(None, path.split("/")):
        name = part.encode()
        # h5py's own look-up would open the file that a link names.
        if not isinstance(item, h5py.Group) or not item.id.links.exists(name):
            raise ValueError(f"it has no {shown_name(path)} in {group.name}")
        if item.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{shown_name(path)} in {group.name} is a link")
        item = item[part]
    return item


def walk_groups(group: h5py.Group) -> Iterator[h5py.Group]:
    """Yield a group and those below it, over hard links alone.

    Raises:
        ValueError: they are deeper than DEPTH, or have more than OBJECTS members.
    """
    waiting, members = [(group, 0)], 0
    while waiting:
        here, depth = waiting.pop()
        yield here
        for name in here.id:
            members += 1
            if depth >= DEPTH or members > OBJECTS:
                raise ValueError(f"{group.name} has more than {OBJECTS:,} members, or they lie deeper than {DEPTH}")
            if here.id.links.get_info(name).type == h5py.h5l.TYPE_HARD:
                item = here[name]
                if isinstance(item, h5py.Group):
                    waiting.append((item, depth + 1))


def stored_tensor(group: h5py.Group, path: str) -> StoredTensor:
    """Return an array of a file before it is read.

    Raises:
        ValueError: there is none.
    """
    dataset = find_member(group, path)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{shown_name(path)} in {group.name} is no array")
    return StoredTensor(dataset.shape, lambda: _read_plain(dataset))


def _read_plain(dataset: h5py.Dataset) -> np.ndarray:
    """Return the numbers of an array that lies in the file as it is."""
    properties, dtype = dataset.id.get_create_plist(), dataset.dtype
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise ValueError(f"{dataset.name} is stored in another file")
    if layout == h5py.h5d.CHUNKED:
        raise ValueError(f"{dataset.name} is stored in chunks, which may be compressed; expected it as Keras writes it")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"{dataset.name} holds no numbers")
    if dataset.id.get_storage_size() != dataset.size * dtype.itemsize:
        raise ValueError(f"{dataset.name} declares {dataset.size:,} numbers, which the file has not")
    return np.asarray(dataset)


def read_names(group: h5py.Group, attribute: str, heap: int) -> list[str]:
    """Return the names that Keras keeps in an attribute, or in several numbered ones when there are many.

    Args:
        group: of a file.
        attribute: its name.
        heap: `largest_heap` of the file.

    Raises:
        ValueError: they are no names, or too many.
    """
    if attribute in group.attrs:
        return _names(group, attribute, heap)
    parts = itertools.takewhile(group.attrs.__contains__, (f"{attribute}{index}" for index in range(OBJECTS)))
    return list(itertools.chain.from_iterable(_names(group, part, heap) for part in parts))


def _names(group: h5py.Group, attribute: str, heap: int) -> list[str]:
    stored = group.attrs.get_id(attribute)
    count, string = math.prod(stored.shape), h5py.check_string_dtype(stored.dtype)
    if not count:
        return []
    if string is None:
        raise ValueError(f"{attribute} of {group.name} holds no names")
    # Names without a fixed length lie in a heap, and may all be the same one there, as long as the heap.
    if count > OBJECTS or count * (string.length or heap) > NAMES_BYTES:
        raise ValueError(f"{attribute} of {group.name} holds {count:,} names, of up to {string.length or heap:,} bytes")
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(group.attrs[attribute])]
    if max(map(len, names)) > NAME_LENGTH:
        raise ValueError(f"{attribute} of {group.name} has a name of more than {NAME_LENGTH} characters")
    return names


def largest_heap(path: Path) -> int:
    """Return the size in bytes of the largest heap in a file, which no word of variable length in it exceeds.

    Source: HDF5 File Format Specification 3.0, section III.E, "Global Heap".
    """
    largest = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(_HEAP)
        while place >= 0:
            start = place + len(_HEAP)
            largest = max(largest, int.from_bytes(content[start : start + 8], "little"))
            place = content.find(_HEAP, start)
    return largest


def read_name(group: h5py.Group, attribute: str) -> str | None:
    """Return the name in an attribute; None where there is no such attribute.

    Raises:
        ValueError: it is no name, or too long.
    """
    if attribute not in group.attrs:
        return None
    stored = group.attrs.get_id(attribute)
    if stored.shape != () or h5py.check_string_dtype(stored.dtype) is None:
        raise ValueError(f"{attribute} of {group.name} is no name")
    name = group.attrs[attribute]
    name = name.decode() if isinstance(name, bytes) else str(name)
    if len(name) > NAME_LENGTH:
        raise ValueError(f"{attribute} of {group.name} has more than {NAME_LENGTH} characters")
    return name
