"""Every registered architecture: its table, its names, its gradients, its files."""

import csv
import importlib
import inspect
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import REPRESENTATIVE, SMALLEST, answers_and_rounding, by_default, calibrate, images, randomize, small

import kcnn
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.models.spec import MODELS, stages
from kcnn.nn.convolutions import GroupedConv, PointwiseConv
from kcnn.nn.layers import LowestPadding
from kcnn.nn.normalization import BatchNorm
from kcnn.serving.export import precision
from kcnn.serving.export.folding import fold
from kcnn.serving.export.network import as_function, freeze

# Without the networks of 450 to 800 layers, which take a minute in a test that builds them again.
EVERY = by_default(MODELS, set(SMALLEST.values()) - {"inceptionresnetv2", "inceptionv4", "nasnetmobile"})
FEW = by_default(SMALLEST.values(), REPRESENTATIVE)


def published():
    """Yield the rows of published/*.csv: figures of papers and of other projects.

    Parameters and multiply-adds in millions, top-1 and top-5 accuracy in percent.
    """
    for path in sorted(Path(__file__).with_name("published").glob("*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                spec = MODELS.get(row["model"])
                size, slow = int(row["input_size"] or spec.input_size), []
                if row["quantity"] == "macs" and size != spec.input_size and spec.name not in SMALLEST.values():
                    slow = [pytest.mark.slow]  # it has to be built
                figures = (row["quantity"], size, float(row["value"]), float(row["tolerance"]), row["source"])
                yield pytest.param(spec, *figures, marks=slow, id=f"{spec.name}-{row['quantity']}-{row['source']}")


@pytest.fixture(autouse=True)
def float32():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module", params=EVERY)
def network(request):
    """Build one architecture at its smallest, once for all tests of it."""
    model = small(request.param)
    yield model
    keras.backend.clear_session(free_memory=True)


@pytest.mark.parametrize("name", EVERY)
def test_counts_are_the_tables(name):
    spec, model = kcnn.model_spec(name), kcnn.create_model(name)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == spec.params
    assert kcnn.macs(model) == spec.macs
    keras.backend.clear_session(free_memory=True)


@pytest.mark.parametrize(("spec", "quantity", "size", "value", "tolerance", "source"), published())
def test_figures_are_the_published_ones(spec, quantity, size, value, tolerance, source):
    if quantity in ("top1", "top5"):
        found = getattr(spec, quantity)
    elif quantity == "params":
        found = spec.params / 1e6
    elif size == spec.input_size:
        found = spec.macs / 1e6
    else:
        found = kcnn.macs(kcnn.create_model(spec.name), size) / 1e6
    assert found == pytest.approx(value, abs=tolerance), source


@pytest.mark.parametrize("name", MODELS)
def test_a_row_has_its_name_in_full_in_the_file_of_its_family(name):
    source = Path(importlib.import_module(MODELS.module(name)).__file__).read_text(encoding="utf-8")
    assert f'"{name}",' in source


def test_names_begin_with_the_stage(network):
    found = stages(network)
    assert [stage for stage in found if not stage.startswith("stage")] in (
        ["preprocess", "stem", "head"], ["preprocess", "head"], ["stem", "head"], ["head"],
    )  # fmt: skip
    numbered = [stage for stage in found if stage.startswith("stage")]
    assert numbered == [f"stage{index}" for index in range(1, len(numbered) + 1)]
    assert network.get_layer("head_logits").output.shape[-1] == 5
    order = [layer.name.split("_")[0] for layer in network.layers if layer.name != "images"]
    assert [found.index(stage) for stage in order] == sorted(found.index(stage) for stage in order)


def test_every_variable_learns(network):
    """From weights at random: where a layer's scale starts at zero, what it scales has no gradient yet."""
    randomize(network, 5)
    names = {layer.name for layer in network.layers}
    labels = np.eye(5, dtype=np.float32)[[0, 3, 1, 4]]
    variables = [variable.value for variable in network.trainable_variables]
    largest = np.zeros(len(variables))
    for _ in range(3):  # stochastic depth drops a block for all four images now and then
        with tf.GradientTape() as tape:
            loss = keras.losses.CategoricalCrossentropy(from_logits=True)(
                labels, network(images(network, 4), training=True)
            )
        largest = np.maximum(largest, [np.abs(gradient).max() for gradient in tape.gradient(loss, variables)])
        if largest.all():
            break
    for variable, gradient in zip(network.trainable_variables, largest, strict=True):
        assert np.isfinite(gradient), variable.path
        # Batch norm takes away what a bias before it adds: nothing but rounding is left of its gradient.
        redundant = variable.name == "bias" and f"{variable.path.split('/')[0]}_norm" in names
        assert gradient > 0 or redundant, variable.path


def test_feature_maps_by_stride(network):
    name, size = network.name, network.input_shape[1:3]
    found = kcnn.create_model(name, input_size=size, features_only=True)
    assert not any(layer.name.startswith("head_") for layer in found.layers)
    maps = found.output
    strides = [int(key.removeprefix("stride")) for key in maps]
    assert strides == sorted(set(strides))
    assert set(strides) <= {2, 4, 8, 16, 32}
    assert len(strides) >= 2
    for stride, tensor in zip(strides, maps.values(), strict=True):
        # Without padding a few positions are lost at each layer, from the borders.
        assert 0 < tensor.shape[1] <= -(-size[0] // stride), stride
        assert len(tensor.shape) == 4


@pytest.mark.parametrize("network", FEW, indirect=True)
def test_keras_files_keep_the_model(network, tmp_path):
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    pixels = images(network)
    np.testing.assert_allclose(again(pixels), network(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", FEW, indirect=True)
def test_the_graph_of_an_export_answers_as_the_model(network):
    pixels = images(network, 8)
    randomize(network, 6)
    calibrate(network, pixels)
    expected, tolerance = answers_and_rounding(network, pixels)
    found = as_function(fold(freeze(network)))[0](tf.constant(pixels))[0]
    assert np.abs(found - expected).max() <= tolerance <= 5e-3 * np.abs(expected).max()


@pytest.mark.slow
def test_exports_answer_as_the_model(network, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "WORTH_SECONDS", math.inf)  # in float32
    # Constants are copied by many steps of the export; those of the larger networks are variables here.
    monkeypatch.setattr("kcnn.serving.export.network.CONSTANT_BYTES", 2**24)
    size, pixels = network.input_shape[1:3], images(network, 8)
    randomize(network, 6)
    calibrate(network, pixels)
    logits, largest = network.get_layer("head_logits"), np.abs(network(pixels)).max()
    logits.set_weights([value / largest for value in logits.get_weights()])  # so that no class takes all
    expected, tolerance = answers_and_rounding(network, pixels)  # a softmax makes no difference larger
    if tolerance > 5e-3 * np.abs(expected).max():
        pytest.skip("so deep, with random weights, that the last bit of the pixels changes its answers")
    kcnn.export_classifier(network, tmp_path / "1", list("abcde"), Preprocessing(size, crop_fraction=1.0))
    signature = tf.saved_model.load(str(tmp_path / "1")).signatures["images"]
    found = signature(images=tf.cast(pixels, tf.uint8))["probabilities"]
    assert np.abs(found - tf.nn.softmax(expected)).max() <= tolerance


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FEW)
def test_any_shape_and_precision(name, policy):
    """Images that are not square, uint8 or float; logits in float32 whatever the precision inside."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)  # of some draws float16 is too narrow for the widest activations
    size = MODELS.get(name).min_size
    model = kcnn.create_model(name, 5, (size, size + 33))
    pixels = images(model)
    calibrate(model, pixels)  # with the initial statistics, float16 is too narrow for the deepest networks
    logits = model(pixels)
    assert logits.shape == (2, 5)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    assert any(layer.compute_dtype == policy.removeprefix("mixed_") for layer in model.layers)
    np.testing.assert_allclose(logits, model(pixels.astype(np.uint8)), rtol=1e-6)
    keras.backend.clear_session(free_memory=True)


STOCK = ["mobilenetv2_0.35", "inceptionv3", "resnet50", "resnext50_32x4d"]


def stock(layer):
    """Return the layer of Keras that a layer of this project extends, where they compute the same."""
    if isinstance(layer, LowestPadding):
        return layer
    kind = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("keras."))
    return kind.from_config(layer.get_config()) if kind is not keras.layers.Layer else layer


@pytest.mark.parametrize("name", by_default(STOCK, ("mobilenetv2_0.35",)))
def test_a_training_step_is_that_of_stock_layers(name):
    """Loss, gradients and moving statistics of training mode, where this project's layers take ways of their own.

    With a smooth activation: one input that rounding moves over the kink of a ReLU changes all gradients by a percent,
    in Keras' own layers too when they are held against float64.
    """
    ours = small(name, dropout=0.0, activation="silu")
    theirs = keras.models.clone_model(ours, clone_function=stock)
    own = BatchNorm | PointwiseConv | GroupedConv
    assert any(isinstance(layer, own) for layer in ours.layers)
    assert not any(isinstance(layer, own) for layer in theirs.layers)
    randomize(ours, 4)
    theirs.set_weights(ours.get_weights())
    pixels = images(ours, 8)
    labels = np.eye(5, dtype=np.float32)[np.arange(8) % 5]
    losses, gradients = [], []
    for model in (theirs, ours):
        with tf.GradientTape() as tape:
            loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, model(pixels, training=True))
        losses.append(float(loss))
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    whole = np.concatenate([np.ravel(gradient) for gradient in gradients[0]])
    difference = np.concatenate([np.ravel(a - b) for a, b in zip(*gradients, strict=True)])
    assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(whole)
    for variable, expected in zip(ours.weights, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-3, atol=1e-4, err_msg=variable.path)


def test_biases_are_what_sets_resnet50_apart_from_torchvision():
    model = kcnn.create_model("resnet50")
    biases = sum(layer.bias.shape[0] for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert kcnn.model_spec("resnet50").params - biases == 25_557_032


def test_names_are_forgiven_and_misses_suggested():
    assert kcnn.model_spec("MobileNet_V2") is kcnn.model_spec("mobilenetv2")
    assert kcnn.model_spec("ResNet-50").name == "resnet50"
    assert kcnn.model_spec("Inception_v3").name == "inceptionv3"
    with pytest.raises(UserError, match="did you mean 'resnet50'"):
        kcnn.create_model("resnet5")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mobilenetv2", {"input_size": 31}, "at least 32"),
        ("inceptionv3", {"input_size": (299, 64)}, "at least 75 pixels a side, got 299x64"),
        ("vgg11", {"drop_path": 0.1}, "vgg11 has no design argument 'drop_path'"),
        ("vgg11", {"norm": "batch"}, "no design argument 'norm'"),
        ("resnet18", {"width": 0.5}, "no design argument 'width'"),
        ("mobilenetv2", {"widht": 0.5}, "did you mean 'width'"),
        ("mobilenetv2", {"dropout": 1.0}, "dropout 1.0: expected a number from 0 to less than 1"),
        ("mobilenetv2", {"norm": "bach"}, "did you mean 'batch'"),
        ("mobilenetv2", {"width": -1}, "width -1: expected a number above 0"),
        ("mobilenetv2", {"width": "wide"}, "width 'wide': expected a number above 0"),
        ("mobilenetv2", {"norm_epsilon": 0}, "no design argument 'norm_epsilon'"),
        ("resnet18", {"norm_epsilon": 0}, "norm_epsilon 0: expected a number above 0"),
        ("resnet18", {"activation": "rellu"}, "activation 'rellu': did you mean 'relu'"),
        ("resnet18", {"kernel_initializer": "he_norml"}, "kernel_initializer 'he_norml': did you mean 'he_normal'"),
        ("resnet18", {"num_classes": 0}, "num_classes is 0"),
        ("resnet18", {"input_size": "big"}, "input_size 'big': expected"),
        ("resnet18", {"input_size": (64, 64, 3)}, "expected a whole number of pixels"),
    ],
)
def test_mistakes(name, arguments, message):
    with pytest.raises(UserError, match=message):
        kcnn.create_model(name, **arguments)


@pytest.mark.parametrize("norm", ["group", "layer", "none", "sync_batch"])
def test_designs_reach_every_block(norm):
    model = small("resnet18", norm=norm, activation="silu", drop_path=0.3, dropout=0.4)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert ("BatchNorm" in kinds) == (norm == "sync_batch")
    assert kinds.count("GroupNormalization") == (20 if norm in ("group", "layer") else 0)
    activations = {layer.activation.__name__ for layer in model.layers if layer.name.endswith("_act")}
    assert activations == {"silu"}
    rates = [layer.rate for layer in model.layers if layer.name.endswith("_drop_path")]
    np.testing.assert_allclose(rates, 0.3 * np.arange(1, 9) / 8)
    assert model.get_layer("head_dropout").rate == 0.4


def test_batch_norm_has_the_momentum_asked_for():
    for design, momentum in (({}, 0.99), ({"bn_momentum": 0.9}, 0.9)):
        model = small("mobilenetv2_0.35", **design)
        norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
        assert {layer.momentum for layer in norms} == {momentum}
        assert len(norms) == 52


def test_any_width():
    narrow, wide = (small("mobilenetv2", width=width) for width in (0.6, 0.35))
    assert narrow.count_params() > wide.count_params()
    assert [v.shape for v in wide.weights] == [v.shape for v in small("mobilenetv2_0.35").weights]


def test_public_functions_are_documented():
    for function in (kcnn.create_model, kcnn.list_models, kcnn.model_spec, kcnn.load_weights, kcnn.macs):
        assert inspect.getdoc(function)
