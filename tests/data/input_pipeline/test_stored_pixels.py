"""The pixels that a file states: as Pillow wrote them, and the same to the decoder and to the server's check."""

import struct

import pytest
import tensorflow as tf

from kcnn.data.input_pipeline import limits
from kcnn.data.input_pipeline.headers import decoding_cost
from kcnn.data.input_pipeline.stored_pixels import stored_pixels
from tests.data.input_pipeline.image_files import photo, saved

_pixels = tf.function(stored_pixels, input_signature=[tf.TensorSpec([], tf.string)])
EMPTY_GIF = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02"
FULL = b"\xff" + bytes(255)


def gif_of_blocks(count: int) -> bytes:
    """Return a GIF of 4,000 frames and a comment, with so many blocks that count, among full ones."""
    frames = 4_000 * (FRAME + b"\x01x\x00")
    small = count - 3 * 4_000 - 2  # the comment's beginning and terminator count too
    return EMPTY_GIF + frames + b"\x21\xfe" + small * (FULL + b"\x01x") + 3000 * FULL + b"\x00\x3b"


@pytest.mark.parametrize("more", [0, 1])
def test_the_decoder_and_the_server_refuse_the_same_gifs(more):
    encoded = gif_of_blocks(limits.MAX_GIF_BLOCKS + more)
    if more:
        assert min(int(_pixels(encoded)), decoding_cost(encoded).pixels) > limits.ENDLESS // 4
    else:
        assert int(_pixels(encoded)) == decoding_cost(encoded).pixels == 1 + 4_000 // 3


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 255 * 1024, 255 * 1024 + 1, 255 * 2050 + 254])
def test_the_decoder_and_the_server_walk_alike_through_data_of_any_size(size):
    blocks = b"".join(bytes([len(part)]) + part for part in (bytes(size)[at : at + 255] for at in range(0, size, 255)))
    encoded = EMPTY_GIF + FRAME + blocks + b"\x00" + FRAME.replace(b"\x01\x00", b"\x09\x00") + b"\x01x\x00\x3b"
    assert int(_pixels(encoded)) == decoding_cost(encoded).pixels == 1 + (1 + 81) // 3


def test_the_decoder_and_the_server_refuse_the_same_webps():
    """Put chunks before the image: past the limit the decoder finds none."""
    encoded = saved(photo(), "WEBP")
    for count, refused in ((limits.MAX_SEGMENTS - 1, False), (limits.MAX_SEGMENTS, True)):
        longer = encoded[:12] + (b"NONE" + bytes(4)) * count + encoded[12:]
        assert (decoding_cost(longer).pixels > limits.ENDLESS // 4) == refused
        assert (int(_pixels(longer)) != 53 * 38) == refused


def test_a_large_gif_is_not_refused_for_its_size():
    """Read a GIF of 60 MB, of which few blocks count, since full ones do not."""
    encoded = EMPTY_GIF + FRAME + FULL * 234_000 + b"\x00" + b"\x21\xfe\x01x\x00\x3b"
    assert int(_pixels(encoded)) == decoding_cost(encoded).pixels == 1


@pytest.mark.parametrize("size", [(1, 1), (37, 100), (640, 3)])
def test_the_pixels_that_a_file_stores(size):
    image = photo(size=size)
    for encoded in (
        *(saved(image, format) for format in ("JPEG", "PNG", "BMP", "WEBP")),
        saved(image, "WEBP", lossless=True),
        saved(photo("RGBA", size), "WEBP"),
        saved(image, "WEBP", save_all=True, append_images=[photo(size=size, seed=1)]),
    ):
        assert _pixels(encoded) == size[0] * size[1]
    assert _pixels(b"") == _pixels(b"x") == -1


def test_the_frames_that_a_gif_stores():
    """Count frames with colours of their own, comments between them, and more than a block each."""
    frames = [photo(size=(90, 70), seed=seed) for seed in range(5)]
    encoded = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"c" * 600)
    assert _pixels(encoded) == 90 * 70 + 5 * 90 * 70 // 3


def test_files_that_store_more_than_they_say():
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\x00"
    small = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    one = frame.replace(struct.pack("<H", 60_000), struct.pack("<H", 1))
    assert _pixels(small + frame + b";") > 10**9
    assert _pixels(small + one + b"\x21\xfe\x03abc\x00" + frame + b";") > 10**9
    assert _pixels(small + b"\x21\xfe" + b"\x01x" * 250_000 + b"\x00;") > 10**9  # to keep a server busy
    for damaged in (small, small + frame[:5], small[:9], b"GIF8", small + b"\x21\xfe\xff"):
        assert 0 <= _pixels(damaged) <= 1
    # A WebP of which only what stands around the picture is small.
    canvas = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes(10)
    lossless = b"VP8L" + struct.pack("<IBI", 8, 0x2F, 9999 | 9999 << 14) + bytes(3)
    lossy = b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 9000, 8000)
    assert _pixels(canvas + lossless) == 10**8
    assert _pixels(canvas + lossy) == 72 * 10**6
    assert _pixels(canvas + b"ANMF" + struct.pack("<I", 26) + bytes(16) + lossy) == 72 * 10**6
