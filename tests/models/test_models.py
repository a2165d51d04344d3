"""Every registered architecture, held against its own table, against Keras, and against keras.applications."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn.errors import UserError
from kcnn.models.spec import MODELS, stages
from kcnn.nn.layers import BatchNorm, PointwiseConv

SPECS = [MODELS.get(name) for name in MODELS]


def smallest_of_each_family():
    best = {}
    for spec in SPECS:
        if spec.family not in best or spec.params < best[spec.family].params:
            best[spec.family] = spec
    return [spec.name for spec in best.values()]


SMALL = smallest_of_each_family()
EVERY = [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]

# Published figures: (value, how far off it may be), in millions.
PARAMS = [
    ("vgg11", 133, 0.5),  # Simonyan & Zisserman, table 2
    ("vgg13", 133, 0.5),
    ("vgg16", 138, 0.5),
    ("vgg19", 144, 0.5),
    ("vgg19", 143.667240, 1e-6),  # torchvision's counts
    ("vgg16", 138.357544, 1e-6),
    ("vgg13", 133.047848, 1e-6),
    ("vgg11", 132.863336, 1e-6),
    ("resnet18", 11.689512, 1e-6),
    ("resnet34", 21.797672, 1e-6),
    ("resnet50", 25.5, 0.1),  # Xie et al., ResNeXt, table 1
    ("inceptionv3", 23.8, 0.05),  # slim
]
MACS = [
    ("vgg11", 7_609, 1),  # torchvision's counts
    ("vgg13", 11_308, 1),
    ("vgg16", 15_470, 1),
    ("vgg19", 19_632, 1),
    ("inceptionv3", 5_713, 1),
    ("resnet18", 1_814, 1),
    ("resnet34", 3_664, 1),
    ("vgg19", 19_600, 50),  # He et al., section 3.3
    ("resnet18", 1_800, 100),  # He et al., table 1, which rounds up and down
    ("resnet34", 3_600, 100),
    ("resnet50", 3_800, 100),
    ("resnet101", 7_600, 100),
    ("resnet152", 11_300, 100),
    ("mobilenetv2", 300, 3),  # Sandler et al., table 4
    ("mobilenetv2_1.4", 585, 5.85),
]
# The reference implementation's table (tensorflow/models, slim/nets/mobilenet/README.md), at 224: millions of
# multiply-adds, and of parameters without batch norm's.
SLIM = [
    ("mobilenetv2_0.35", 59, 1.66),
    ("mobilenetv2_0.5", 97, 1.95),
    ("mobilenetv2_0.75", 209, 2.61),
    ("mobilenetv2", 300, 3.47),
    ("mobilenetv2_1.3", 509, 5.34),
    ("mobilenetv2_1.4", 582, 6.06),
]


@pytest.fixture(autouse=True)
def clean():
    yield
    keras.backend.clear_session(free_memory=True)
    keras.config.set_dtype_policy("float32")


def small(name, **design):
    """The architecture at its smallest, with few classes."""
    return kcnn.create_model(name, 5, MODELS.get(name).min_size, **design)


@pytest.mark.parametrize("name", EVERY)
def test_counts_are_the_tables(name):
    spec, model = kcnn.model_spec(name), kcnn.create_model(name)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == spec.params
    assert kcnn.macs(model) == spec.macs


@pytest.mark.parametrize(("name", "millions", "tolerance"), PARAMS)
def test_parameters_are_the_published_ones(name, millions, tolerance):
    assert kcnn.model_spec(name).params / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(("name", "millions", "tolerance"), MACS)
def test_multiply_adds_are_the_published_ones(name, millions, tolerance):
    assert kcnn.model_spec(name).macs / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(("name", "macs", "params"), SLIM)
def test_mobilenets_are_the_reference_implementation(name, macs, params):
    model = small(name)
    norms = sum(layer.gamma.shape[0] * 2 for layer in model.layers if isinstance(layer, BatchNorm))
    assert (kcnn.model_spec(name).params - norms) / 1e6 == pytest.approx(params, abs=0.007)
    assert kcnn.model_spec(name).macs / 1e6 == pytest.approx(macs, abs=1)


def test_biases_are_what_sets_resnet50_apart_from_torchvision():
    model = kcnn.create_model("resnet50")
    biases = sum(layer.bias.shape[0] for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert kcnn.model_spec("resnet50").params - biases == 25_557_032


@pytest.mark.parametrize(("size", "millions"), [(192, 221), (160, 154), (128, 99), (96, 56)])
def test_macs_of_another_size(size, millions):
    """Against the table of the reference implementation: tensorflow/models, slim/nets/mobilenet/README.md."""
    assert kcnn.macs(kcnn.create_model("mobilenetv2"), size) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", EVERY)
def test_names_begin_with_the_stage(name):
    model = small(name)
    found = stages(model)
    assert found[:2] == ["preprocess", "stem"] or found[:2] == ["preprocess", "stage1"]
    assert found[-1] == "head"
    numbered = [stage for stage in found if stage.startswith("stage")]
    assert numbered == [f"stage{index}" for index in range(1, len(numbered) + 1)]
    assert model.get_layer("head_logits").units == 5
    order = [layer.name.split("_")[0] for layer in model.layers if layer.name != "images"]
    assert [found.index(stage) for stage in order] == sorted(found.index(stage) for stage in order)


@pytest.mark.parametrize("name", EVERY)
def test_every_variable_learns(name):
    model = small(name)
    size, names = MODELS.get(name).min_size, {layer.name for layer in model.layers}
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, size, size, 3)).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)[rng.integers(0, 5, 4)]
    with tf.GradientTape() as tape:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, model(images, training=True))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.path
        # Batch norm takes away what a bias in front of it adds: nothing but rounding is left of its gradient.
        redundant = variable.name == "bias" and f"{variable.path.split('/')[0]}_norm" in names
        assert np.abs(gradient).max() > 0 or redundant, variable.path


@pytest.mark.parametrize("name", SMALL)
def test_sizes_and_types_of_input(name):
    size = MODELS.get(name).min_size
    model = kcnn.create_model(name, 5, (size, size + 33))
    images = np.random.default_rng(0).integers(0, 256, (2, size, size + 33, 3), np.uint8)
    logits = model(images)
    assert logits.shape == (2, 5)
    np.testing.assert_allclose(logits, model(images.astype(np.float32)), rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", SMALL)
def test_logits_are_float32_under_every_policy(name, policy):
    keras.config.set_dtype_policy(policy)
    model = small(name)
    logits = model(np.zeros((1, *model.input_shape[1:])))
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    if policy != "float32":
        assert any(layer.compute_dtype == policy.removeprefix("mixed_") for layer in model.layers)


@pytest.mark.parametrize("name", SMALL)
def test_keras_files_keep_the_model(name, tmp_path):
    model = small(name)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:]))
    np.testing.assert_allclose(again(images), model(images), rtol=1e-5, atol=1e-5)


PREPROCESS = {
    "VGG16": "vgg16", "VGG19": "vgg19", "ResNet50": "resnet", "ResNet101": "resnet", "ResNet152": "resnet",
    "InceptionV3": "inception_v3", "MobileNetV2": "mobilenet_v2",
}  # fmt: skip
TWINS = [
    name
    if name in ("mobilenetv2_0.35", "resnet50", "vgg16", "inceptionv3")
    else pytest.param(name, marks=pytest.mark.slow)
    for name in MODELS
    if MODELS.get(name).application
]


def randomize(model, seed):
    """Weights with which activations neither vanish nor explode, and moving statistics unlike the initial ones."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights:
            shape = variable.shape
            if "variance" in variable.name or variable.name == "gamma":
                value = rng.uniform(0.5, 1.5, shape)
            elif "kernel" in variable.name:
                fan_in = np.prod(shape[:2]) if "Depthwise" in type(layer).__name__ else np.prod(shape[:-1])
                value = rng.normal(0, np.sqrt(2 / fan_in), shape)
            else:
                value = rng.normal(0, 0.1, shape)
            variable.assign(value)


@pytest.mark.parametrize("name", TWINS)
def test_logits_equal_keras_applications_after_copying_both_ways(name):
    from kcnn.weights import copy_weights

    application = kcnn.model_spec(name).application
    function = getattr(keras.applications, application.function)
    size = 96 if name == "inceptionv3" else 64
    shape = (size, size, 3)
    theirs = function(weights=None, classes=7, input_shape=shape, classifier_activation=None, **application.arguments)
    ours = kcnn.create_model(name, 7, size)
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    prepared = getattr(keras.applications, PREPROCESS[application.function]).preprocess_input(images.copy())
    for source, target, seed in ((theirs, ours, 2), (ours, theirs, 3)):
        randomize(source, seed)
        report = copy_weights(source, target)
        assert report.kept == ()
        assert report.loaded == sum(1 for layer in theirs.layers if layer.weights)
        expected, found = theirs(prepared).numpy(), ours(images).numpy()
        assert np.abs(expected).max() > 1e-3
        assert np.abs(expected - found).max() <= 1e-4 * np.abs(expected).max()
        assert np.ptp(expected, axis=0).max() > 1e-4 * np.abs(expected).max()  # it depends on the image


def stock(layer):
    """The layer of Keras that a layer of this project extends, with the same configuration."""
    kind = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("keras."))
    return kind.from_config(layer.get_config()) if kind is not keras.layers.Layer else layer


@pytest.mark.parametrize("name", ["mobilenetv2_0.35", "inceptionv3", "resnet50"])
def test_a_training_step_is_that_of_stock_layers(name):
    """Loss, gradients and moving statistics of training mode, where this project's layers take ways of their own.

    With a smooth activation: one input that rounding moves over the kink of a ReLU changes all gradients by a percent,
    in Keras' own layers too when they are held against float64.
    """
    ours = small(name, dropout=0.0, activation="silu")
    theirs = keras.models.clone_model(ours, clone_function=stock)
    assert any(isinstance(layer, BatchNorm) for layer in ours.layers)
    assert not any(isinstance(layer, BatchNorm | PointwiseConv) for layer in theirs.layers)
    randomize(ours, 4)
    theirs.set_weights(ours.get_weights())
    images = np.random.default_rng(1).integers(0, 256, (8, *ours.input_shape[1:])).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)[np.arange(8) % 5]
    losses, gradients = [], []
    for model in (theirs, ours):
        with tf.GradientTape() as tape:
            loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, model(images, training=True))
        losses.append(float(loss))
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    whole = np.concatenate([np.ravel(gradient) for gradient in gradients[0]])
    difference = np.concatenate([np.ravel(a - b) for a, b in zip(*gradients, strict=True)])
    assert np.linalg.norm(difference) < 1e-3 * np.linalg.norm(whole)
    for variable, expected in zip(ours.weights, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-3, atol=1e-4, err_msg=variable.path)


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
