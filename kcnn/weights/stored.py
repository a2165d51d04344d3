"""Tensors that lie in files: what a file may hold, which tensors go where by their shapes, and only then their numbers.

Nothing is read of a tensor before its shape is known to be that of a variable. So a file can cost no more memory than
the network that it is for, and what its own bytes take.
"""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np

from kcnn.errors import UserError
from kcnn.weights.copy import LoadReport, assign

# What a file may hold. More is refused before it is read.
FILE_BYTES = 2**30  # beside the network's own numbers: a head for other classes, what is not taken from it
FILE_BYTES_A_NUMBER = 64  # and for each of them: the optimizer's, averages, double precision
TEXT_BYTES = 2**23  # of a configuration or description in it
INFLATION = 10  # times the compressed bytes; weights hardly shrink
OBJECTS = 20_000  # tensors of it, or groups and arrays of HDF5; our networks have thousands
DEPTH = 32  # of its groups
NAME_LENGTH = 500  # characters of a name
NAMES_BYTES = 2**26  # of all names in one attribute of it

# What a reader returns once it has read all that it takes from a file: gives the weights to the model.
Give = Callable[[], LoadReport]


class StoredTensor(NamedTuple):
    """A tensor in a file, of which only the shape has been read.

    Attributes:
        shape: as the file declares it.
        read: returns the numbers; they are of this shape, or it raises an exception.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class WeightsMatch(NamedTuple):
    """Which tensors of a file go to which variables. None of them has been read.

    Attributes:
        pairs: the variables of a layer, and what reads the numbers of each.
        source: as in LoadReport, like the next.
        kept: of the head.
        remarks: for the user.
    """

    pairs: list[tuple[list[keras.Variable], list[Callable[[], np.ndarray]]]]
    source: str
    kept: list[str]
    remarks: tuple[str, ...] = ()


def read_match(match: WeightsMatch) -> Give:
    """Read the tensors that fit, and return what gives them to the model."""
    pairs = [(variables, [read() for read in readers]) for variables, readers in match.pairs]
    return partial(assign, pairs, source=match.source, kept=match.kept, remarks=match.remarks)


def check_file_size(model: keras.Model, size: int, source: str) -> None:
    """Refuse a file that holds far more than the weights of `model`.

    Raises:
        UserError: it is larger than FILE_BYTES and FILE_BYTES_A_NUMBER allow.
    """
    most = FILE_BYTES + FILE_BYTES_A_NUMBER * model.count_params()
    if size > most:
        raise UserError(
            f"weights {source!r}: {size:,} bytes; expected at most {most:,} for {model.name} and its "
            f"{model.count_params():,} numbers"
        )


def read_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """Return a file of a ZIP archive.

    Args:
        archive: a file on disk.
        name: of the file in it.
        most: bytes that it may unpack to; None for INFLATION times what is packed.

    Raises:
        ValueError: it is larger, or is packed in another way than Keras or `zip` do.
        KeyError: there is no such file.
    """
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed by method {member.compress_type}; expected stored or deflated")
    packed = min(member.compress_size, os.path.getsize(str(archive.filename)))
    most = INFLATION * packed if most is None else most
    if member.file_size > most:
        raise ValueError(f"{name} unpacks {packed:,} bytes to {member.file_size:,}; expected at most {most:,}")
    return archive.read(member)


def shown_name(name: str) -> str:
    """Return a name in a file for a message: short."""
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}..."
