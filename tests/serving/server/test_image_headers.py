"""The pixels that a header promises, against Pillow, and against files made to take a decoder's memory."""

import base64
import io
import random
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data.input_pipeline.headers import decoding_cost
from kcnn.data.input_pipeline.limits import ENDLESS, MAX_GIF_BLOCKS
from kcnn.data.input_pipeline.stored_pixels import stored_pixels
from kcnn.serving.server.image_headers import field_budget, is_base64_of_image, text_cost
from kcnn.serving.server.messages import MOST_FIELDS
from kcnn.serving.server.status import StatusError

SIZES = [(1, 1), (37, 100), (640, 3), (5000, 3001)]
# Of libjxl: 64x64 and 100x37, as a codestream and in a box, and the first bytes of 5000x3001.
JPEG_XL = {
    "/wpPBgATiAIAOAG1nyAAABUqo4wbvJzr+fJDh8W0jesMbbVtYQljs70wSAiACyKjToyM1wDWJgCsjkKoMTaBwXalFYYgjgSWAwwrQQAAgRoZDXAXgqm"
    "tJAE=": 64 * 64,
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAABmanhsY/8KIAHGDAATiAIARAG1nyAAABUqo4wbvJzr+fJDh8W0jesMbbVtYQljs70wSAiA"
    "C6KiSEbGawSrMwDUkyHcGJjAoPDiSk0QBxFGUoyiMmMC6gloLIVytYAuJHZbSQI=": 100 * 37,
    "/wrCXehwDgATiAIAkMCO7AhhiIVYVEQU": 5000 * 3001,
}  # fmt: skip


def written(format, size, **options):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("WEBP", {}), ("WEBP", {"lossless": 1})],
    ids=str,
)
def test_as_pillow_wrote_it(format, options, size):
    assert decoding_cost(written(format, size, **options)).pixels == size[0] * size[1]


def test_metadata_before_the_size():
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    for format in ("JPEG", "PNG", "WEBP"):
        assert decoding_cost(written(format, (30, 20), exif=exif)).pixels == 600
    image = Image.fromarray(np.zeros((20, 30, 4), np.uint8))
    file = io.BytesIO()
    image.save(file, "WEBP")  # with alpha, in the extended format
    assert decoding_cost(file.getvalue()).pixels == 600


def test_all_frames_count():
    frames = [Image.fromarray(np.full((20, 30), shade, np.uint8)) for shade in range(9)]
    for format, counted in (("GIF", 600 + 9 * 600 // 3), ("WEBP", 600)):
        file = io.BytesIO()
        frames[0].save(file, format, save_all=True, append_images=frames[1:])
        assert decoding_cost(file.getvalue()).pixels == counted


def test_jpeg_xl():
    for content, size in JPEG_XL.items():
        assert decoding_cost(base64.b64decode(content)).pixels == size


def gif(blocks):
    """Return a GIF of one comment of these bytes of data blocks, and one frame."""
    start = b"GIF89a" + struct.pack("<HHBBB", 3, 2, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 3, 2, 0) + b"\x02\x02\x4c\x01\x00"
    return start + b"\x21\xfe" + blocks + b"\x00" + frame + b";"


@pytest.mark.parametrize("full", [pytest.param(0, marks=pytest.mark.slow), 3000])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_gifs_at_the_limit_are_accepted_and_refused_as_by_the_decoder(beyond, full):
    counted = MAX_GIF_BLOCKS - 5 + beyond  # two beginnings, the frame's block and two terminators are counted too
    content = gif((b"\xff" + bytes(255)) * full + b"\x01x" * counted)
    found = {decoding_cost(content).pixels, int(stored_pixels(tf.constant(content)))}
    if beyond > 0:
        assert min(found) >= ENDLESS // 3
    else:
        assert found == {3 * 2 + 3 * 2 // 3}


def test_a_gif_that_is_cut_off_has_the_pixels_of_its_frames():
    content = gif(b"\x01x")
    for length in range(len(content) - 1, 13, -1):
        assert decoding_cost(content[:length]).pixels == stored_pixels(tf.constant(content[:length]))


def test_bombs():
    # A GIF whose second frame is far larger than its canvas.
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\x00"
    small = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    assert decoding_cost(small + frame + b";").pixels > 10**9
    # One of a million tiny blocks.
    assert decoding_cost(small + b"\x21\xfe" + b"\x01x" * 10**6 + b"\x00;").pixels > 10**9
    # A WebP with a canvas of 2^48 pixels around a picture of one.
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6
    assert decoding_cost(b"RIFF\0\0\0\0WEBP" + canvas + written("WEBP", (1, 1))[12:]).pixels == 2**48
    # JPEG segments without end.
    assert decoding_cost(b"\xff\xd8" + b"\xff\xe1\x00\x02" * 10_000).pixels > 10**9
    assert decoding_cost(b"BM" + bytes(16) + struct.pack("<ii", 100_000, -100_000)).pixels == 10**10


def test_anything_else_has_none():
    for content in (b"", b"x", b"\xff\xd8\xff", b"\x89PNG", b"GIF89a", b"RIFF", b"BM"):
        assert decoding_cost(content).pixels == 0
    chance = random.Random(0)
    sources = [written(format, (64, 48)) for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP")]
    sources += map(base64.b64decode, JPEG_XL)
    for _ in range(20_000):
        content = bytearray(chance.choice(sources)[: chance.randrange(1, 200)])
        content[chance.randrange(len(content))] = chance.randrange(256)
        assert decoding_cost(bytes(content)).pixels >= 0


def field(number, content):
    """Return a field of a protobuf message, delimited, of up to 127 bytes."""
    return bytes([8 * number + 2, len(content)]) + content


def test_an_image_in_an_example_is_found_wherever_tensorflow_finds_it():
    image = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 9000, 9000)
    texts = field(1, field(1, image))
    entry = field(1, b"image") + field(2, texts)
    example = field(1, field(1, entry))
    other_key = field(1, field(1, b"\xff\xfe") + field(2, texts))
    numbers = field(3, b"")
    both_kinds = field(1, b"image") + field(2, texts + numbers)
    broken_later = field(1, b"image") + field(2, texts + b"\xff")
    for written in (
        example,
        b"\x12\x00" + example,  # behind an unknown field
        b"\x98\x80\x00\x01\x99\x01" + bytes(8) + b"\x9d\x01" + bytes(4) + example,
        field(1, other_key) + example,  # protobuf refuses it
        field(1, field(1, both_kinds)),  # protobuf sees the numbers alone
        field(1, field(1, broken_later)),
        b"\x0a\x7f" + example[2:],  # longer than there is
        b"\x0a\x80\x80\x80\x80\x10" + example,  # a length of 2^32 is 0
        b"\x89PNG\r\n\x1a\n\x00\x00" + example,  # as PNG, of other sizes
        b"BM" + bytes(77) + example,
    ):
        parsed = tf.io.parse_single_example(written, {"image": tf.io.FixedLenFeature([], tf.string)})
        assert parsed["image"] == image
        assert text_cost(written, field_budget()).pixels >= 81_000_000
    for written in (b"", b"\x0a", b"\x0a\xff", b"\xff" * 100, example[:-1], "naïve".encode(), b"BM" + bytes(100)):
        assert text_cost(written, field_budget()).pixels in (0, 81_000_000)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_base64_of_an_image_is_none(format):
    """Expect that of its standard and URL-safe form, in lines, behind a data: URI, in an example and of an example."""
    content = written(format, (30, 20))
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(content)
    example = example.SerializeToString()
    standard = base64.b64encode(content)
    texts = [
        standard,
        standard.rstrip(b"="),
        base64.urlsafe_b64encode(content),
        base64.encodebytes(content),
        b"data:image/x;base64," + standard,
        base64.b64encode(example),
    ]
    for text in texts:
        assert is_base64_of_image(text, field_budget())
    wrapped = tf.train.Example()
    wrapped.features.feature["image/encoded"].bytes_list.value.append(standard)
    assert is_base64_of_image(wrapped.SerializeToString(), field_budget())
    for text in (content, example, b"", b"text", b"A" * 100, base64.b64encode(b"some words, and no image at all")):
        assert not is_base64_of_image(text, field_budget())


@pytest.mark.parametrize("part", [b"\x0a\x00", b"\x0a\x02\x0a\x00", b"\x00\x00", b"\x98\x01\x00", b"\x13"])
def test_a_walk_through_very_many_fields_is_given_up(part):
    """Expect that for one text, and for all texts of a request together."""
    whole = part * (2**24 // len(part)) + b"GIF8"
    with pytest.raises(StatusError, match=f"more than {MOST_FIELDS} fields"):
        text_cost(whole, field_budget())
    steps = field_budget()
    for _ in range(20):
        text_cost(part * (MOST_FIELDS // 64) + b"GIF8", steps)
    with pytest.raises(StatusError, match=f"more than {MOST_FIELDS} fields"):
        text_cost(part * MOST_FIELDS + b"GIF8", steps)
    steps = field_budget()
    standard = base64.b64encode(whole[: 2**20])
    assert is_base64_of_image(base64.b64encode(picture_of_zeros()), steps)
    assert not is_base64_of_image(standard, field_budget())


def picture_of_zeros():
    """Return a BMP whose bytes are as many fields of a message."""
    return written("BMP", (700, 700))[:54] + bytes(3 * 700 * 700)


def test_a_black_picture_is_no_walk():
    assert text_cost(picture_of_zeros(), field_budget()).pixels == 700 * 700
