"""Augmentations by their definitions: what they hide, add, move, mix and repeat."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data.input_pipeline.augmentations import choose_augmentations, read_augmentation
from kcnn.data.input_pipeline.augmentations.autoaugment import POLICIES, read_policy
from kcnn.data.input_pipeline.augmentations.colour import colour_components
from kcnn.data.input_pipeline.augmentations.erasing import channel_means
from kcnn.data.input_pipeline.augmentations.kernels.operations import PAPER, WITH_INVERSION
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from tests.data.input_pipeline.test_augmentations import flat, photos

GREY = np.float32([128, 128, 128])


def draws(text: str, image: np.ndarray, count: int, images: list | None = None) -> np.ndarray:
    """Return an image augmented with so many seeds."""
    (function,) = choose_augmentations([text], None if images is None else lambda: images).image
    run = tf.function(function)
    return np.stack([run(tf.constant(image), tf.constant([5, n])) for n in range(count)])


def test_cutout_hides_squares_under_the_training_images_mean():
    images = list(photos(5))
    mean = np.mean(images, axis=(0, 1, 2))
    np.testing.assert_allclose(channel_means(images), mean, rtol=1e-5)
    hidden = np.isclose(draws("cutout(size=0.5)", images[0], 60, images), mean, atol=1e-2).all(axis=-1)
    areas = hidden.mean(axis=(1, 2))
    assert areas.max() == 0.25  # whole
    assert 1 / 16 <= areas.min() < 0.15  # a quarter of the square, where its centre is in a corner
    rows, columns = hidden.any(axis=2).sum(axis=1), hidden.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(rows * columns, hidden.sum(axis=(1, 2)))  # one rectangle
    for axis in (0, 1):  # the centre is anywhere
        assert {0, 31} <= set(np.nonzero(hidden.any(axis=(0, 2 - axis)))[0])
    two = np.isclose(draws("cutout(size=0.25,holes=2)", images[0], 20, images), mean, atol=1e-2).all(axis=-1)
    assert two.mean(axis=(1, 2)).max() == 2 / 16


def test_random_erasing_hides_rectangles_of_the_given_areas_and_ratios():
    image = photos(1, 64)[0]
    changed = (draws("random_erasing(p=1,low=0.1,high=0.3)", image, 200) != image).any(axis=-1)
    areas = changed.mean(axis=(1, 2))
    heights, widths = changed.any(axis=2).sum(axis=1), changed.any(axis=1).sum(axis=1)
    assert 0.09 < areas.min() < 0.13
    assert 0.27 < areas.max() < 0.32
    ratios = heights / widths
    assert 0.27 < ratios.min() < 0.5
    assert 2 < ratios.max() < 3.7
    assert np.median(ratios) == pytest.approx(1, abs=0.3)
    touched = (draws("random_erasing(p=0.3,fill=grey)", image, 200) != image).any(axis=(1, 2, 3))
    assert 0.2 < touched.mean() < 0.4


def test_pca_colour_is_alexnets():
    """Compare with the eigenvectors of the covariance, in range 0 to 1, that NumPy finds of all pixels at once."""
    images = [image * [1, 0.5, 0.2] for image in photos(6)]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    found = colour_components(images)
    np.testing.assert_allclose(np.abs(found), np.abs(vectors * values), atol=1e-6)
    image = np.full((4, 4, 3), 127, np.float32)
    noise = draws("pca_color(std=0.2)", image, 2000, images)[:, 0, 0] - 127
    np.testing.assert_allclose(
        draws("pca_color", image, 3, images).std(axis=(1, 2)), 0, atol=1e-4
    )  # one shift an image
    expected = (vectors * (0.2 * 255 * values) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(noise.T), expected, atol=0.1 * expected.max())
    assert np.abs(noise.mean(axis=0)).max() < 0.1 * noise.std()


@pytest.mark.parametrize(("text", "low", "high"), [("brightness(max=0.3)", 0.7, 1.3), ("contrast(max=0.3)", 0.7, 1.3)])
def test_light_changes_by_factors_in_the_range(text, low, high):
    """Fit a line to the values of pixels before and after."""
    image = photos(1) * 0.3 + 80
    factors = [np.polyfit(image.ravel(), out.ravel(), 1)[0] for out in draws(text, image[0], 60)]
    assert low - 1e-3 <= min(factors) < low + 0.1
    assert high - 0.1 < max(factors) <= high + 1e-3


def test_saturation_and_hue_keep_the_luminance():
    image, luma = photos(1)[0] * 0.3 + 80, np.array([0.299, 0.587, 0.114])
    for text in ("saturation(max=0.5)", "hue(max=0.1)"):
        found = draws(text, image, 20)
        np.testing.assert_allclose(found @ luma, np.broadcast_to(image @ luma, found.shape[:3]), atol=0.3)
        assert np.abs(found - image).max() > 3


def test_hue_goes_around():
    """Turn by half the circle: colours become about their complements."""
    red = np.broadcast_to(np.float32([150, 100, 100]), (2, 2, 3))
    found = draws("hue(max=0.5)", red, 200)[:, 0, 0]
    nearest = found[np.argmin(found[:, 0])]
    assert nearest[0] < nearest[1:].min() - 25


def test_grayscale_and_blur_have_their_part_of_the_images():
    image = photos(1)[0]
    grey = np.ptp(draws("grayscale(p=0.3)", image, 200), axis=-1).max(axis=(1, 2)) < 0.01
    assert 0.2 < grey.mean() < 0.4
    same = (draws("blur(p=0.7)", image, 100) == image).all(axis=(1, 2, 3))
    assert 0.15 < same.mean() < 0.45


def test_geometry_moves_within_its_ranges():
    """Follow a white square on black: its centre moves, its area grows, its main axis turns."""
    image = np.zeros((81, 81, 3), np.float32)
    image[30:51, 20:61] = 255  # centre (40, 40), 21 x 41

    def moments(text: str) -> np.ndarray:
        rows = []
        for out in draws(text, image, 60):
            weight = np.where(out[..., 0] > 190, 1.0, 0.0)
            y, x = (np.average(axis, weights=weight) for axis in np.mgrid[:81, :81])
            centred = np.mgrid[:81, :81] - np.array([y, x])[:, None, None]
            yy, xx, xy = (
                np.average(product, weights=weight)
                for product in (centred[0] ** 2, centred[1] ** 2, centred[0] * centred[1])
            )
            angle = np.degrees(np.arctan2(2 * xy, xx - yy) / 2)
            rows.append([x - 40, y - 40, weight.sum() / (21 * 41), angle])
        return np.array(rows)

    moved = moments("translate(max=0.1)")
    assert (np.abs(moved[:, :2]) <= 8.5).all()
    assert (np.abs(moved[:, :2]).max(axis=0) > 6).all()
    turned = moments("rotate(max=20)")
    assert np.abs(turned[:, 3]).max() == pytest.approx(20, abs=2)
    assert np.abs(turned[:, :2]).max() < 0.3
    scaled = moments("scale(low=0.5,high=1.25)")
    assert scaled[:, 2].min() == pytest.approx(0.25, abs=0.06)
    assert scaled[:, 2].max() == pytest.approx(1.25**2, abs=0.2)
    sheared = moments("shear(max=0.3)")
    assert np.abs(sheared[:, 3]).max() > 5
    np.testing.assert_allclose(sheared[:, 2], 1, atol=0.05)  # a shear keeps areas
    assert (moments("affine(degrees=0,translate=0,low=1,high=1,shear=0)")[:, :3] == [0, 0, 1]).all()


@pytest.mark.parametrize("attempt", range(5))
def test_cowmix_labels_are_the_mixed_parts(attempt):
    """Count pixels in images of constant colours."""
    images, labels = flat(8, 33, 40)
    (function,) = choose_augmentations(["cowmix"]).batch
    mixed, weights = function(images, labels, tf.constant([attempt, 0]))
    counted = np.stack([(mixed[..., 0].numpy() == value).mean(axis=(1, 2)) for value in range(8)], axis=1)
    np.testing.assert_allclose(weights, counted, atol=1e-6)


def test_cowmix_has_spots_of_the_expected_parts():
    """Expect the part of the other image between 0.2 and 0.8 about, and few borders, as of spots."""
    images, labels = flat(128, 32, 32)
    (function,) = choose_augmentations(["cowmix"]).batch
    mixed, weights = (part.numpy() for part in function(images, labels, tf.constant([1, 2])))
    shares = 1 - np.diag(weights)
    shares = shares[shares > 0]  # not mixed with itself
    assert 0.4 < shares.mean() < 0.6
    assert shares.min() < 0.3
    assert shares.max() > 0.7
    borders = (np.diff(mixed[..., 0], axis=2) != 0).sum(axis=2)
    assert borders.mean() < 4


def test_mixing_takes_alpha():
    """Compare with Beta(8, 8), of variance 1/(4 x 17)."""
    images, labels = flat(512, 1, 1)
    (function,) = choose_augmentations(["mixup(alpha=8)"]).batch
    own = np.diag(function(images, labels, tf.constant([0, 0]))[1].numpy())
    assert own.var() == pytest.approx(1 / 68, rel=0.2)


def test_policies_are_pairs_of_known_operations():
    for name in POLICIES:
        policy = read_policy(name)
        assert policy.shape == (25, 2, 3)
        assert policy[..., 1:].min() >= 0
        assert policy[..., 1:].max() <= 1
    # Cubuk et al. 2019, table 9, sub-policy 0: (Posterize, 0.4, 8) (Rotate, 0.6, 9)
    numbers = list(WITH_INVERSION)
    expected = [[numbers.index("posterize"), 0.4, 8 / 9], [numbers.index("rotate"), 0.6, 1]]
    np.testing.assert_allclose(read_policy("imagenet")[0], expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["randaugment(n=1,m=0)", "randaugment(n=1,m=0.001)"])
def test_randaugment_takes_its_magnitude(text):
    """Expect images that change little but for equalization and contrast, which have no strength: 2 of 14."""
    image = photos(1)[0]
    changed = np.abs(draws(text, image, 100) - image).mean(axis=(1, 2, 3)) > 1.5
    assert 0.03 < changed.mean() < 0.3
    assert (np.abs(draws("randaugment(n=1,m=20)", image, 100) - image).mean(axis=(1, 2, 3)) > 1.5).mean() > 0.6


def test_trivialaugment_keeps_an_image_in_a_case_of_fourteen_at_least():
    image = photos(1)[0]
    same = (draws("trivialaugment", image, 200) == image).all(axis=(1, 2, 3))
    assert 0.04 < same.mean() < 0.25
    assert len(PAPER) == 14


def test_augmix_is_a_mixture():
    """Expect, with little alpha for the mixture, images between the original and the operations' results."""
    image = photos(1)[0]
    mixed = draws("augmix", image, 40)
    distances = np.abs(mixed - image).mean(axis=(1, 2, 3))
    assert distances.min() < 3
    assert distances.max() > 10
    assert np.abs(draws("augmix(severity=10)", image, 40) - image).mean() > np.abs(mixed - image).mean()


@pytest.fixture(scope="module")
def encoded() -> tf.Tensor:
    """Return a PNG of 120 x 160 whose values are the coordinates."""
    rows, columns = np.mgrid[:120, :160].astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.stack([rows, columns, 0 * rows], axis=-1)).save(file, "PNG")
    return tf.constant(file.getvalue())


def views(text: str, encoded: tf.Tensor, spec: Preprocessing, count: int) -> np.ndarray:
    function = tf.function(lambda seed: choose_augmentations([text]).view(encoded, spec, seed))
    return np.stack([function(tf.constant([3, n])) for n in range(count)])


def test_scale_jitter_is_resnets(encoded):
    """Expect windows of 224 from images whose shorter side is 256 to 480: squares of 120 x 224/480 to 120 x 224/256."""
    found = views("scale_jitter", encoded, Preprocessing((40, 40)), 150)[..., :2]
    spans = np.ptp(found, axis=(1, 2)) * 40 / 39
    np.testing.assert_allclose(spans[:, 0], spans[:, 1], atol=1.5)
    assert spans.min() == pytest.approx(120 * 224 / 480, abs=3)
    assert spans.max() == pytest.approx(120 * 224 / 256, abs=3)
    centres = found.mean(axis=(1, 2))
    np.testing.assert_allclose(centres.mean(axis=0), [60, 80], atol=5)
    assert (centres.std(axis=0) > 5).all()


def test_pad_crop_moves_what_evaluation_sees(encoded):
    spec = Preprocessing((32, 32))
    whole = preprocess(encoded, spec).numpy()
    padded = np.pad(whole, [(4, 4), (4, 4), (0, 0)], constant_values=128)
    offsets = set()
    for view in views("pad_crop", encoded, spec, 60):
        matches = [(y, x) for y in range(9) for x in range(9) if np.array_equal(padded[y : y + 32, x : x + 32], view)]
        assert len(matches) == 1
        offsets.update(matches)
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(9))
    reflected = np.pad(whole, [(4, 4), (4, 4), (0, 0)], "reflect")
    (view,) = views("pad_crop(fill=reflect)", encoded, spec, 1)
    assert any(np.array_equal(reflected[y : y + 32, x : x + 32], view) for y in range(9) for x in range(9))


def test_crop_takes_its_areas(encoded):
    spans = (
        np.ptp(views("crop(low=0.2,high=0.4)", encoded, Preprocessing((40, 40)), 80)[..., :2], axis=(1, 2)) * 40 / 39
    )
    areas = spans.prod(axis=1) / (120 * 160)
    assert areas.min() > 0.18
    assert areas.max() < 0.43


def test_what_mirrors_is_known():
    assert read_augmentation("flip").mirrors
    assert not read_augmentation("randaugment(n=3)").mirrors
