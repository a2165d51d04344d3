"""What augmentations are made of, against Pillow, which defines it, and against keras-cv's layers."""

import keras_cv
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from kcnn.data.input_pipeline.augmentations.kernels import colours, filters, geometry
from kcnn.data.input_pipeline.augmentations.kernels.operations import MIXED, PAPER, WIDE, WITH_INVERSION, apply_one

RANGE, SIZE = (0, 255), (48, 60)


def picture(seed: int = 0) -> np.ndarray:
    """Return a smooth image, uint8 [48, 60, 3], whose channels reach neither 0 nor 255."""
    noise = np.random.default_rng(seed).integers(30, 220, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BILINEAR))


def enhanced(kind) -> object:
    return lambda image, factor: kind(image).enhance(factor)


def affine(rows):
    """Return Pillow's nearest-neighbour transform by a map of places whose pixels' centres are at whole numbers."""

    def function(image: Image.Image, strength: float) -> Image.Image:
        (a, b, c), (d, e, f) = rows(strength)
        data = (a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2)
        return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.NEAREST, fillcolor=(128,) * 3)

    return function


# Kernel, what Pillow does, a strength, and how far values may lie apart: Pillow rounds.
PILLOW = {
    "brighten": (colours.brighten, enhanced(ImageEnhance.Brightness), 1.6, 1),
    "darken": (colours.brighten, enhanced(ImageEnhance.Brightness), 0.3, 1),
    "contrast": (colours.contrast, enhanced(ImageEnhance.Contrast), 1.8, 2),
    "less contrast": (colours.contrast, enhanced(ImageEnhance.Contrast), 0.2, 2),
    "solarize": (colours.solarize, lambda image, value: ImageOps.solarize(image, int(value)), 100, 0),
    "posterize": (colours.posterize, lambda image, bits: ImageOps.posterize(image, int(bits)), 3, 0),
    "autocontrast": (colours.autocontrast, lambda image, _: ImageOps.autocontrast(image), 0, 1.001),
    "equalize": (colours.equalize, lambda image, _: ImageOps.equalize(image), 0, 0),
    "invert": (colours.invert, lambda image, _: ImageOps.invert(image), 0, 0),
    "saturate": (colours.saturate, enhanced(ImageEnhance.Color), 1.7, 2),
    "grey": (colours.saturate, enhanced(ImageEnhance.Color), 0, 1),
    "sharpen": (filters.sharpen, enhanced(ImageEnhance.Sharpness), 1.9, 2),
    "smooth": (filters.sharpen, enhanced(ImageEnhance.Sharpness), 0.1, 1.5),
}
# The same for geometry, where a pixel at a tie may come from either neighbour.
MOVED = {
    "rotate": (geometry.rotate, lambda image, angle: image.rotate(angle, fillcolor=(128,) * 3), 25),
    "shear_x": (geometry.shear_x, affine(lambda f: ((1, f, 0), (0, 1, 0))), 0.27),
    "shear_y": (geometry.shear_y, affine(lambda f: ((1, 0, 0), (f, 1, 0))), -0.27),
    "translate_x": (geometry.translate_x, affine(lambda p: ((1, 0, round(p * SIZE[1])), (0, 1, 0))), 0.2),
    "translate_y": (geometry.translate_y, affine(lambda p: ((1, 0, 0), (0, 1, round(p * SIZE[0])))), -0.2),
}


def run(kernel, image: np.ndarray, strength: float) -> np.ndarray:
    return tf.function(kernel)(tf.constant(image, tf.float32), tf.constant(strength, tf.float32)).numpy()


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("seed", range(3))
def test_colours_and_filters_are_pillows(name, seed):
    kernel, pillow, strength, tolerance = PILLOW[name]
    image = picture(seed)
    expected = np.asarray(pillow(Image.fromarray(image), strength)).astype(np.float32)
    assert np.abs(expected - image).max() > 3  # it does something
    assert np.abs(run(kernel, image, strength) - expected).max() <= tolerance


@pytest.mark.parametrize("name", MOVED)
def test_geometry_is_pillows(name):
    kernel, pillow, strength = MOVED[name]
    expected = np.asarray(pillow(Image.fromarray(picture()), strength))
    same = (run(kernel, picture(), strength) == expected).all(axis=-1)
    assert same.mean() > 0.99
    assert (expected == 128).all(axis=-1).mean() > 0.02  # what lies outside


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("kernel", [colours.autocontrast, colours.equalize])
def test_a_channel_of_one_value_stays_as_it_is(kernel, value):
    flat = np.full((8, 8, 3), value, np.float32)
    np.testing.assert_array_equal(run(kernel, flat, 0), flat)


def constant(value: float) -> keras_cv.core.FactorSampler:
    return keras_cv.core.ConstantFactorSampler(value)


NEAREST = {"interpolation": "nearest", "fill_mode": "constant", "fill_value": 128.0, "dtype": "float32"}
# Kernel, its strength, keras-cv's layer of that strength, and how far values may lie apart.
KERAS_CV = {
    "autocontrast": (colours.autocontrast, 0, lambda: keras_cv.layers.AutoContrast(RANGE, dtype="float32"), 1e-3),
    "equalize": (colours.equalize, 0, lambda: keras_cv.layers.Equalization(RANGE, dtype="float32"), 0),
    "solarize": (
        colours.solarize,
        100,
        lambda: keras_cv.layers.Solarization(RANGE, threshold_factor=constant(100.0), dtype="float32"),
        1e-3,
    ),
    "posterize": (colours.posterize, 3, lambda: keras_cv.layers.Posterization(RANGE, bits=3, dtype="float32"), 0),
    "saturate": (
        colours.saturate,
        1.7,
        lambda: keras_cv.layers.RandomColorDegeneration(constant(-0.7), dtype="float32"),
        0.05,  # its luminance has four digits
    ),
    "sharpen": (
        filters.sharpen,
        1.9,
        lambda: keras_cv.layers.RandomSharpness(constant(-0.9), RANGE, dtype="float32"),
        1e-3,
    ),
    "rotate": (geometry.rotate, 36, lambda: keras_cv.layers.RandomRotation((0.1, 0.1), **NEAREST), None),
    "translate_x": (
        geometry.translate_x,
        -0.2,
        lambda: keras_cv.layers.RandomTranslation((0.0, 0.0), (0.2, 0.2), **NEAREST),
        None,
    ),
    "translate_y": (
        geometry.translate_y,
        -0.25,
        lambda: keras_cv.layers.RandomTranslation((0.25, 0.25), (0.0, 0.0), **NEAREST),
        None,
    ),
}


@pytest.mark.parametrize("name", KERAS_CV)
def test_kernels_compute_what_keras_cvs_do(name):
    """Compare on fractions, too, which images are after resizing; of geometry, ties may be rounded otherwise."""
    kernel, strength, layer, tolerance = KERAS_CV[name]
    image = picture() + np.float32(0.3 if name != "equalize" else 0)
    expected = layer()(image).numpy()
    if tolerance is None:
        assert np.isclose(run(kernel, image, strength), expected).all(axis=-1).mean() > 0.99
    else:
        np.testing.assert_allclose(run(kernel, image, strength), expected, atol=tolerance)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_shear_is_keras_cvs(axis):
    """Compare with its layer, which draws the sign."""
    layer = keras_cv.layers.RandomShear(**{f"{axis}_factor": constant(0.2)}, **NEAREST)
    kernel = {"x": geometry.shear_x, "y": geometry.shear_y}[axis]
    expected = layer(picture().astype(np.float32)).numpy()
    same = [np.isclose(run(kernel, picture(), sign * 0.2), expected).all(axis=-1).mean() for sign in (-1, 1)]
    assert max(same) > 0.99 > min(same)


def test_smooth_resampling_is_between_the_pixels():
    """Move a ramp by half a pixel."""
    ramp = np.broadcast_to(np.arange(10, dtype=np.float32)[None, :, None], (4, 10, 3))
    matrix = tf.constant([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    moved = geometry.resample(tf.constant(ramp), matrix, smooth=True).numpy()
    np.testing.assert_allclose(moved[:, :-1], ramp[:, :-1] + 0.5, atol=1e-5)


@pytest.mark.parametrize("strength", [-0.3, 0.3])
def test_bending_takes_the_pixels_from_where_the_formula_says(strength):
    """Bend an image whose values are its coordinates, of which the interpolation is exact."""
    y, x = np.mgrid[:41, :61].astype(np.float32)
    bent = run(geometry.bend, np.stack([x, y, 0 * x], axis=-1), strength)
    right, down = x - 30, y - 20
    factor = 1 + strength * (right**2 + down**2) / (30**2 + 20**2)
    expected = np.stack([30 + right * factor, 20 + down * factor], axis=-1)
    inside = (expected >= 0).all(axis=-1) & (expected[..., 0] <= 60) & (expected[..., 1] <= 40)
    assert inside.mean() > 0.6
    np.testing.assert_allclose(bent[inside][:, :2], expected[inside], atol=1e-3)


def test_blur_is_a_gaussian():
    """Compare inside, where Pillow approximates the Gaussian by boxes, on a smooth image."""
    expected = np.asarray(Image.fromarray(picture()).filter(ImageFilter.GaussianBlur(1.5))).astype(np.float32)
    blurred = filters.blur(tf.constant(picture(), tf.float32), tf.constant(1.5), 6).numpy()
    assert np.abs(blurred - expected)[8:-8, 8:-8].max() < 2
    point = np.zeros((21, 21, 3), np.float32)
    point[10, 10] = 1
    spread = filters.blur(tf.constant(point), tf.constant(1.5), 10).numpy()[..., 0]
    places = np.arange(-10, 11)
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread * places[:, None] ** 2).sum() == pytest.approx(1.5**2, rel=0.01)


@pytest.mark.parametrize("operations", [PAPER, WIDE, WITH_INVERSION, MIXED])
def test_operations_at_full_strength_either_way(operations):
    """Apply each as a policy does: within 0-255, of the same shape, and but for the identity, not the same image."""
    image = tf.constant(picture(), tf.float32)
    apply = tf.function(lambda choice, level, turn: apply_one(operations, choice, image, level, turn))
    for number, (name, operation) in enumerate(operations.items()):
        one, other = (apply(tf.constant(number), tf.constant(1.0), tf.constant(turn)).numpy() for turn in (0.9, 0.1))
        assert one.shape == image.shape
        assert one.min() >= 0
        assert one.max() <= 255
        assert np.array_equal(one, image) == (name == "identity")
        assert np.array_equal(one, other) != operation.signed


def test_operations_of_the_paper_are_fourteen_and_do_nothing_at_level_zero():
    image = tf.constant(picture(), tf.float32)
    assert len(PAPER) == len(WIDE) == 14
    for name in PAPER.keys() - {"autocontrast", "equalize"}:  # which have no strength
        np.testing.assert_allclose(PAPER[name].apply(image, tf.constant(0.0)), image, atol=1e-3)


def test_strengths_are_the_papers():
    """Check table 6 of AutoAugment at level 1, by Pillow."""
    image = Image.fromarray(picture())
    full = {
        "rotate": image.rotate(30, fillcolor=(128,) * 3),
        "posterize": ImageOps.posterize(image, 4),
        "solarize": ImageOps.solarize(image, 0),
        "brightness": ImageEnhance.Brightness(image).enhance(1.9),
        "color": ImageEnhance.Color(image).enhance(1.9),
    }
    for name, expected in full.items():
        found = PAPER[name].apply(tf.constant(picture(), tf.float32), tf.constant(1.0)).numpy()
        assert (np.abs(found - np.asarray(expected)).max(axis=-1) <= 2).mean() > 0.99, name
