"""Measures of an image, against TensorFlow and SciPy."""

import io

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from PIL import Image

from kcnn.data.examples import Example, encode_example
from kcnn.data.input_pipeline.decode import decode_image
from kcnn.data.validation.measures import measure_example
from tests.data.validation.pictures_of_many_formats import KINDS, encoded_picture, labelled_picture

COUNT = 70


def test_what_the_pixels_tell():
    for index in range(COUNT):
        data, format, height, width = encoded_picture(index)
        grey = tf.image.rgb_to_grayscale(decode_image(data)).numpy()[..., 0]
        row = measure_example(encode_example(labelled_picture(index)))
        assert row["image/brightness"] * 2**-16 == pytest.approx(grey.mean(), abs=2), KINDS[index % len(KINDS)]
        assert row["image/aspect"] * 2**-16 == pytest.approx(width / height, abs=2**-16)
        assert row["image/channels"] == {"L": 1, "CMYK": 4, "RGBA": 4}.get(KINDS[index % len(KINDS)][1], 3)
        if max(height, width) <= 128:  # larger ones are shrunk
            luminance = np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(float)
            variance = scipy.ndimage.laplace(luminance)[1:-1, 1:-1].var()
            # A JPEG's luminance is taken before it is turned into RGB and rounded.
            tolerance = {"rel": 0.05, "abs": 0.1} if format == "JPEG" else {"abs": 2**-16}
            assert row["image/sharpness"] * 2**-16 == pytest.approx(variance, **tolerance)


def test_blurring_lowers_sharpness_and_size_matters_little():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))

    def sharpness(image, format="JPEG"):
        buffer = io.BytesIO()
        image.save(buffer, format)
        sample = Example(buffer.getvalue(), "a", 0, "a", format, 1, 1, "")
        return measure_example(encode_example(sample))["image/sharpness"] * 2**-16

    photo = noise.resize((1600, 1600), Image.Resampling.BICUBIC)
    blurred = noise.resize((16, 16), Image.Resampling.BOX).resize((1600, 1600), Image.Resampling.BICUBIC)
    assert sharpness(photo) > 20 * sharpness(blurred)
    assert sharpness(photo) == pytest.approx(sharpness(photo.resize((400, 400), Image.Resampling.BOX)), rel=0.3)
    assert sharpness(photo) == pytest.approx(sharpness(photo, "PNG"), rel=0.1)


def test_16_bits_keep_their_high_byte():
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 40), np.uint16)
    data = tf.io.encode_png(pixels[..., None]).numpy()
    row = measure_example(encode_example(Example(data, "a", 0, "a", "PNG", 30, 40, "")))
    assert row["image/brightness"] * 2**-16 == pytest.approx((pixels >> 8).mean(), abs=0.01)
    assert row["image/channels"] == 1
