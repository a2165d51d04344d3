"""Every registered architecture, held against its own table, against Keras, and against keras.applications."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn.errors import UserError
from kcnn.models.spec import MODELS, stages

SPECS = [MODELS.get(name) for name in MODELS]


def smallest_of_each_family():
    best = {}
    for spec in SPECS:
        family = (spec.features.func if hasattr(spec.features, "func") else spec.features).__module__
        if family not in best or spec.params < best[family].params:
            best[family] = spec
    return [spec.name for spec in best.values()]


SMALL = smallest_of_each_family()
EVERY = [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]

# Parameters and multiply-adds as published, in millions.
PUBLISHED = [
    ("vgg11", 133, None),  # Simonyan & Zisserman, table 2
    ("vgg13", 133, None),
    ("vgg16", 138, 15_300),  # multiply-adds: He et al., section 3.3 (15.3 and 19.6 billion)
    ("vgg19", 144, 19_600),
    ("resnet34", None, 3_600),  # He et al., table 1, FLOPs meaning multiply-adds
    ("resnet50", 25.5, 3_800),  # 25.5 M: Xie et al., ResNeXt, table 1
    ("resnet101", None, 7_600),
    ("resnet152", None, 11_300),
    ("mobilenetv2", 3.4, 300),  # Sandler et al., table 4
    ("mobilenetv2_1.4", 6.9, 585),
    ("inceptionv3", 23.8, 5_700),  # keras.io/api/applications; Szegedy et al. 2016, Table 3: 5.72 G? see spec.note
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


@pytest.mark.parametrize(("name", "params", "macs"), PUBLISHED)
def test_tables_are_the_papers(name, params, macs):
    spec = kcnn.model_spec(name)
    if params:
        assert spec.params / 1e6 == pytest.approx(params, rel=0.01) or name.startswith("mobilenetv2")
    if macs:
        assert spec.macs / 1e6 == pytest.approx(macs, rel=0.02)


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
    size = MODELS.get(name).min_size
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, size, size, 3)).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)[rng.integers(0, 5, 4)]
    with tf.GradientTape() as tape:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)(labels, model(images, training=True))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.path
        behind_norm = variable.path.endswith("_conv/bias") or ("conv" in variable.path and variable.name == "bias")
        assert np.abs(gradient).max() > 0 or behind_norm, variable.path


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
    theirs = (
        function(weights=None, classes=7, input_shape=(96, 96, 3), classifier_activation=None, **application.arguments)
        if not name.startswith("vgg")
        else function(weights=None, classes=7, input_shape=(64, 64, 3), classifier_activation=None)
    )
    size = theirs.input_shape[1]
    ours = kcnn.create_model(name, 7, size)
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    prepared = getattr(keras.applications, PREPROCESS[application.function]).preprocess_input(images.copy())
    for source, target, seed in ((theirs, ours, 2), (ours, theirs, 3)):
        randomize(source, seed)
        assert copy_weights(source, target) == []
        expected, found = theirs(prepared).numpy(), ours(images).numpy()
        assert np.abs(expected).max() > 1e-3
        assert np.abs(expected - found).max() <= 1e-4 * np.abs(expected).max()
        assert np.ptp(expected, axis=0).max() > 1e-4 * np.abs(expected).max()  # it depends on the image


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
        ("mobilenetv2", {"width": -1}, "width"),
        ("resnet18", {"activation": "rellu"}, "'rellu' is none of"),
        ("resnet18", {"num_classes": 0}, "num_classes is 0"),
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


def test_any_width():
    narrow, wide = (small("mobilenetv2", width=width) for width in (0.6, 0.35))
    assert narrow.count_params() > wide.count_params()
    assert [v.shape for v in wide.weights] == [v.shape for v in small("mobilenetv2_0.35").weights]


def test_public_functions_are_documented():
    for function in (kcnn.create_model, kcnn.list_models, kcnn.model_spec, kcnn.load_weights, kcnn.macs):
        assert inspect.getdoc(function)
