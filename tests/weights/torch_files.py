"""Files as torch writes them, from numpy's arrays and Python's own pickle; and a second reader of the older kind."""

import collections
import functools
import io
import pickle
import zipfile

import ml_dtypes
import numpy as np

from kcnn.weights.torch_checkpoints import open_state_dict

MAGIC, PROTOCOL = 119547037146038801333356, 1001  # torch/serialization.py
KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Global:
    """A function or class of another module, by name."""

    def __init__(self, name):
        self.module, _, self.name = name.rpartition(".")

    def __call__(self):
        raise AssertionError


class Call:
    """What a pickle makes by calling a function."""

    def __init__(self, name, *arguments):
        self.reduced = Global(name), arguments

    def __reduce__(self):
        return self.reduced


class Persistent:
    """What a pickle refers to by name."""

    def __init__(self, *name):
        self.name = name


class Pickler(pickle._Pickler):
    """Pickles names of functions that are not here."""

    def persistent_id(self, value):
        return value.name if isinstance(value, Persistent) else None

    def save_name(self, value):
        self.write(f"c{value.module}\n{value.name}\n".encode())

    dispatch = {**pickle._Pickler.dispatch, Global: save_name}  # noqa: RUF012


def pickled(value, protocol=2):
    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


def storage(array, key):
    return Persistent("storage", Global(f"torch.{KINDS[array.dtype.name]}"), key, "cpu", array.size)


def tensor(array, base, key, function="torch._utils._rebuild_tensor_v2"):
    """Return the call that makes `array`, a view of `base`, which is storage `key`."""
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    strides = tuple(stride // base.itemsize for stride in array.strides)
    rest = (False, collections.OrderedDict()) if function.endswith("v2") else ()
    return Call(function, storage(base, key), start // base.itemsize, array.shape, strides, *rest)


def archive(content, storages, byteorder=b"little", root="w", **options):
    """Return a file of the kind since torch 1.6: `content` is a pickle, `storages` key → array."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as records:
        records.writestr(f"{root}/data.pkl", content)
        records.writestr(f"{root}/byteorder", byteorder)
        for key, stored in storages.items():
            records.writestr(f"{root}/data/{key}", stored.tobytes())
        records.writestr(f"{root}/version", "3\n")
    return file.getvalue()


def sequence(content, storages, little_endian=True):
    """Return a file of the kind before."""
    system = {"protocol_version": PROTOCOL, "little_endian": little_endian, "type_sizes": {"int": 4}}
    head = [pickled(MAGIC), pickled(PROTOCOL), pickled(system), content, pickled(list(storages))]
    for stored in storages.values():
        head += [stored.size.to_bytes(8, "little"), stored.tobytes()]
    return b"".join(head)


WRITERS = {"archive": archive, "sequence": sequence}


def state_dict_file(arrays, writer):
    """Return a file of arrays, each a storage of its own."""
    bases = {str(100 + index): array for index, array in enumerate(arrays.values())}
    content = {name: tensor(array, array, key) for (name, array), key in zip(arrays.items(), bases, strict=True)}
    return writer(pickled(collections.OrderedDict(content)), bases)


def read_tensors(path):
    """Return name → numbers of all tensors of a file."""
    with open_state_dict(path) as tensors:
        return {name: tensor.read() for name, tensor in tensors.items()}


def read_sequence(path):
    """Read a file of the older kind by Python's own unpickler, which may make what torch's state dicts have only."""
    dtypes = {"FloatStorage": np.float32, "LongStorage": np.int64}
    storages = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            if name == "OrderedDict":
                return collections.OrderedDict
            return name if name in dtypes else {"_rebuild_tensor_v2": lambda *arguments: arguments[:4]}[name]

        def persistent_load(self, name):
            _, kind, key, _, size, _ = name
            return storages.setdefault(key, {"dtype": dtypes[kind], "size": size})

    with path.open("rb") as file:
        for _ in range(3):
            pickle.load(file)
        tensors = Unpickler(file).load()
        for key in pickle.load(file):
            assert int(np.fromfile(file, np.int64, 1)[0]) == storages[key]["size"]
            storages[key]["values"] = np.fromfile(file, storages[key]["dtype"], storages[key]["size"])
        assert file.read() == b""
    found = {}
    for name, (stored, offset, shape, strides) in tensors.items():
        steps = (np.arange(length) * stride for length, stride in zip(shape, strides, strict=True))
        found[name] = stored["values"][offset + functools.reduce(np.add.outer, steps, 0)]
    return found
