"""Checkpoint files of torch, `.pth`, read without torch: both kinds, since 1.6 and before.

Both hold a pickle, which is a program, and it is run here by a machine that cannot do anything: it knows the operations
that build plain containers, and of functions torch's own few that make a tensor, which are written here. Any other
function or class is refused by its name before anything is done with it. What is made of the file is in proportion to
the file: the steps are counted, and a tensor is a view of bytes that are there.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from kcnn.errors import UserError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # at the start of files before torch 1.6
_MAX_STEPS = 1_000_000  # some forty for a tensor; networks have thousands
_MAX_AXES = 32
_MAX_NAME = 500  # characters
_SHOWN = 100
_WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights beside other things

# torch's kinds of storage → their elements; all little-endian. bfloat16 is the upper half of a float32.
_DTYPES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}


class _RefusedError(Exception):
    """What a file asks for and does not get."""


class _Name(NamedTuple):
    """A function or class that a file names; nothing that could be called."""

    text: str


class _Storage(NamedTuple):
    """An array that a file holds: its key, the name of its kind, its number of elements."""

    key: str
    kind: str
    count: int


class _Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a `.pth` file: of a state dict, or of one within a checkpoint.

    Args:
        path: the file.

    Returns:
        name → array, read-only, in the tensor's own dtype, bfloat16 as float32. Together they can be larger than the
        file, since tensors may share what is stored.

    Raises:
        UserError: the file is damaged, is none of torch's, or asks for what is not done for it.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        contents, stored = (_read_archive if data.startswith(b"PK\3\4") else _read_sequence)(data)
        arrays: dict[_Storage, np.ndarray] = {}
        return {name: _view(tensor, stored, arrays) for name, tensor in _named_tensors(contents)}
    except _RefusedError as error:
        raise UserError(f"weights {str(path)!r}: refused: {error}") from None
    except Exception as error:  # a damaged file makes whatever is asked of it fail
        reason = ascii(str(error))[1:-1][: 2 * _SHOWN] or type(error).__name__
        raise UserError(f"weights {str(path)!r} cannot be read as a file of torch: {reason}") from None


def _named_tensors(contents: Any) -> Iterator[tuple[str, _Tensor]]:
    if not isinstance(contents, dict):
        raise _RefusedError("it holds no state dict")
    for wrapper in _WRAPPERS:
        if isinstance(contents.get(wrapper), dict):
            contents = contents[wrapper]
    for name, value in contents.items():
        if isinstance(value, _Tensor):
            if not isinstance(name, str) or len(name) > _MAX_NAME or not name.isprintable():
                raise _RefusedError(f"a tensor is called {_shown(name)}")
            yield name.removeprefix("module."), value


def _shown(value: object) -> str:
    """Return what a file has, for a message: one line, short."""
    if isinstance(value, _Name):
        return ascii(value.text[:_SHOWN])[1:-1]
    return ascii(value[:_SHOWN]) if isinstance(value, str) else f"a {type(value).__name__.strip('_').lower()}"


# Storage → its bytes.
_Stored = Callable[[_Storage], bytes | memoryview]


def _read_archive(data: bytes) -> tuple[Any, _Stored]:
    """Read a file since torch 1.6: an uncompressed ZIP archive of a pickle and a record for each storage."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    records = {record.filename: record for record in archive.infolist()}
    if len(records) < len(archive.infolist()):
        raise _RefusedError("two records of one name")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
        raise _RefusedError("a compressed record, which torch does not write")
    if sum(record.file_size for record in records.values()) > len(data):
        raise _RefusedError("records that are larger than the file")
    roots = [name.removesuffix("/data.pkl") for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1 or f"{roots[0]}/constants.pkl" in records:
        raise _RefusedError("a TorchScript archive or none of torch's; expected a state dict that torch.save wrote")
    if f"{roots[0]}/byteorder" in records and archive.read(f"{roots[0]}/byteorder") != b"little":
        raise _RefusedError("big-endian numbers")
    contents = _Machine().run(io.BytesIO(archive.read(f"{roots[0]}/data.pkl")))
    return contents, lambda storage: archive.read(f"{roots[0]}/data/{storage.key}")


def _read_sequence(data: bytes) -> tuple[Any, _Stored]:
    """Read a file before torch 1.6: pickles one after another, then each storage with its number of elements."""
    file, machine = io.BytesIO(data), _Machine()
    if machine.run(file) != _MAGIC or machine.run(file) != _PROTOCOL:
        raise _RefusedError("neither of torch's two kinds of file")
    system = machine.run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _RefusedError("big-endian numbers")
    contents, keys = machine.run(file), machine.run(file)
    if not isinstance(keys, list) or len(keys) > len(machine.storages):
        raise _RefusedError("another number of storages than the tensors have")
    content, found = memoryview(data), {}
    position = file.tell()
    for key in keys:
        storage = machine.storages[key]
        start = position + 8
        position = start + storage.count * np.dtype(_DTYPES[storage.kind]).itemsize
        if position > len(data) or int.from_bytes(content[start - 8 : start], "little") != storage.count:
            raise _RefusedError(f"storage {_shown(key)} is not whole")
        found[key] = content[start:position]
    return contents, lambda storage: found[storage.key]


def _view(tensor: _Tensor, stored: _Stored, arrays: dict[_Storage, np.ndarray]) -> np.ndarray:
    """Return a tensor as a view of its storage; `arrays` has the storages that were read before."""
    storage, offset, shape, strides = tensor
    if storage not in arrays:
        content, dtype = stored(storage), np.dtype(_DTYPES[storage.kind])
        if len(content) != storage.count * dtype.itemsize:
            raise _RefusedError(f"storage {_shown(storage.key)} has {len(content)} bytes, not {storage.count} elements")
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


def _ordered_dict(*items: Any) -> dict[Any, Any]:
    """Return what `collections.OrderedDict` makes of nothing; Python 2 gave it the items."""
    made: dict[Any, Any] = {}
    for pair in items[0] if items else ():
        key, made_of = pair
        made[_checked_key(key)] = made_of
    return made


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Return a tensor as `torch._utils._rebuild_tensor` does, once it is known to lie within its storage."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise _RefusedError("a tensor of something else than a storage, a shape and strides")
    if len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise _RefusedError(f"a tensor of {len(shape)} axes and {len(strides)} strides")
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *shape, *strides)):
        raise _RefusedError("a tensor whose shape, strides or offset are no counts")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    size = math.prod(shape)
    # Elements that several places share would make an array out of proportion to the file.
    if offset > storage.count or size > storage.count or (size and last >= storage.count):
        raise _RefusedError(f"a tensor that does not lie within its storage of {storage.count} elements")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """Return the tensor that a parameter is."""
    return tensor


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _checked_key(key: Any) -> Any:
    """Return the key of an entry, whose hash takes no time to speak of: a nested tuple's can take for ever."""
    if not isinstance(key, str) and not (type(key) is int and abs(key) < 2**63):
        raise _RefusedError(f"a dict with {_shown(key)} as a key")
    return key


def _checked_name(text: str) -> _Name:
    name = _Name(text)
    if text not in _FUNCTIONS and text not in _DTYPES:
        raise _RefusedError(f"it would run {_shown(name)}")
    return name


_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING",
    "SHORT_BINSTRING",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """Runs the pickles of one file.

    Attributes:
        storages: those that were named, by their keys.
    """

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self._steps = 0

    def run(self, file: BinaryIO) -> Any:
        """Run the pickle that begins here in `file`, and leave it behind its end.

        Returns:
            None, truth values, numbers, strings, tuples, lists, dicts, names, storages and tensors.

        Raises:
            _RefusedError: it asks for something else.
            Exception: it is damaged.
        """
        stack: list[Any] = []
        marked: list[list[Any]] = []
        memo: dict[int, Any] = {}
        for operation, argument, _ in pickletools.genops(file):
            self._count(1)
            name = operation.name
            if name in _LITERALS:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _CONTAINERS:
                stack.append(_CONTAINERS[name]())
            elif name == "MARK":
                marked.append(stack)
                stack = []
            elif name in ("TUPLE", "APPENDS", "SETITEMS"):
                items, stack = stack, marked.pop()
                _put(stack, name, items)
            elif name in ("APPEND", "SETITEM"):
                items = _pop(stack, 1 if name == "APPEND" else 2)
                _put(stack, f"{name}S", items)
            elif name in _TUPLES:
                stack.append(tuple(_pop(stack, _TUPLES[name])))
            elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "GLOBAL":
                stack.append(_checked_name(argument.replace(" ", ".")))
            elif name == "STACK_GLOBAL":
                stack.append(_checked_name(".".join(_pop(stack, 2))))
            elif name == "REDUCE":
                stack.append(self._call(*_pop(stack, 2)))
            elif name == "BINPERSID":
                stack.append(self._storage(stack.pop()))
            elif name == "BUILD":  # attributes, such as an ordered dict's `_metadata`
                stack.pop()
                if not isinstance(stack[-1], dict):
                    raise _RefusedError(f"it would set attributes of {_shown(stack[-1])}")
            elif name == "STOP":
                (result,) = stack
                return result
            elif name not in ("PROTO", "FRAME"):
                if name == "INST":
                    _checked_name(argument.replace(" ", "."))
                raise _RefusedError(f"the operation {name}, which no tensor needs")
        raise ValueError("it has no end")

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise _RefusedError(f"more than {_MAX_STEPS:,} steps")

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError(f"it would run {_shown(function)}")
        if function.text not in _FUNCTIONS:
            raise _RefusedError(f"it would run {_shown(function)}")
        self._count(sum(len(argument) for argument in arguments if isinstance(argument, list)))
        return _FUNCTIONS[function.text](*arguments)

    def _storage(self, named: Any) -> _Storage:
        """Return the storage that a persistent name is of: "storage", kind, key, device, number of elements."""
        if (
            not isinstance(named, tuple)
            or len(named) not in (5, 6)
            or named[0] != "storage"
            or named[5:]
            not in (
                (),
                (None,),
            )
        ):
            raise _RefusedError("something else than a storage by reference")
        _, kind, key, _, count = named[:5]
        if not isinstance(kind, _Name) or kind.text not in _DTYPES or not isinstance(key, str):
            raise _RefusedError(f"a storage of kind {_shown(kind)}")
        if type(count) is not int or not 0 <= count < 2**63:
            raise _RefusedError(f"storage {_shown(key)} has no number of elements")
        storage = _Storage(key, kind.text, count)
        if self.storages.setdefault(key, storage) != storage:
            raise _RefusedError(f"storage {_shown(key)} is of two kinds")
        return storage


def _pop(stack: list[Any], count: int) -> list[Any]:
    """Take the last `count` values from the stack, in their order."""
    if len(stack) < count:
        raise ValueError("a value is missing")
    values = stack[-count:]
    del stack[-count:]
    return values


def _put(stack: list[Any], operation: str, items: list[Any]) -> None:
    """Add items to the container on the stack, or make a tuple of them there."""
    if operation == "TUPLE":
        stack.append(tuple(items))
        return
    container = stack[-1]
    if operation == "APPENDS" and isinstance(container, list):
        container.extend(items)
    elif operation == "SETITEMS" and isinstance(container, dict) and len(items) % 2 == 0:
        container.update(zip(map(_checked_key, items[::2]), items[1::2], strict=True))
    else:
        raise _RefusedError(f"it would change {_shown(container)}")
