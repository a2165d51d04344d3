"""Preprocessing fitted to training images, against NumPy, SciPy and scikit-learn, and where training does it."""

import dataclasses

import keras
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from test_trainer import config, digits, weights  # noqa: F401  (a fixture)

from kcnn.config import Phase
from kcnn.data.input_pipeline.batches import evaluation_batches
from kcnn.nn.preprocessing import FITTED, normalize_pixels
from kcnn.training.phase_data import training_size
from kcnn.training.pixel_statistics import EPSILON, PixelStatistics, fit_preprocessing, pca_matrix, zca_matrix
from kcnn.training.state import load_progress
from kcnn.training.trainer import train

SHAPE = (6, 5, 3)
NUMBERS = 6 * 5 * 3
ALL = Phase("all", epochs=2, learning_rate=3e-3)


def photos(count, seed=0):
    """Return images whose neighbours are alike, float32 [N, 6, 5, 3], each channel with a mean and a deviation."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, 3, 3, 3)).repeat(2, axis=1).repeat(2, axis=2)[:, :6, :5]
    pixels = 120 + np.array([40, 20, 10]) * (coarse + 0.3 * random.normal(size=(count, *SHAPE)) + [0, 1, -2])
    return pixels.clip(0, 255).astype(np.float32)


def layers(mode, channels=3):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, normalize_pixels(inputs, mode, channels))


def fit(mode, images, channels=3, batch=7):
    model = layers(mode, channels)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(batch)
    return model, fit_preprocessing(model, batches, len(images))


def moments(images, parts, *, products=True):
    found = PixelStatistics.empty(images.shape[1:], products=products)
    for part in np.array_split(images, parts):
        found.add(part)
    return found


@pytest.mark.parametrize("parts", [1, 4, 50])
@pytest.mark.parametrize("shift", [0, 1e6])
def test_moments_are_numpys_however_the_images_come(parts, shift):
    images = photos(50).astype(np.float64) + shift  # sums of squares would lose eight digits to the shift
    rows = images.reshape(50, -1)
    found = moments(images, parts)
    assert found.count == 50
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.scatter / 49, np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(moments(images, parts, products=False).scatter, np.diagonal(found.scatter), rtol=1e-9)


def test_mean_image_mean_and_deviation_are_numpys():
    images, others = photos(30), photos(4, seed=1)
    mean, deviation = images.mean(axis=(0, 1, 2), dtype=float), images.std(axis=(0, 1, 2), dtype=float)
    for mode, expected in {
        "mean_image": others - images.mean(axis=0, dtype=float),
        "mean": others - mean,
        "standardize": (others - mean) / deviation,
    }.items():
        model, facts = fit(mode, images)
        np.testing.assert_allclose(model(others), expected, rtol=1e-5, atol=1e-4)
        assert facts["images"] == 30
        assert facts["mean"] == pytest.approx(mean, abs=1e-4)
        assert facts["deviation"] == pytest.approx(deviation, abs=1e-4)
    scaler = StandardScaler().fit(images.reshape(-1, 3))
    np.testing.assert_allclose(
        fit("standardize", images)[0](others), scaler.transform(others.reshape(-1, 3)).reshape(others.shape), atol=1e-4
    )


def test_a_channel_that_never_changes_is_not_divided():
    images = photos(8)
    images[..., 1] = 7
    model, _ = fit("standardize", images)
    np.testing.assert_array_equal(model(images)[..., 1], 0)
    for mode in ("pca", "zca"):
        model, _ = fit(mode, np.full_like(images, 7))
        np.testing.assert_array_equal(model(np.full_like(images, 7)), 0)


def test_pca_is_scikit_learns():
    images, others = photos(400), photos(20, seed=1)
    rows, other_rows = images.reshape(400, -1), others.reshape(20, -1)
    theirs = PCA(whiten=True, svd_solver="full").fit(rows.astype(float))
    expected = theirs.transform(other_rows.astype(float))
    exact = moments(images, 3)
    ours = (other_rows - exact.mean) @ pca_matrix(exact, epsilon=0.0)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)
    # With epsilon, and in the layers: each component smaller by what is added to its variance.
    variances = theirs.explained_variance_
    damped = expected * np.sqrt(variances / (variances + EPSILON * variances.mean()))
    model, facts = fit("pca", images)
    np.testing.assert_allclose(model(others).numpy().reshape(20, -1), damped, atol=1e-4)
    assert facts["epsilon"] == EPSILON


def test_zca_leaves_no_correlations_and_is_the_inverse_root_of_the_covariance():
    images = photos(400)
    rows = images.reshape(400, -1).astype(np.float64)
    covariance = np.cov(rows, rowvar=False)
    found = moments(images, 3)
    white = (rows - rows.mean(axis=0)) @ zca_matrix(found, epsilon=0.0)
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(NUMBERS), atol=1e-8)
    # Of all that do, it is nearest to the images (Kessy et al., "Optimal Whitening and Decorrelation", The American
    # Statistician 72, 2018, table 1).
    centred = rows - rows.mean(axis=0)
    assert np.square(white - centred).sum() < np.square(centred @ pca_matrix(found, 0.0) - centred).sum()
    added = covariance + EPSILON * np.trace(covariance) / NUMBERS * np.eye(NUMBERS)
    expected = scipy.linalg.inv(scipy.linalg.sqrtm(added))
    model, _ = fit("zca", images)
    np.testing.assert_allclose(model.get_layer("preprocess_zca").matrix, expected, atol=1e-7)
    outputs = (rows - rows.mean(axis=0)) @ expected
    np.testing.assert_allclose(model(images).numpy().reshape(400, -1), outputs, atol=1e-4)
    left = np.linalg.eigvalsh(np.cov(model(images).numpy().reshape(400, -1), rowvar=False))
    variances = np.linalg.eigvalsh(covariance)
    np.testing.assert_allclose(left, variances / (variances + EPSILON * variances.mean()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", FITTED)
def test_one_channel_is_fitted_to_luminance(mode):
    images = photos(60)
    grey = (images @ np.array([0.299, 0.587, 0.114])).astype(np.float32)[..., None]  # ITU-R BT.601
    model, facts = fit(mode, images, channels=1)
    assert model.output_shape == (None, *SHAPE[:2], 1)
    assert facts["mean"] == pytest.approx([grey.mean(dtype=float)], abs=1e-3)
    statistics = moments(grey, 2)
    centred = grey - (statistics.mean.reshape(*SHAPE[:2], 1) if mode != "mean" else grey.mean(dtype=float))
    if mode == "standardize":
        centred = (grey - grey.mean(dtype=float)) / grey.std(dtype=float)
    if mode in ("pca", "zca"):
        matrix = {"pca": pca_matrix, "zca": zca_matrix}[mode](statistics)
        centred = (centred.reshape(60, -1) @ matrix).reshape(centred.shape)
    np.testing.assert_allclose(model(images), centred, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", FITTED)
def test_it_stays_in_float32_and_nothing_of_it_learns(mode):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, _ = fit(mode, photos(40))
    finally:
        keras.config.set_dtype_policy("float32")
    expected, _ = fit(mode, photos(40))
    np.testing.assert_array_equal(model(photos(3)), expected(photos(3)))
    assert model.trainable_weights == []
    assert training_size((96, 96), 0.7, layers(mode), 32) == ((64, 64) if mode in ("mean", "standardize") else (96, 96))


def build():
    """Build a network with a mean image, a convolution and a head."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = normalize_pixels(inputs, "mean_image")
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="stem_conv")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))


def mean_image(data, shards):
    batches = evaluation_batches(shards, num_classes=10, batch_size=100, preprocessing=data.preprocessing)
    return np.concatenate([images.numpy() for images, _ in batches]).mean(axis=0, dtype=float)


def trained(directory):
    return weights(directory / "best.safetensors")["preprocess_mean_image/mean"]


def few(data, **fields):
    """Return data whose training and validation images are the digits' validation images."""
    return dataclasses.replace(data, **{"train": data.val, "train_count": data.val_count, **fields})


def test_training_fits_it_to_the_training_images_once(digits, tmp_path):  # noqa: F811
    data = few(digits)
    expected = mean_image(digits, digits.val)

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(ALL), data, build, tmp_path, after_epoch=interrupt)
    facts = load_progress(tmp_path / "state.safetensors").preprocess
    assert facts["images"] == digits.val_count
    # It goes on with other training images, and with the mean of those that it began with.
    other = dataclasses.replace(digits, val=digits.train, val_count=digits.train_count)
    progress = train(config(ALL), other, build, tmp_path)
    assert len(progress.history) == 2
    assert progress.preprocess == facts
    np.testing.assert_allclose(trained(tmp_path), expected, rtol=1e-5)


@pytest.mark.slow
def test_no_other_images_count(digits, tmp_path):  # noqa: F811
    once = config(dataclasses.replace(ALL, epochs=1))
    train(once, few(digits), build, tmp_path / "one")
    train(once, few(digits, val=digits.train, val_count=digits.train_count), build, tmp_path / "other")
    np.testing.assert_array_equal(trained(tmp_path / "one"), trained(tmp_path / "other"))
    assert np.abs(trained(tmp_path / "one") - mean_image(digits, digits.train)).max() > 0.01


def test_loaded_weights_keep_the_numbers_that_they_learned_with():
    first, _ = fit("zca", photos(40))
    second = layers("zca")
    for variable, value in zip(second.weights, first.get_weights(), strict=True):
        variable.assign(value)
    images = tf.data.Dataset.from_tensor_slices(photos(40, seed=9)).batch(8)
    assert fit_preprocessing(second, images, 40) is None
    np.testing.assert_array_equal(second(photos(3)), first(photos(3)))
    assert fit_preprocessing(layers("none"), images, 40) is None
