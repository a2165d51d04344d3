"""Weights to and from files and keras.applications, and what must not be loaded."""

import functools
import http.server
import os
import shutil
import socket
import threading
import time
import zipfile
from urllib.parse import urljoin

import h5py
import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

import kcnn
from kcnn.errors import UserError
from kcnn.models.spec import MODELS
from kcnn.weights import copy_weights, find_imagenet, imagenet, load_weights, save_weights
from kcnn.weights.copy import weighted_layers

NAME = "mobilenetv2_0.35"


def build(classes=5, size=32, name=NAME, seed=0, **design):
    """Build a small network with weights and moving statistics that are nobody else's."""
    model = kcnn.create_model(name, classes, size, **design)
    scramble(model, seed)
    return model


def scramble(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))


def application(classes=5, seed=1, **arguments):
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=classes, **arguments
    )
    scramble(model, seed)
    return model


def assert_same_weights(a, b):
    for first, second in zip(weighted_layers(a), weighted_layers(b), strict=True):
        for x, y in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)


def save_as_keras_did(model, path, names=lambda layer: layer.name):
    """Write the layout of keras.applications' `.h5` files, which Keras 3 reads and no longer writes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [names(layer).encode() for layer in model.layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for layer in model.layers:
            group = file.create_group(names(layer))
            keys = [f"{names(layer)}/{v.name}:0".encode() for v in layer.weights]
            group.attrs["weight_names"] = keys or np.zeros(0)
            for key, value in zip(keys, layer.get_weights(), strict=True):
                group[key.decode()] = value


@pytest.fixture(autouse=True)
def clean():
    yield
    keras.backend.clear_session()


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".keras"])
def test_files_round_trip(ending, tmp_path):
    model, path = build(), tmp_path / f"weights{ending}"
    {".safetensors": save_weights, ".weights.h5": keras.Model.save_weights, ".keras": keras.Model.save}[ending](
        model, path
    )
    again = build(seed=9)
    report = kcnn.load_weights(again, path)
    assert_same_weights(again, model)
    assert report.kept == ()
    assert str(report) == f"{path}: {len(weighted_layers(model))} layers"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".keras"])
def test_a_head_for_other_classes_is_kept(ending, tmp_path):
    model, path = build(classes=7), tmp_path / f"weights{ending}"
    {".safetensors": save_weights, ".weights.h5": keras.Model.save_weights, ".keras": keras.Model.save}[ending](
        model, path
    )
    again = build(classes=5, seed=9)
    head = again.get_layer("head_logits").get_weights()
    report = load_weights(again, path)
    assert report.kept == ("head_logits",)
    assert str(report).endswith("layers, head_logits as initialised")
    for a, b in zip(head, again.get_layer("head_logits").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for layer in weighted_layers(again)[:-1]:
        for a, b in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_safetensors_are_named_by_layer_and_variable(tmp_path):
    from safetensors.numpy import load_file

    model = build()
    save_weights(model, tmp_path / "w.safetensors")
    tensors = load_file(tmp_path / "w.safetensors")
    assert len(tensors) == len(model.weights)
    np.testing.assert_array_equal(
        tensors["stage3_block2_expand_norm/moving_variance"],
        model.get_layer("stage3_block2_expand_norm").moving_variance,
    )


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    model, path = build(), tmp_path / "w.safetensors"
    save_weights(model, path)
    before = path.read_bytes()
    (tmp_path / "w.safetensors.partial").mkdir()  # makes writing fail
    with pytest.raises(Exception, match=r"directory|rename|Error"):
        save_weights(build(seed=4), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("include_top", [True, False])
def test_a_built_application(include_top):
    theirs, ours = application(include_top=include_top), build()
    report = load_weights(ours, theirs)
    assert report.kept == (() if include_top else ("head_logits",))
    if include_top:
        assert_same_weights(ours, theirs)


def test_to_an_application_without_a_classifier_or_with_another():
    ours = build()
    assert copy_weights(ours, application(include_top=False)).kept == ()
    assert copy_weights(ours, application(classes=9)).kept == ("predictions",)


def test_kinds_must_agree_not_only_shapes():
    inputs = keras.Input((8, 8, 4))
    a = keras.Model(inputs, keras.layers.Conv2D(1, 3, use_bias=False, name="a")(inputs))
    b = keras.Model(inputs, keras.layers.DepthwiseConv2D(3, use_bias=False, name="b")(inputs))
    assert a.weights[0].shape == b.weights[0].shape
    with pytest.raises(UserError, match=r"has b .* where the source has a "):
        copy_weights(a, b)


def test_branches_pair_by_connection_not_by_order_of_making():
    def build(names):
        inputs = keras.Input((8, 8, 4))
        made = {name: keras.layers.Conv2D(4, 1, use_bias=False, name=name)(inputs) for name in names}
        return keras.Model(inputs, keras.layers.Concatenate()([made["left"], made["right"]]))

    a, b = build(["left", "right"]), build(["right", "left"])
    copy_weights(a, b)
    for name in ("left", "right"):
        np.testing.assert_array_equal(*(m.get_layer(name).kernel for m in (a, b)))


# What the layers with weights of the classifier were called by the releases of Keras that wrote the files.
CLASSIFIERS = ["predictions", "Logits", "probs", "fc1000"]


@pytest.mark.parametrize(("classifier", "classes"), zip(CLASSIFIERS, [1000, 7, 1000, 7], strict=True))
def test_legacy_files_of_applications(classifier, classes, tmp_path):
    theirs, path = application(classes=classes), tmp_path / "theirs.h5"
    save_as_keras_did(theirs, path, lambda layer: classifier if layer.name == "predictions" else layer.name)
    ours = build(classes=1000)
    report = load_weights(ours, str(path))
    if classes == 1000:
        assert_same_weights(ours, theirs)
    else:
        assert report.kept == ("head_logits",)


def test_legacy_files_without_a_classifier(tmp_path):
    theirs, path = application(include_top=False), tmp_path / "theirs_notop.h5"
    save_as_keras_did(theirs, path)
    ours = build()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert load_weights(ours, path).kept == ("head_logits",)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(ours.get_layer("stem_conv").kernel, theirs.get_layer("Conv1").kernel)


@functools.cache
def stranger():
    return build(name="resnet18")


def unfit(case, folder):
    """Make a source that does not fit; return it, and what the message must say."""
    path = folder / f"w.{case.split()[-1]}"
    if case == "missing safetensors":
        return path, "there is no such file"
    if case == "wrong txt":
        path.write_text("1 2 3")
        return path, "expected a file ending in .safetensors"
    if case.startswith("garbage"):
        path.write_bytes(b"not what the name says" * 100)
        return path, "cannot be read"
    if case.startswith("empty"):
        path.write_bytes(b"")
        return path, "cannot be read"
    if case == "truncated safetensors":
        save_weights(build(), path)
        os.truncate(path, path.stat().st_size // 2)
        return path, "cannot be read"
    if case == "truncated weights.h5":
        build().save_weights(path)
        os.truncate(path, path.stat().st_size // 2)
        return path, "cannot be read"
    if case == "hollow keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
        return path, "cannot be read"
    if case == "stranger safetensors":
        save_weights(stranger(), path)
        return path, "do not fit mobilenetv2_0.35: layer stem_conv takes"
    if case == "stranger weights.h5":
        stranger().save_weights(path)
        return path, "do not fit mobilenetv2_0.35: layer stem_conv takes"
    if case == "wider safetensors":
        save_weights(build(width=0.5), path)
        return path, "do not fit mobilenetv2_0.35: layer stage"
    if case == "biased safetensors":
        from safetensors.numpy import load_file, save_file

        save_weights(build(), path)
        save_file({**load_file(path), "stem_conv/bias": np.zeros(16, np.float32)}, path)
        return path, "do not fit mobilenetv2_0.35: layer stem_conv takes"
    if case == "longer safetensors":
        from safetensors.numpy import load_file, save_file

        save_weights(build(), path)
        save_file({**load_file(path), "stage9_conv/kernel": np.zeros(16, np.float32)}, path)
        return path, "it has no layer stage9_conv"
    if case == "stranger h5":
        save_as_keras_did(keras.applications.VGG16(input_shape=(32, 32, 3), weights=None, include_top=False), path)
        return path, "do not fit mobilenetv2_0.35"
    if case == "own h5":
        with h5py.File(path, "w") as file:
            file["kernel"] = np.zeros((3, 3))
        return path, "not a weights file of keras.applications"
    if case == "linked weights.h5":
        other = folder / "other.h5"
        build().save_weights(folder / "w.weights.h5")
        shutil.copy(path, other)
        with h5py.File(path, "a") as file:
            group = file["layers/conv2d/vars"]
            del group["0"]
            group["0"] = h5py.ExternalLink("other.h5", "layers/conv2d/vars/0")
        return path, "is a link"
    assert case == "stranger model"
    return stranger(), "the weights of resnet18 do not fit mobilenetv2_0.35: it has stem_conv"


CASES = [
    "missing safetensors", "wrong txt", "garbage safetensors", "garbage weights.h5", "garbage keras", "garbage h5",
    "empty safetensors", "empty weights.h5", "empty keras", "empty h5", "truncated safetensors", "truncated weights.h5",
    "hollow keras", "stranger safetensors", "stranger weights.h5", "wider safetensors", "biased safetensors",
    "longer safetensors", "stranger h5", "own h5", "linked weights.h5", "stranger model",
]  # fmt: skip


@functools.cache
def victim():
    return build(seed=3)


@pytest.mark.parametrize("case", CASES)
def test_unfit_weights_leave_the_model_as_it_was(case, tmp_path):
    source, message = unfit(case, tmp_path)
    before = victim().get_weights()
    with pytest.raises(UserError) as error:
        load_weights(victim(), source)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    for a, b in zip(before, victim().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_create_model_with_weights_is_the_same_graph(tmp_path):
    save_weights(build(), tmp_path / "w.safetensors")
    with_weights = kcnn.create_model(NAME, 5, 32, weights=tmp_path / "w.safetensors")
    assert with_weights.get_config() == kcnn.create_model(NAME, 5, 32).get_config()
    assert_same_weights(with_weights, build())


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Serve a storage of the Keras project on this machine, with one file; yield what it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "served")

        def log_message(self, *_):
            asked.append(self.path)

    file = tmp_path / "served" / kcnn.model_spec(NAME).application.imagenet
    file.parent.mkdir(parents=True)
    save_as_keras_did(application(classes=1000), file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(imagenet, "_URL", f"http://127.0.0.1:{server.server_port}/")
        yield asked
        server.shutdown()
        thread.join()


def test_imagenet_is_fetched_once_and_then_cached(storage, tmp_path):
    spec = kcnn.model_spec(NAME)
    assert find_imagenet(spec, offline=True) is None
    assert storage == []
    with pytest.raises(UserError, match=r"not in .*models, and offline"):
        load_weights(build(), "imagenet", offline=True)
    path = find_imagenet(spec)
    assert path == tmp_path / "home" / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224.h5"
    ours = build(classes=1000, size=224)
    assert load_weights(ours, "imagenet").kept == ()
    assert_same_weights(ours, application(classes=1000))
    assert find_imagenet(spec, offline=True) == path
    assert len(storage) == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("efficientnetv2b0", "nasnetmobile") else pytest.mark.slow)
        for name in MODELS
        if MODELS.get(name).application
    ],
)
def test_a_file_is_where_keras_has_it(name, tmp_path, monkeypatch):
    class Fetched(Exception):
        pass

    def fetch(file, address, *, cache_subdir, file_hash=None):
        path = tmp_path / cache_subdir / file
        path.parent.mkdir()
        path.touch()
        raise Fetched(path, address, file_hash)

    monkeypatch.setattr(file_utils, "get_file", fetch)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    spec = kcnn.model_spec(name)
    with pytest.raises(Fetched) as fetched:
        getattr(keras.applications, spec.application.function)(weights="imagenet", **spec.application.arguments)
    address = urljoin(imagenet._URL, spec.application.imagenet)
    assert (find_imagenet(spec, offline=True), address, spec.application.file_hash) == fetched.value.args
    keras.backend.clear_session(free_memory=True)


def test_a_download_that_fails_is_no_weights(storage):
    spec = kcnn.model_spec("mobilenetv2_0.5")  # the storage has no such file
    assert find_imagenet(spec) is None
    assert find_imagenet(kcnn.model_spec("resnet18")) is None  # nor keras.applications such a network
    with pytest.raises(UserError, match=r"resnet18: keras\.applications has none"):
        load_weights(stranger(), "imagenet")


def test_a_damaged_file_in_the_cache(storage):
    path = find_imagenet(kcnn.model_spec(NAME))
    os.truncate(path, 1000)
    with pytest.raises(UserError, match=r"_224.h5' cannot be read"):
        load_weights(build(), "imagenet")


def test_no_host_is_found_out_soon(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(imagenet, "_PATIENCE", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        monkeypatch.setattr(imagenet, "_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        assert find_imagenet(kcnn.model_spec(NAME)) is None
        with pytest.raises(UserError, match=r"127.0.0.1 cannot be reached"):
            load_weights(build(), "imagenet")
        released = threading.Event()

        def hang(*_, **__):
            """Wait like a name server that does not answer."""
            released.wait(30)
            raise OSError

        monkeypatch.setattr(socket, "create_connection", hang)
        start = time.monotonic()
        assert find_imagenet(kcnn.model_spec(NAME)) is None
        assert time.monotonic() - start < 5
        released.set()
