"""The pickles in torch's files, run by a machine that cannot do anything.

A pickle is a program. This machine knows the operations that build plain containers, and of functions torch's own few
that make a tensor, which are written here. Any other function or class is refused by its name before anything is done
with it. What is made of a file is in proportion to the file: the steps are counted, nothing is copied more than once,
and a tensor is a view of bytes that are there.
"""

import math
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

_MAX_STEPS = 1_000_000  # some forty for a tensor; networks have thousands
_MAX_AXES = 32
_SHOWN = 100  # characters of what a file has, in messages

# torch's kinds of storage → their elements; all little-endian. bfloat16 is the upper half of a float32.
DTYPES = {
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


class RefusedPickle(Exception):
    """What a file asks for and does not get."""


class _Named(NamedTuple):
    """A function or class that a file names; nothing that could be called."""

    text: str


class StoredArray(NamedTuple):
    """An array that a file holds: its key, the name of its kind, its number of elements."""

    key: str
    kind: str
    length: int


class TensorView(NamedTuple):
    """A view of a storage, in elements."""

    storage: StoredArray
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def shown(value: object) -> str:
    """Return what a file has, for a message: one line, short."""
    if isinstance(value, _Named):
        return ascii(value.text[:_SHOWN])[1:-1]
    return ascii(value[:_SHOWN]) if isinstance(value, str) else f"an object of type {type(value).__name__}"


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """Return what `collections.OrderedDict` makes of nothing; Python 2 gave it a list of the items."""
    if items and not isinstance(items, list):
        raise RefusedPickle(f"a dict of {shown(items)}")
    return {_checked_key(key): value for key, value in items}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorView:
    """Return a tensor as `torch._utils._rebuild_tensor` does, once it is known to lie within its storage."""
    if not isinstance(storage, StoredArray) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise RefusedPickle("a tensor of something else than a storage, a shape and strides")
    if len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise RefusedPickle(f"a tensor of {len(shape)} axes and {len(strides)} strides")
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *shape, *strides)):
        raise RefusedPickle("a tensor whose shape, strides or offset are no counts")
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    size = math.prod(shape)
    # Elements that several places share would make an array out of proportion to the file.
    if offset > storage.length or size > storage.length or (size and last >= storage.length):
        raise RefusedPickle(f"a tensor that does not lie within its storage of {storage.length} elements")
    return TensorView(storage, offset, shape, strides)


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
        raise RefusedPickle(f"a dict with {shown(key)} as a key")
    return key


def _checked_name(text: str) -> _Named:
    name = _Named(text)
    if text not in _FUNCTIONS and text not in DTYPES:
        raise RefusedPickle(f"it would run {shown(name)}")
    return name


_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING",
    "SHORT_BINSTRING",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleMachine:
    """Runs the pickles of one file.

    Attributes:
        storages: those that were named, by their keys.
    """

    def __init__(self) -> None:
        self.storages: dict[str, StoredArray] = {}
        self._steps = 0

    def run(self, file: BinaryIO) -> Any:
        """Run the pickle that begins here in `file`, and leave it behind its end.

        Returns:
            None, truth values, numbers, strings, tuples, lists, dicts, names, storages and tensors.

        Raises:
            RefusedPickle: it asks for something else.
            Exception: it is damaged.
        """
        stack: list[Any] = []
        marked: list[list[Any]] = []
        memo: dict[int, Any] = {}
        argument: Any
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
                    raise RefusedPickle(f"it would set attributes of {shown(stack[-1])}")
            elif name == "STOP":
                (result,) = stack
                return result
            elif name not in ("PROTO", "FRAME"):
                if name == "INST":
                    _checked_name(argument.replace(" ", "."))
                raise RefusedPickle(f"the operation {name}, which no tensor needs")
        raise ValueError("it has no end")

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise RefusedPickle(f"more than {_MAX_STEPS:,} steps")

    def _call(self, function: Any, arguments: Any) -> Any:
        known = isinstance(function, _Named) and function.text in _FUNCTIONS
        if not known or not isinstance(arguments, tuple):
            raise RefusedPickle(f"it would run {shown(function)}")
        self._count(sum(len(argument) for argument in arguments if isinstance(argument, list)))
        return _FUNCTIONS[function.text](*arguments)

    def _storage(self, named: Any) -> StoredArray:
        """Return the storage that a persistent name is of: "storage", kind, key, device, number of elements."""
        viewed = named[5:] if isinstance(named, tuple) else ()  # of files before torch 0.4: a part of another storage
        if not isinstance(named, tuple) or len(named) < 5 or named[0] != "storage" or viewed not in ((), (None,)):
            raise RefusedPickle("something else than a storage by reference")
        _, kind, key, _, length = named[:5]
        if not isinstance(kind, _Named) or kind.text not in DTYPES or not isinstance(key, str):
            raise RefusedPickle(f"a storage of kind {shown(kind)}")
        if type(length) is not int or not 0 <= length < 2**63:
            raise RefusedPickle(f"storage {shown(key)} has no number of elements")
        storage = StoredArray(key, kind.text, length)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedPickle(f"storage {shown(key)} is of two kinds")
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
        raise RefusedPickle(f"it would change {shown(container)}")
