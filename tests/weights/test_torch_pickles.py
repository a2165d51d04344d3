"""Files of torch, read without torch: what they hold, and what they are refused."""

import collections
import importlib.metadata
import pickle
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_files import (
    BFLOAT16,
    KINDS,
    MAGIC,
    PROTOCOL,
    WRITERS,
    Call,
    Global,
    Persistent,
    archive,
    pickled,
    read_sequence,
    read_tensors,
    sequence,
    state_dict_file,
    storage,
    tensor,
)

from kcnn.errors import UserError
from kcnn.models.spec import MODELS
from kcnn.weights.torch_checkpoints import open_state_dict

PACKAGES = [MODELS.get(name).package for name in MODELS if MODELS.get(name).package]
BASE = np.arange(60, dtype=np.float32)


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "w.pth"
        path.write_bytes(content)
        return read_tensors(path)

    return read


def array_of(dtype):
    values = np.random.default_rng(0).normal(0, 3, (4, 3, 2))
    return values.astype(BFLOAT16 if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("dtype", KINDS)
def test_every_dtype(dtype, writer, read):
    expected = array_of(dtype)
    found = read(state_dict_file({"a.weight": expected, "b": array_of("int64")}, writer))
    assert list(found) == ["a.weight", "b"]
    assert found["a.weight"].dtype == (np.float32 if dtype == "bfloat16" else dtype)
    np.testing.assert_array_equal(found["a.weight"], expected.astype(found["a.weight"].dtype))


VIEWS = {
    "whole": BASE,
    "shaped": BASE.reshape(3, 4, 5),
    "transposed": BASE.reshape(3, 4, 5).transpose(2, 0, 1),
    "part": BASE[7:19].reshape(4, 3),
    "columns": BASE.reshape(6, 10)[1:5, 2:9:3],
    "scalar": BASE[59:60].reshape(()),
    "empty": BASE[:0].reshape(0, 3),
    "long axes": BASE[:6].reshape(1, 6, 1, 1),
}


@pytest.mark.parametrize("function", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_tensors_share_storages(function, writer, read):
    content = {name: tensor(view, BASE, "7", f"torch._utils.{function}") for name, view in VIEWS.items()}
    found = read(writer(pickled(content), {"7": BASE}))
    for name, view in VIEWS.items():
        np.testing.assert_array_equal(found[name], view, strict=True)
        assert name == "empty" or not found[name].flags.writeable
    addresses = {found[name].__array_interface__["data"][0] for name in ("whole", "shaped", "transposed")}
    assert len(addresses) == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_checkpoints_of_training_scripts(protocol, writer, read):
    made = tensor(BASE, BASE, "0")
    weights = collections.OrderedDict({"module.fc.weight": made})
    weights["module.bias"] = Call("torch._utils._rebuild_parameter", made, True, collections.OrderedDict())
    optimizer = {"state": {0: {"step": 5, "exp": made}}, "param_groups": [{"lr": 0.1, "betas": (0.9, None), "n": -1}]}
    content = {"epoch": 3, "arch": "é" * 300, "optimizer": optimizer, "big": 2**40, "state_dict": weights}
    found = read(writer(pickled(content, protocol), {"0": BASE}))
    assert list(found) == ["fc.weight", "bias"]
    np.testing.assert_array_equal(found["bias"], BASE)
    assert list(read(writer(pickled({"model": content}), {"0": BASE}))) == []  # a state dict in it is not looked for


def test_numbers_are_read_where_they_are_asked_for(tmp_path):
    content = {"here": tensor(BASE, BASE, "0"), "gone": tensor(BASE.reshape(6, 10), BASE, "1")}
    path = tmp_path / "w.pth"
    path.write_bytes(archive(pickled(content), {"0": BASE}))
    with open_state_dict(path) as tensors:
        assert {name: stored.shape for name, stored in tensors.items()} == {"here": (60,), "gone": (6, 10)}
        np.testing.assert_array_equal(tensors["here"].read(), BASE)
    with pytest.raises(UserError, match="no item named"), open_state_dict(path) as tensors:
        tensors["gone"].read()


def test_a_file_of_python_2(read):
    """Strings are bytes, and an ordered dict is made of a list of its items."""
    items = b"(lp0\n".replace(b"lp0\n", b"").replace(b"(", b"]") + b"("  # EMPTY_LIST, MARK
    pair = b"](U\x01w" + pickled(tensor(BASE, BASE, "0"))[2:-1] + b"e"
    content = b"\x80\x02ccollections\nOrderedDict\n" + items + pair + b"e\x85R."
    np.testing.assert_array_equal(read(sequence(content, {"0": BASE}))["w"], BASE)


def installed(package):
    return Path(importlib.metadata.distribution(package.name).locate_file(package.file))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_files_that_torch_wrote_are_read_as_by_pythons_own_pickle(package):
    path = installed(package)
    found, expected = read_tensors(path), read_sequence(path)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert min(array.min() for name, array in found.items() if name.endswith("running_var")) >= 0
    assert sum(array.size for array in found.values()) > 4e6


GOOD = {"w": tensor(BASE, BASE, "0")}


def calls(name, *arguments):
    return pickled({"w": Call(name, *arguments)})


def rebuilt(*arguments, stored=None):
    return calls("torch._utils._rebuild_tensor_v2", stored or storage(BASE, "0"), *arguments, False, {})


def within(operations):
    """Return a pickle of raw operations."""
    return b"\x80\x02" + operations + b"."


# A pickle, and what the message says of it.
PICKLES = {
    "os.system": (calls("os.system", "touch ran"), "refused: it would run os.system"),
    "posix.system": (b"cposix\nsystem\n(S'touch ran'\ntR.", "refused: it would run posix.system"),
    "eval": (calls("builtins.eval", "1"), "it would run builtins.eval"),
    "exec, by a stack's name": (
        pickled({"w": Call("builtins.exec", "1")}, 4).replace(
            b"cbuiltins\nexec\n", b"\x8c\x08builtins\x8c\x04exec\x93"
        ),
        "it would run builtins.exec",
    ),
    "getattr": (calls("builtins.getattr", Call("builtins.__import__", "os"), "system"), "run builtins.getattr"),
    "a named class alone": (pickled(Global("subprocess.Popen")), "it would run subprocess.Popen"),
    "an instance": (within(b"(ios\nsystem\n"), "it would run os.system"),
    "an instance of a known name": (within(b"(icollections\nOrderedDict\n"), "the operation INST"),
    "a new object": (within(b"ccollections\nOrderedDict\n)\x81"), "the operation NEWOBJ"),
    "an object": (within(b"(ccollections\nOrderedDict\no"), "the operation OBJ"),
    "torch's own, of code": (calls("torch.load", "x"), "it would run torch.load"),
    "a storage called": (calls("torch.FloatStorage", 5), "it would run torch.FloatStorage"),
    "a string called": (within(b"U\x01a)R"), "it would run 'a'"),
    "a result called": (within(b"ccollections\nOrderedDict\n)R)R"), "it would run an object of type dict"),
    "arguments that are none": (within(b"ccollections\nOrderedDict\n]R"), "it would run collections.OrderedDict"),
    "a name with lines": (within(b"\x8c\x03a\nb\x8c\x03c\nd\x93"), r"it would run a\nb.c\nd"),
    "a long name": (within(b"c" + b"o" * 10000 + b"\nx\n"), "it would run ooo"),
    "extension 1": (within(b"\x82\x01"), "the operation EXT1"),
    "extension 4": (within(b"\x84\x01\0\0\0"), "the operation EXT4"),
    "nested BUILD": (within(b"}}(U\x01aK\x01ubb"), None),
    "BUILD of a tensor": (
        within(pickled(GOOD["w"])[2:-1] + b"}b"),
        "it would set attributes of an object of type TensorView",
    ),
    "BUILD of a name": (within(b"ccollections\nOrderedDict\n}b"), "it would set attributes of collections.OrderedDict"),
    "BUILD of a number": (within(b"K\x01}b"), "it would set attributes of an object of type int"),
    "a reference to a module": (
        pickled({"w": Persistent("module", Global("torch.FloatStorage"), "f", "x")}),
        "storage",
    ),
    "a reference by a number": (within(b"K\x01Q"), "something else than a storage by reference"),
    "a reference by a line": (within(b"P0\n"), "the operation PERSID"),
    "a storage of a kind that is none": (
        pickled({"w": Persistent("storage", Global("collections.OrderedDict"), "0", "cpu", 60)}),
        "a storage of kind",
    ),
    "a storage of text as its kind": (pickled({"w": Persistent("storage", "x", "0", "cpu", 60)}), "a storage of kind"),
    "a storage with a number as its key": (
        pickled({"w": Persistent("storage", Global("torch.FloatStorage"), 0, "cpu", 60)}),
        "a storage of kind",
    ),
    "a storage below nothing": (
        pickled({"w": Persistent("storage", Global("torch.FloatStorage"), "0", "cpu", -1)}),
        "has no number of elements",
    ),
    "a storage within another": (
        pickled({"w": Persistent("storage", Global("torch.FloatStorage"), "0", "cpu", 60, ("1", 0, 60))}),
        "something else than a storage by reference",
    ),
    "a storage of two kinds": (
        pickled([storage(BASE, "0"), storage(BASE.astype(np.int64), "0")]),
        "storage '0' is of two kinds",
    ),
    "a storage that is not there": (
        pickled({"w": tensor(BASE, BASE, "../../0")}),
        "cannot be read as a file of torch",
    ),
    "a tensor of text": (calls("torch._utils._rebuild_tensor", "x", 0, (1,), (1,)), "something else than a storage"),
    "a tensor with a list for a shape": (rebuilt(0, [60], (1,)), "something else than a storage"),
    "more axes than strides": (rebuilt(0, (6, 10), (1,)), "a tensor of 2 axes and 1 strides"),
    "many axes": (rebuilt(0, (1,) * 33, (1,) * 33), "a tensor of 33 axes"),
    "an offset below 0": (rebuilt(-1, (2,), (1,)), "no counts"),
    "an offset beyond": (rebuilt(61, (0,), (1,)), "does not lie within"),
    "a size below 0": (rebuilt(0, (-6, -10), (10, 1)), "no counts"),
    "a stride below 0": (rebuilt(59, (60,), (-1,)), "no counts"),
    "a size that is true": (rebuilt(0, (True,), (1,)), "no counts"),
    "a size that is a fraction": (rebuilt(0, (2.0,), (1,)), "no counts"),
    "a size beyond 64 bits": (rebuilt(0, (2**70,), (0,)), "no counts"),
    "one element too many": (rebuilt(1, (60,), (1,)), "does not lie within"),
    "strides that reach out": (rebuilt(0, (2, 2), (1, 59)), "does not lie within"),
    "a huge stride": (rebuilt(0, (2, 1), (2**62, 1)), "does not lie within"),
    "an expanded tensor": (rebuilt(0, (10**9, 60), (0, 1)), "does not lie within"),
    "an expanded empty storage": (rebuilt(0, (10**12,), (0,), stored=storage(BASE[:0], "0")), "does not lie within"),
    "an empty tensor of huge axes": (rebuilt(0, (0, 2**62), (1, 1)), "cannot be read"),
    "no arguments": (calls("torch._utils._rebuild_tensor_v2"), "cannot be read"),
    "a tuple as a key": (pickled({(1, 2): 3}), "a dict with an object of type tuple as a key"),
    "a long number as a key": (pickled({2**61: 1, 2**64: 3}), "a dict with an object of type int as a key"),
    "a dict of a dict": (calls("collections.OrderedDict", {"ab": 1}), "a dict of an object of type dict"),
    "a list with one value of a pair": (calls("collections.OrderedDict", ["abc"]), "cannot be read"),
    "items of an uneven number": (within(b"}(U\x01au"), "it would change an object of type dict"),
    "items for a number": (within(b"K\x01(U\x01aK\x01u"), "it would change an object of type int"),
    "a name that is no text": (pickled({1: GOOD["w"]}), "a tensor is called an object of type int"),
    "a name of two lines": (pickled({"a\nb": GOOD["w"]}), r"a tensor is called 'a\nb'"),
    "a name that is long": (pickled({"a" * 10**5: GOOD["w"]}), "a tensor is called 'aaa"),
    "no state dict": (pickled([GOOD["w"]]), "it holds no state dict"),
    "a set": (pickled({"w": {1}}, 4), "the operation EMPTY_SET"),
    "bytes": (pickled({"w": b"1"}, 4), "the operation SHORT_BINBYTES"),
    "DUP": (within(b"}2"), "the operation DUP"),
    "many numbers for nothing": (within(b"}K\x01"), "cannot be read"),
    "nothing": (b".", "cannot be read"),
    "no end": (b"\x80\x02}", "cannot be read"),
    "a value that is not there": (within(b"h\x05"), "cannot be read"),
    "no mark": (within(b"K\x01t"), "cannot be read"),
    "a huge LONG1": (b"\x8a\xff" + b"\xff" * 100, "cannot be read"),
    "a huge LONG4": (b"\x8b\xff\xff\xff\x7f" + b"\xff" * 100, "cannot be read"),
    "a LONG4 below 0": (b"\x8b\xff\xff\xff\xff", "cannot be read"),
    "a huge string": (b"X\xff\xff\xff\xffaaaa", "cannot be read"),
    "a string of 2**63": (b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"aaaa", "cannot be read"),
    "bytes of 2**63": (b"\x8e" + struct.pack("<Q", 2**63 - 1) + b"aaaa", "cannot be read"),
    "bytes of 2**64": (b"\x8e" + b"\xff" * 8 + b"aaaa", "cannot be read"),
    "a buffer of 2**63": (b"\x96" + struct.pack("<Q", 2**63 - 1) + b"aaaa", "cannot be read"),
    "a huge frame": (b"\x80\x04\x95" + b"\xff" * 8 + b"}.", None),
    "a huge place in the memo": (within(b"}r\xff\xff\xff\xff"), None),
    "digits without end": (within(b"I" + b"9" * 5000 + b"\n0}"), "cannot be read"),
    "a list in itself": (within(b"}U\x01a]q\x01h\x01as"), None),
    "lists in lists": (within(b"}U\x01a" + b"]" * 20_000 + b"a" * 19_999 + b"s"), None),
    "tuples that double": (within(b"}U\x01a)" + b"q\x00h\x00\x86" * 10_000 + b"s"), None),
    "a doubling tuple as a key": (within(b"})" + b"q\x00h\x00\x86" * 100 + b"K\x01s"), "of type tuple as a key"),
    "marks": (within(b"(" * 20_000 + b"}"), None),
}


class Watch:
    """Notes what Python is asked to do that runs or finds code, while it is on."""

    FORBIDDEN = ("os.", "subprocess.", "exec", "compile", "pickle.", "ctypes.", "import", "socket.", "shutil.")

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self.note)  # for ever: there is no way to take one off

    def note(self, event, arguments):
        if self.on and event.startswith(self.FORBIDDEN):
            self.seen.append((event, arguments))


WATCH = Watch()


@pytest.fixture
def refuse(tmp_path, read):
    """Return a function that reads a hostile file: nothing runs, memory is bounded, and what is said is a line."""
    for kind in WRITERS.values():
        read(state_dict_file({"w": BASE}, kind))  # what is imported at the first file is imported
    path = tmp_path / "w.pth"

    def refuse(content, measured=True):
        path.write_bytes(content)
        WATCH.seen.clear()
        if measured:
            tracemalloc.start()
        WATCH.on = True
        message = None
        try:
            found = read_tensors(path)
            assert all(array.size <= len(content) for array in found.values())
        except UserError as error:
            message = str(error)
        finally:
            WATCH.on = False
            peak = tracemalloc.get_traced_memory()[1] if measured else 0
            tracemalloc.stop()
        assert WATCH.seen == []
        assert peak < 8 * len(content) + 200 * min(len(content), 10**6) + 2**20
        assert message is None or ("\n" not in message and len(message) < 600 and message.isprintable())
        return message

    return refuse


@pytest.mark.parametrize("case", PICKLES)
def test_a_hostile_pickle(case, writer, refuse, tmp_path):
    content, expected = PICKLES[case]
    message = refuse(writer(content, {"0": BASE} if b"Storage" in content else {}))
    if expected is None:
        assert message is None or "cannot be read" in message
    else:
        assert message is not None
        assert expected in message
        assert "'" + str(tmp_path / "w.pth") in message


@pytest.mark.parametrize("measured", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_more_steps_than_any_network_takes(measured, writer, refuse):
    content = within(b"}U\x01a](" + b"}" * 1_100_000 + b"es")
    assert "more than 1,000,000 steps" in refuse(writer(content, {}), measured)


def test_items_taken_from_one_list_again_and_again(writer, refuse):
    items = b"](" + b"](U\x01aK\x01e" * 3000 + b"eq\x00"
    content = within(b"}U\x01a](" + items + b"ccollections\nOrderedDict\nh\x00\x85R" * 3000 + b"es")
    assert "more than 1,000,000 steps" in refuse(writer(content, {}))


def overlapping():
    """Return an archive whose directory has one record a thousand times, under other names."""
    content = archive(pickled(GOOD), {"0": np.zeros(10**5, np.uint8)})
    start = content.index(b"PK\1\2")
    entries = content[start : content.index(b"PK\5\6")]
    entry = next(b"PK\1\2" + part for part in entries.split(b"PK\1\2")[1:] if b"data/0" in part)
    many = entries + b"".join(entry.replace(b"w/data/0", b"x/%06d" % index) for index in range(10**3))
    count = len(many.split(b"PK\1\2")) - 1
    return content[:start] + many + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(many), start, 0)


def repeated():
    """Return an archive with two records of one name."""
    return archive(pickled(GOOD), {"0": BASE, "1": BASE}).replace(b"w/data/1", b"w/data/0")


ARCHIVES = {
    "deflated": (lambda: archive(pickled(GOOD), {"0": BASE}, compression=zipfile.ZIP_DEFLATED), "a compressed record"),
    "a bomb": (
        lambda: archive(pickled(GOOD), {"0": np.zeros(10**7, np.uint8)}, compression=zipfile.ZIP_BZIP2),
        "larger than the file",
    ),
    "one record many times": (overlapping, "cannot be read|larger than the file"),
    "two records of one name": (repeated, "two records of one name"),
    "big-endian": (lambda: archive(pickled(GOOD), {"0": BASE}, byteorder=b"big"), "big-endian numbers"),
    "a storage too short": (lambda: archive(pickled(GOOD), {"0": BASE[:59]}), "has 236 bytes, not 60 elements"),
    "a storage too long": (lambda: archive(pickled(GOOD), {"0": BASE.astype(np.float64)}), "has 480 bytes"),
    "no storage": (lambda: archive(pickled(GOOD), {}), "no item named"),
    "a path out of the archive": (lambda: archive(pickled(GOOD), {"0": BASE}, root="../w"), "none of torch's"),
    "a program": (
        lambda: archive(pickled(GOOD), {"0": BASE, "xxxxxxxx": BASE}).replace(b"data/xxxxxxxx", b"constants.pkl"),
        "a TorchScript archive",
    ),
    "another archive": (lambda: archive(b"", {}).replace(b"w/data.pkl", b"w/data.txt"), "none of torch's"),
    "an empty archive": (lambda: b"PK\5\6" + bytes(18), "cannot be read"),
    "a directory that is not there": (lambda: archive(pickled(GOOD), {"0": BASE})[:-30], "cannot be read"),
    "a damaged record": (lambda: archive(pickled(GOOD), {"0": BASE}).replace(BASE[50:].tobytes(), bytes(40)), "CRC"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_hostile_archive(case, refuse):
    make, expected = ARCHIVES[case]
    message = refuse(make())
    assert message is None if expected is None else any(part in message for part in expected.split("|")), message


def sequences():
    whole = sequence(pickled(GOOD), {"0": BASE})
    yield "cut in the numbers", whole[:-1], "storage '0' is not whole"
    yield "cut before the numbers", whole[: -len(BASE.tobytes()) - 8], "storage '0' is not whole"
    yield "cut in the pickle", whole[:200], "cannot be read"
    yield "empty", b"", "cannot be read"
    yield "another magic number", whole.replace(pickled(MAGIC), pickled(MAGIC + 1)), "neither of torch's two kinds"
    yield "another protocol", whole.replace(pickled(PROTOCOL), pickled(PROTOCOL + 1)), "neither of torch's two kinds"
    yield "big-endian", sequence(pickled(GOOD), {"0": BASE}, little_endian=False), "big-endian numbers"
    yield "another size", whole.replace(struct.pack("<q", 60), struct.pack("<q", 59)), "is not whole"
    yield "a size below 0", whole.replace(struct.pack("<q", 60), struct.pack("<q", -60)), "is not whole"
    yield "a storage that none has", sequence(pickled(GOOD), {"1": BASE}), "cannot be read"
    yield "too many storages", sequence(pickled(GOOD), {"0": BASE, "1": BASE}), "another number of storages"
    yield "too few storages", sequence(pickled(GOOD), {}), "cannot be read"
    yield "Python's own pickle", pickle.dumps({"w": 1}), "neither of torch's two kinds"
    yield "text", b"version https://git-lfs.github.com/spec/v1\n", "cannot be read"
    yield "a page", b"<!DOCTYPE html>", "cannot be read"


@pytest.mark.parametrize(("content", "expected"), [pytest.param(*row, id=name) for name, *row in sequences()])
def test_a_hostile_sequence(content, expected, refuse):
    assert expected in refuse(content)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files(count, refuse):
    """Bytes that are other ones, missing, doubled or moved: nothing runs, and what is said is a line."""
    rng = np.random.default_rng(count)
    seeds = [
        writer(pickled({"state_dict": {name: tensor(view, BASE, "0") for name, view in VIEWS.items()}}), {"0": BASE})
        for writer in WRITERS.values()
    ]
    seeds += [state_dict_file({dtype: array_of(dtype) for dtype in KINDS}, writer) for writer in WRITERS.values()]
    read_again = 0
    for index in range(count):
        content = bytearray(seeds[index % len(seeds)])
        for _ in range(rng.integers(1, 6)):
            start, length = int(rng.integers(len(content))), int(rng.integers(1, 9))
            what = rng.integers(5)
            if what == 0:
                content[start] = rng.integers(256)
            elif what == 1:
                del content[start : start + length]
            elif what == 2:
                content[start:start] = content[start : start + length]
            elif what == 3:
                content[start : start + length] = rng.bytes(length)
            else:
                other = int(rng.integers(len(content)))
                content[start : start + length] = content[other : other + length]
        read_again += refuse(bytes(content), measured=index % 10 == 0) is None
    assert 0 < read_again < count
