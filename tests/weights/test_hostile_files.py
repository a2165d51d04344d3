"""Weights files built to cost far more than they weigh: they are refused by what they declare, before it is read."""

import contextlib
import functools
import json
import os
import shutil
import struct
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from test_weights import NAME, application, assert_same_weights, build, save_as_keras_did

from kcnn.errors import UserError
from kcnn.weights import load_weights, save_weights, stored

MANY = 750_000_000  # numbers, of 2.8 GiB
KERNEL = (3, 3, 3, 16)  # of the stem
STEM = "layers/conv2d/vars"


@functools.cache
def victim():
    return build(seed=3)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return the folder of a sound file of each kind, whose weights are those of `build()`."""
    folder, model = tmp_path_factory.mktemp("good"), build()
    model.save_weights(folder / "w.weights.h5")
    model.save(folder / "w.keras")
    save_weights(model, folder / "w.safetensors")
    save_as_keras_did(application(), folder / "w.h5")
    return folder


@contextlib.contextmanager
def bounded(mebibytes=48):
    """Check that Python and numpy take little memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()


def refused(path, message):
    before = victim().get_weights()
    with bounded(), pytest.raises(UserError) as error:
        load_weights(victim(), path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1500
    for a, b in zip(before, victim().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def declared(group, shape, **options):
    """Put an array that only declares its numbers in the place of the first."""
    group.pop("0", None)
    group.create_dataset("0", shape=shape, dtype="f4", **options)


def filtered(group):
    """Put an array of the right shape there whose one chunk of 1 GiB is compressed."""
    del group["0"]
    chunk = (3, 3, 3, 10_000_000)
    data = group.create_dataset("0", KERNEL, "f4", chunks=chunk, maxshape=(3, 3, 3, None), compression="gzip")
    data.id.write_direct_chunk((0, 0, 0, 0), b"\x78\x9c\x03\x00\x00\x00\x00\x01")


def external(group):
    del group["0"]
    group.create_dataset("0", KERNEL, "f4", external=[("/etc/passwd", 0, 1728)])


def virtual(group):
    del group["0"]
    layout = h5py.VirtualLayout(KERNEL, "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", KERNEL)
    group.create_virtual_dataset("0", layout)


def linked(link):
    def change(group):
        del group["0"]
        group["0"] = link

    return change


def replaced(data, **options):
    def change(group):
        del group["0"]
        group.create_dataset("0", data=data, **options)

    return change


def words(group):
    del group["0"]
    group.create_dataset("0", KERNEL, h5py.string_dtype())
    group["0"][...] = "1" * 1000


def deep(group):
    for _ in range(stored.DEPTH):
        group = group.create_group("x")


def circle(group):
    group["again"] = group.file["layers"]


def branching(group):
    """Add groups that have each other as two members, two to the power of their number on the whole."""
    for level in range(stored.DEPTH - 4):
        below = group.file.create_group(f"level{level}")
        group["a"] = group["b"] = below
        group = below


def named(name):
    def change(group):
        group.attrs["name"] = name

    return change


def added(name):
    def change(group):
        other = group.file.create_group("layers/other/vars")
        other.attrs["name"] = name
        declared(other, (MANY,), chunks=(1024,), fillvalue=1)

    return change


HDF5 = {
    "numbers by fill value": (
        lambda group: declared(group, (MANY,), chunks=(1024,), fillvalue=1.0),
        "layer stem_conv takes [[3, 3, 3, 16]], the file has [[750000000]]",
    ),
    "numbers that are not there": (lambda group: declared(group, (MANY,)), "the file has [[750000000]]"),
    "no numbers at all, and many": (
        lambda group: declared(group, (0, 2**60)),
        "the file has [[0, 1152921504606846976]]",
    ),
    "the right shape without numbers": (lambda group: declared(group, KERNEL), "which the file has not"),
    "the right shape by fill value": (lambda group: declared(group, KERNEL, fillvalue=1), "which the file has not"),
    "a chunk of 1 GiB": (filtered, "is stored in chunks"),
    "external storage": (external, "is stored in another file"),
    "a virtual array": (virtual, "is stored in another file"),
    "an external link": (linked(h5py.ExternalLink("/dev/zero", "/")), "is a link"),
    "a soft link": (linked(h5py.SoftLink("/layers/conv2d/vars/0")), "is a link"),
    "a link to nowhere": (linked(h5py.SoftLink("/x")), "is a link"),
    "a folder": (lambda group: (group.pop("0"), group.create_group("0")), "is no array"),
    "an array of nothing": (replaced(h5py.Empty("f4")), "is no array"),
    "words": (words, "holds no numbers"),
    "records": (replaced(np.zeros(KERNEL, [("a", "f4"), ("b", "f4", 1000)])), "holds no numbers"),
    "arrays of arrays": (replaced(np.zeros(KERNEL, "V100")), "holds no numbers"),
    "complex numbers": (replaced(np.zeros(KERNEL, np.complex64)), "holds no numbers"),
    "depth": (deep, "or they lie deeper than"),
    "a circle": (circle, "or they lie deeper than"),
    "doubling": (branching, "members"),
    "a long name": (named("x" * 10**6), "more than 500 characters"),
    "a name that is a table": (named(np.zeros(100)), "is no name"),
    "many names": (named(["x"] * 100), "is no name"),
    "a number of 5,000 digits": (lambda group: group.create_dataset("9" * 5000, (1,)), "cannot be read"),
    "another layer": (added("stage9_conv"), "it has no layer stage9_conv"),
    "another layer of a long name": (added("é" * 400), "it has no layer éé"),
}


@pytest.mark.parametrize("case", HDF5)
def test_weights_h5(case, good, tmp_path):
    change, message = HDF5[case]
    path = shutil.copy(good / "w.weights.h5", tmp_path)
    with h5py.File(path, "a") as file:
        change(file[STEM])
    refused(path, message)
    if case == "numbers by fill value":
        assert os.path.getsize(path) < 2 * os.path.getsize(good / "w.weights.h5")


def test_a_head_that_is_not_taken_is_not_read(good, tmp_path):
    path, again = shutil.copy(good / "w.weights.h5", tmp_path), build(seed=9)
    with h5py.File(path, "a") as file:
        heads = [group for group in file["layers"].values() if "vars" in group]
        head = next(group["vars"] for group in heads if group["vars"].attrs.get("name") == "head_logits")
        declared(head, (MANY,), chunks=(1024,), fillvalue=1.0)
        added("head_other")(file[STEM])
    with bounded():
        assert load_weights(again, path).kept == ("head_logits",)


def same_names(path):
    """Make 3,000 names of one of a megabyte, and let all refer to it."""
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = ["x" * 10**6, *["y"] * 2999]
    content = bytearray(path.read_bytes())
    start = content.index(struct.pack("<I", 10**6))
    content[start : start + 16 * 3000] = content[start : start + 16] * 3000
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert file.attrs.get_id("layer_names").shape == (3000,)


def change_application(change):
    def build(path):
        with h5py.File(path, "a") as file:
            change(file)

    return build


def declare_first(file):
    del file["Conv1/Conv1/kernel:0"]
    file.create_dataset("Conv1/Conv1/kernel:0", (MANY,), "f4", chunks=(1024,), fillvalue=1)


def link_first(file):
    del file["Conv1"]
    file["Conv1"] = h5py.ExternalLink("/dev/zero", "/")


def one_array_many_times(file):
    file["Conv1"].attrs["weight_names"] = np.full(4000, b"Conv1/kernel:0", "S14")
    file.attrs["layer_names"] = np.full(3_000, b"Conv1", "S5")


APPLICATIONS = {
    "numbers by fill value": (change_application(declare_first), "layer Conv1 takes [[3, 3, 3, 16]], the file has [["),
    "one name many times": (same_names, "holds 3,000 names, of up to 1,0"),
    "an external link": (change_application(link_first), "Conv1 in / is a link"),
    "one array many times": (change_application(one_array_many_times), "names more than 20,000 arrays"),
    "names that are numbers": (
        change_application(lambda file: file.attrs.__setitem__("layer_names", np.ones(5))),
        "holds no names",
    ),
    "a layer that is not there": (
        change_application(lambda file: file.attrs.__setitem__("layer_names", [b"x", b"../y"])),
        "it has no x in /",
    ),
    "a layer less": (
        change_application(lambda file: file.attrs.__setitem__("layer_names", [b"Conv1", b"predictions"])),
        "layers with weights, the file has 2",
    ),
}


@pytest.mark.parametrize("case", APPLICATIONS)
def test_files_of_applications(case, good, tmp_path):
    change, message = APPLICATIONS[case]
    path = tmp_path / "w.h5"
    shutil.copy(good / "w.h5", path)
    change(path)
    refused(path, message)


def test_a_classifier_of_millions_of_classes_is_not_built(good, tmp_path):
    path, again = shutil.copy(good / "w.h5", tmp_path), build(seed=9)
    with h5py.File(path, "a") as file:
        del file["predictions/predictions/kernel:0"]
        shape = (1280, 2**40)
        file.create_dataset("predictions/predictions/kernel:0", shape, "f4", chunks=(1, 1024), fillvalue=1)
    with bounded():
        assert load_weights(again, path).kept == ("head_logits",)


def repack(source, path, compression, **members):
    """Write the files of an archive to another; a number stands for that many zeros."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            given = members.get(name.partition(".")[0], old.read(name))
            new.writestr(name, bytes(given) if isinstance(given, int) else given)


ARCHIVES = {
    "weights that unpack to a hundred times": (zipfile.ZIP_DEFLATED, {"model": 10**8}, "expected at most"),
    "a configuration that does": (
        zipfile.ZIP_DEFLATED,
        {"config": 10**8},
        "to 100,000,000; expected at most 8,388,608",
    ),
    "a long configuration": (zipfile.ZIP_STORED, {"config": b" " * 9_000_000}, "expected at most 8,388,608"),
    "LZMA, whose dictionary may have any size": (zipfile.ZIP_LZMA, {}, "is packed by method 14"),
    "bzip2": (zipfile.ZIP_BZIP2, {}, "is packed by method 12"),
    "a nested configuration": (zipfile.ZIP_STORED, {"config": b"[" * 10**6}, "cannot be read"),
    "a configuration of another kind": (
        zipfile.ZIP_STORED,
        {"config": b'{"config": {"layers": [3]}}'},
        "cannot be read",
    ),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_keras_archives(case, good, tmp_path):
    compression, members, message = ARCHIVES[case]
    repack(good / "w.keras", tmp_path / "w.keras", compression, **members)
    refused(tmp_path / "w.keras", message)


def test_an_archive_that_a_user_packed_anew(good, tmp_path):
    again = build(seed=9)
    repack(good / "w.keras", tmp_path / "w.keras", zipfile.ZIP_DEFLATED)
    load_weights(again, tmp_path / "w.keras")
    assert_same_weights(again, build())


def test_a_configuration_that_names_code(good, tmp_path):
    """Names of classes and functions are words like others."""
    with zipfile.ZipFile(good / "w.keras") as archive:
        config = json.loads(archive.read("config.json"))
    for layer in config["config"]["layers"]:
        layer.update(module="os", class_name="system", registered_name="builtins>exec", build_config={"x": "`id`"})
    config |= {"module": "subprocess", "class_name": "Popen", "compile_config": {"loss": "os.system"}}
    repack(good / "w.keras", tmp_path / "w.keras", zipfile.ZIP_STORED, config=json.dumps(config))
    again = build(seed=9)
    load_weights(again, tmp_path / "w.keras")
    assert_same_weights(again, build())


def write_safetensors(path, shapes, metadata=None):
    """Write a file of float32 tensors whose numbers take no room on the disk."""
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


SAFETENSORS = {
    "numbers that take no room": ({"stem_conv/kernel": (2 * 10**8,)}, None, "the file has [[200000000]]"),
    "another layer": ({**dict.fromkeys(["stage9/kernel"], (2 * 10**8,))}, None, "the file has no such layer"),
    "torch's names": ({"features.0.0.weight": (2 * 10**8,)}, None, "of another shape: features.0.0.weight [200000000]"),
    "a thousand axes": ({"stem_conv/kernel": (1,) * 1000}, None, "the file has [[1, 1, 1,"),
    "a nested description": ({"a/b": (1,)}, {"layers": "[" * 10**6}, "cannot be read"),
    "a long description": ({"a/b": (1,)}, {"layers": " " * 9_000_000}, "in 9,000,000 characters"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors(case, tmp_path):
    shapes, metadata, message = SAFETENSORS[case]
    write_safetensors(tmp_path / "w.safetensors", shapes, metadata)
    refused(tmp_path / "w.safetensors", message)


def test_a_head_of_safetensors_that_is_not_taken_is_not_read(good, tmp_path):
    shapes = {name: value.shape for name, value in load_file(good / "w.safetensors").items()}
    shapes |= {"head_logits/kernel": (2 * 10**8,), "head_other/kernel": (5 * 10**7,)}
    write_safetensors(tmp_path / "w.safetensors", shapes)
    with bounded():
        assert load_weights(build(seed=9), tmp_path / "w.safetensors").kept == ("head_logits",)


@pytest.mark.parametrize("ending", ["safetensors", "weights.h5", "keras", "h5", "pth", "pt"])
def test_no_file_is_larger_than_its_network_explains(ending, tmp_path):
    path = tmp_path / f"w.{ending}"
    path.touch()
    os.truncate(path, 10**11)  # that take no room on the disk
    refused(path, f"100,000,000,000 bytes; expected at most {2**30 + 64 * victim().count_params():,} for {NAME}")


@pytest.fixture(autouse=True, scope="module")
def clean():
    yield
    keras.backend.clear_session()
