"""Checkpoint files of torch, `.pth`, read without torch: both kinds, since torch 1.6 and before."""

import contextlib
import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kcnn.errors import UserError
from kcnn.weights.stored import StoredTensor
from kcnn.weights.torch_pickles import DTYPES, PickleMachine, RefusedPickle, StoredArray, TensorView, shown

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # at the start of files before torch 1.6
_WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights beside other things
_LONGEST_NAME = 500  # characters
_LONGEST_REASON = 200

# Storage → its bytes.
_Contents = Callable[[StoredArray], bytes | memoryview]


@contextlib.contextmanager
def open_state_dict(path: Path) -> Iterator[Mapping[str, StoredTensor]]:
    """Open a `.pth` file: of a state dict, or of one within a checkpoint.

    Args:
        path: the file.

    Yields:
        name → tensor. Its numbers are read-only, in the tensor's own dtype, bfloat16 as float32; tensors that share
        what is stored share the memory.

    Raises:
        UserError: the file is damaged, is none of torch's, or asks for what is not done for it; also where that is
            found while a tensor is read.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            contents, stored = (_read_archive if file.read(4) == b"PK\3\4" else _read_sequence)(file)
            arrays: dict[StoredArray, np.ndarray] = {}
            yield {
                name: StoredTensor(tensor.shape, partial(_view, tensor, stored, arrays))
                for name, tensor in _named_tensors(contents)
            }
    except UserError:
        raise
    except RefusedPickle as error:
        raise UserError(f"weights {str(path)!r}: refused: {error}") from None
    except Exception as error:  # a damaged file makes whatever is asked of it fail
        reason = ascii(str(error))[1:-1][:_LONGEST_REASON] or type(error).__name__
        raise UserError(f"weights {str(path)!r} cannot be read as a file of torch: {reason}") from None


def _named_tensors(contents: Any) -> Iterator[tuple[str, TensorView]]:
    if not isinstance(contents, dict):
        raise RefusedPickle("it holds no state dict")
    for wrapper in _WRAPPERS:
        if isinstance(contents.get(wrapper), dict):
            contents = contents[wrapper]
    for name, value in contents.items():
        if isinstance(value, TensorView):
            if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
                raise RefusedPickle(f"a tensor is called {shown(name)}")
            yield name.removeprefix("module."), value


def _read_archive(file: BinaryIO) -> tuple[Any, _Contents]:
    """Read a file since torch 1.6: an uncompressed ZIP archive of a pickle and a record for each storage."""
    archive = zipfile.ZipFile(file)
    records = {record.filename: record for record in archive.infolist()}
    if len(records) < len(archive.infolist()):
        raise RefusedPickle("two records of one name")
    if sum(record.file_size for record in records.values()) > file.seek(0, io.SEEK_END):
        raise RefusedPickle("records that are larger than the file")
    roots = [name.removesuffix("/data.pkl") for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1 or f"{roots[0]}/constants.pkl" in records:
        raise RefusedPickle("a TorchScript archive or none of torch's; expected a state dict that torch.save wrote")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
        raise RefusedPickle("a compressed record, which torch does not write")
    if f"{roots[0]}/byteorder" in records and archive.read(f"{roots[0]}/byteorder") != b"little":
        raise RefusedPickle("big-endian numbers")
    contents = PickleMachine().run(io.BytesIO(archive.read(f"{roots[0]}/data.pkl")))
    return contents, lambda storage: archive.read(f"{roots[0]}/data/{storage.key}")


def _read_sequence(opened: BinaryIO) -> tuple[Any, _Contents]:
    """Read a file before torch 1.6: pickles one after another, then each storage with its number of elements."""
    opened.seek(0)
    data, machine = opened.read(), PickleMachine()
    file = io.BytesIO(data)
    if machine.run(file) != _MAGIC or machine.run(file) != _PROTOCOL:
        raise RefusedPickle("neither of torch's two kinds of file")
    system = machine.run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedPickle("big-endian numbers")
    contents, keys = machine.run(file), machine.run(file)
    if not isinstance(keys, list) or len(keys) > len(machine.storages):
        raise RefusedPickle("another number of storages than the tensors have")
    content, found = memoryview(data), {}
    position = file.tell()
    for key in keys:
        storage = machine.storages[key]
        start = position + 8
        position = start + storage.length * np.dtype(DTYPES[storage.kind]).itemsize
        if position > len(data) or int.from_bytes(content[start - 8 : start], "little") != storage.length:
            raise RefusedPickle(f"storage {shown(key)} is not whole")
        found[key] = content[start:position]
    return contents, lambda storage: found[storage.key]


def _view(tensor: TensorView, stored: _Contents, arrays: dict[StoredArray, np.ndarray]) -> np.ndarray:
    """Return a tensor as a view of its storage; `arrays` has the storages that were read before."""
    storage, offset, shape, strides = tensor
    if storage not in arrays:
        content, dtype = stored(storage), np.dtype(DTYPES[storage.kind])
        if len(content) != storage.length * dtype.itemsize:
            raise RefusedPickle(f"storage {shown(storage.key)} has {len(content)} bytes, not {storage.length} elements")
        array = np.frombuffer(content, dtype)
        if storage.kind == "torch.BFloat16Storage":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        array.flags.writeable = False
        arrays[storage] = array
    array = arrays[storage]
    if math.prod(shape) == 0:
        return np.empty(shape, array.dtype)
    steps = [stride * array.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(array[offset:], shape, steps, writeable=False)
