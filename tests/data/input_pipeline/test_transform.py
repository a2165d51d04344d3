"""The deterministic transform, against Pillow and against images made by hand."""

import dataclasses
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data.input_pipeline.transform import Preprocessing, preprocess, resize
from kcnn.errors import UserError


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return smooth shapes with some detail."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        for n in (4, 12, 40)
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=(4, 2, 1)).astype(np.uint8))


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def test_json_round_trip():
    spec = Preprocessing(
        (96, 128), resize_mode="letterbox", crop_fraction=1.0, interpolation="bicubic", antialias=False
    )
    assert Preprocessing(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image_size": (0, 224)}, "height and width"),
        ({"image_size": (224,)}, "height and width"),
        ({"image_size": (224.0, 224)}, "height and width"),
        ({"resize_mode": "sqash"}, "did you mean 'squash'"),
        ({"interpolation": "bicubik"}, "did you mean 'bicubic'"),
        ({"crop_fraction": 0.0}, "crop fraction"),
        ({"crop_fraction": 1.5}, "crop fraction"),
    ],
)
def test_wrong_values_are_one_line(wrong, words):
    with pytest.raises(UserError, match=words) as error:
        Preprocessing(**{"image_size": (224, 224), **wrong})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_equals_pillow(format, interpolation):
    image = photo(310, 240)
    encoded = saved(image, format)
    side, left, top = 210, 50, 15  # 0.875 of 240, central
    window = Image.open(io.BytesIO(encoded)).convert("RGB").crop((left, top, left + side, top + side))
    expected = window.resize((64, 64), Image.Resampling[interpolation.upper()])
    result = preprocess(tf.constant(encoded), Preprocessing((64, 64), interpolation=interpolation)).numpy()
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 255
    assert np.abs(result - np.asarray(expected)).mean() < 0.5


def test_without_antialiasing_pixels_are_skipped():
    """Shrink lines: one white pixel in eight vanishes between the sampled places, or is averaged."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[::8, ::8] = 255
    plain = resize(tf.constant(image), Preprocessing((8, 8), crop_fraction=1.0, antialias=False)).numpy()
    smooth = resize(tf.constant(image), Preprocessing((8, 8), crop_fraction=1.0)).numpy()
    assert plain.max() == 0
    assert smooth.mean() == pytest.approx(image.mean(), rel=0.1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_enlarging_is_the_same_with_antialiasing(interpolation):
    image = tf.constant(np.asarray(photo(20, 17)))
    results = [
        resize(image, Preprocessing((48, 40), interpolation=interpolation, antialias=antialias)).numpy()
        for antialias in (True, False)
    ]
    expected = tf.clip_by_value(tf.image.resize(image[1:16, 4:16], (48, 40), interpolation, antialias=True), 0, 255)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[0], expected, atol=0.05)  # bicubic weights come from a table


@pytest.mark.parametrize(("height", "width"), [(100, 60), (60, 100), (61, 100), (99, 99)])
def test_crop_is_central(height, width):
    """Take coordinates as pixel values: the result's corners show which window was taken."""
    rows, columns = np.mgrid[:height, :width]
    image = tf.constant(np.stack([rows, columns, 0 * rows], axis=-1).astype(np.float32))
    side = round(0.8 * min(height, width))
    result = resize(image, Preprocessing((side, side), crop_fraction=0.8)).numpy()
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_allclose(result[..., 0], rows[top : top + side, :side])
    np.testing.assert_allclose(result[..., 1], columns[:side, left : left + side])


def test_crop_has_the_aspect_ratio_of_the_model():
    rows, columns = np.mgrid[:100, :100]
    image = tf.constant(np.stack([rows, columns, 0 * rows], axis=-1).astype(np.float32))
    result = resize(image, Preprocessing((40, 80), crop_fraction=1.0, antialias=False)).numpy()
    assert result.shape == (40, 80, 3)
    assert result[..., 0].min() == pytest.approx(25, abs=1)
    assert result[..., 0].max() == pytest.approx(74, abs=1)
    assert result[..., 1].min() == pytest.approx(0, abs=1)
    assert result[..., 1].max() == pytest.approx(99, abs=1)


def test_squash_keeps_the_whole_image():
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, :45] = 200
    result = resize(tf.constant(image), Preprocessing((10, 10), resize_mode="squash")).numpy()
    np.testing.assert_allclose(result[:, :4], 200, rtol=1e-5)
    np.testing.assert_allclose(result[:, 6:], 0)


@pytest.mark.parametrize(("height", "width"), [(24, 96), (96, 24), (50, 50), (8, 16)])
def test_letterbox_is_tensorflows_resize_with_pad(height, width):
    image = tf.constant(np.asarray(photo(width, height)))
    spec = Preprocessing((32, 32), resize_mode="letterbox")
    expected = tf.image.resize_with_pad(image, 32, 32, antialias=True)
    np.testing.assert_allclose(resize(image, spec), expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (1, 50), (2, 3)])
def test_tiny_images(mode, height, width):
    encoded = saved(Image.new("RGB", (width, height), (10, 200, 30)), "PNG")
    result = preprocess(tf.constant(encoded), Preprocessing((32, 48), resize_mode=mode)).numpy()
    assert result.shape == (32, 48, 3)
    colour = result.reshape(-1, 3)[(result.reshape(-1, 3) > 0).any(axis=1)]
    np.testing.assert_allclose(colour, np.broadcast_to([10, 200, 30], colour.shape), atol=1e-3)


@pytest.mark.parametrize("mode", ["crop", "squash", "letterbox"])
def test_batches_are_their_images(mode):
    spec = Preprocessing((24, 32), resize_mode=mode)
    images = np.stack([np.asarray(photo(50, 40, seed)) for seed in range(3)])
    batched = tf.function(resize, reduce_retracing=True)(tf.constant(images), spec)
    np.testing.assert_allclose(batched, np.stack([resize(tf.constant(image), spec) for image in images]), atol=1e-4)


@pytest.mark.parametrize("mode", ["crop", "squash"])
def test_a_large_photo_is_the_same_as_bytes_and_as_pixels(mode):
    """Decode a JPEG at a quarter of its size, where Pillow averages over all pixels."""
    image = photo(1230, 1007)
    encoded = saved(image, "JPEG", quality=95)
    spec = Preprocessing((56, 56), resize_mode=mode)
    from_bytes, from_pixels = preprocess(tf.constant(encoded), spec), resize(tf.constant(np.asarray(image)), spec)
    assert np.abs(from_bytes - from_pixels).mean() < 0.6


def test_unreadable_bytes_raise():
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocess(tf.constant(b"no image"), Preprocessing((8, 8)))


def test_served_graph_is_the_same_after_export(tmp_path):
    """Load a SavedModel again: for mixed sizes and formats it returns what `preprocess` returns here."""
    spec = Preprocessing((32, 32))
    files = [saved(photo(60 + 9 * i, 50), format) for i, format in enumerate(["JPEG", "PNG", "GIF", "BMP", "WEBP"])]
    files.append(saved(photo(60, 50).quantize(9), "BMP"))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(encoded):
        return tf.map_fn(lambda one: preprocess(one, spec), encoded, fn_output_signature=tf.TensorSpec([32, 32, 3]))

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=serve.get_concrete_function())
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](encoded=tf.constant(files))
    np.testing.assert_array_equal(served["output_0"], np.stack([preprocess(tf.constant(f), spec) for f in files]))
