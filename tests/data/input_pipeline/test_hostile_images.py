"""Work that hides in an image: found by its bytes in Python and in the graph alike, or not given to the decoder."""

import io
import resource
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, PngImagePlugin

from kcnn.data import pictures
from kcnn.data.ingestion.examine import examine_images
from kcnn.data.input_pipeline.decode import decode_image
from kcnn.data.input_pipeline.headers import decoding_cost, find_excess
from kcnn.data.input_pipeline.limits import (
    MAX_DATA_CHUNKS,
    MAX_PIXELS,
    MAX_SCANNED_PIXELS,
    MAX_SCANS,
    MAX_SEGMENTS,
    MAX_TEXT_BYTES,
)
from kcnn.data.input_pipeline.png_chunks import needed_chunks
from kcnn.data.input_pipeline.png_files import strip_png
from kcnn.data.input_pipeline.stored_pixels import stored_pixels
from tests.data.input_pipeline.hostile_images import (
    END,
    chunk,
    grey_png,
    jpeg_of_scans,
    scan,
    segment,
    text_bomb,
    with_chunks,
)
from tests.data.input_pipeline.image_files import photo, pillow, png, saved

_TEXT = [tf.TensorSpec([], tf.string)]
_decode = tf.function(decode_image, input_signature=_TEXT)
_pixels = tf.function(stored_pixels, input_signature=_TEXT)
_needed = tf.function(needed_chunks, input_signature=_TEXT)
SMALL = (64, 48)
FIRST = scan(3, 0, 0)
BY_CHANCE = np.random.default_rng(0).bytes(6_000_000)  # some ninety places look like the beginning of a scan

SCANS = {
    "as many as allowed": (jpeg_of_scans(SMALL, FIRST, scan() * (MAX_SCANS - 1), END), None),
    "one more": (jpeg_of_scans(SMALL, FIRST, scan() * MAX_SCANS, END), "scans"),
    "without an end": (jpeg_of_scans(SMALL, FIRST, scan() * MAX_SCANS), "scans"),
    "baseline, a component each": (jpeg_of_scans(SMALL, scan(1, 0) * 65, END, frame=0xC0), "scans"),
    "arithmetic": (jpeg_of_scans(SMALL, FIRST, scan() * 64, END, frame=0xCA), "scans"),
    "one component": (jpeg_of_scans(SMALL, scan(1, 0, 0), scan() * 64, END, components=1), "scans"),
    "with data": (jpeg_of_scans(SMALL, FIRST, (scan() + b"\0\xff\0\xff\xd0") * 64, END), "scans"),
    "tables between": (jpeg_of_scans(SMALL, FIRST, (segment(0xC4, bytes(17)) + scan()) * 64, END), "scans"),
    "fill bytes between": (jpeg_of_scans(SMALL, FIRST, (b"\xff\xff\xff" + scan()) * 64, END), "scans"),
    "behind an end in a comment": (jpeg_of_scans(SMALL, FIRST, segment(0xFE, END * 9), scan() * 64), "scans"),
    "behind a marker without length": (jpeg_of_scans(SMALL, FIRST, b"\xff\x02\x40\0", scan() * 64), "scans"),
    "large": (jpeg_of_scans((10_000, 9_999), FIRST, scan() * 11, END), None),
    "large, one more": (jpeg_of_scans((10_000, 9_999), FIRST, scan() * 12, END), "pixels in all scans"),
    "in a comment": (jpeg_of_scans(SMALL, FIRST, segment(0xFE, scan() * 90), END), None),
    "behind the end": (jpeg_of_scans(SMALL, FIRST, END, scan() * 90), None),
    "a film behind a photo": (saved(photo(), "JPEG") + BY_CHANCE, None),
    "a film behind a progressive photo": (saved(photo(), "JPEG", progressive=True) + BY_CHANCE, None),
}


@pytest.mark.parametrize("name", SCANS)
def test_the_scans_of_a_jpeg_are_counted(name):
    encoded, excess = SCANS[name]
    cost = decoding_cost(encoded)
    assert (int(_pixels(encoded)) > MAX_PIXELS) == (excess is not None)
    if excess is None:
        assert find_excess(cost) == ""
        assert int(_pixels(encoded)) == cost.pixels
    else:
        assert find_excess(cost) in (f"more than {MAX_SCANS} {excess}", f"more than {MAX_SCANNED_PIXELS:,} {excess}")


def test_further_scans_cost_time():
    few, many = (decoding_cost(jpeg_of_scans((4000, 3000), FIRST, scan() * more, END)) for more in (1, 60))
    assert few.pixels == many.pixels == 12_000_000
    assert many.nanoseconds - few.nanoseconds > 59 * 12_000_000
    thin = decoding_cost(jpeg_of_scans((1, 65_500), FIRST, scan() * 60, END))
    assert thin.nanoseconds > 60 * 8 * 65_500  # its blocks are eight wide


def rejections(*files):
    """Return why examples, the decoder and Pillow refuse each file; "" where one of them takes it."""
    for encoded in files:
        (examined,) = examine_images([_source(encoded)])
        try:
            _decode(encoded)
            decoder = ""
        except tf.errors.InvalidArgumentError as error:
            decoder = str(error)
        try:
            with pictures.open_picture(encoded) as image:
                image.load()
            reader = ""
        except pictures.DamagedPictureError as error:
            reader = str(error)
        yield examined.reason or "", decoder, reader


def _source(encoded):
    from kcnn.data.datasets import ImageSource

    return ImageSource("a", "cat", None, lambda: encoded)


def test_a_png_begins_with_its_header():
    """Put what looks like a small header where it is read, and a large one behind it."""
    inner = png(0, 8, (90, 70), (b"\0" + bytes(90)) * 70)
    before = chunk(b"abCd", struct.pack(">II", 1, 1) + bytes(5))
    files = [with_chunks(inner, first=before), with_chunks(inner, first=inner[8:33]), inner[:8] + bytes(4) + inner[8:]]
    for encoded, refused in zip(files, rejections(*files), strict=True):
        assert all(refused)
        assert int(_pixels(encoded)) in (0, 90 * 70)
        assert decoding_cost(encoded).pixels == int(_pixels(encoded))


def test_texts_that_inflate_are_no_work():
    """Give the decoders a PNG whose texts would take 800 MB."""
    plain = grey_png((9, 9))
    many = text_bomb() * 100
    files = [
        with_chunks(plain, middle=many),
        with_chunks(plain, last=many),
        with_chunks(plain, middle=text_bomb(b"iTXt") * 100),
        with_chunks(plain, middle=text_bomb(b"iCCP") * 100),
        with_chunks(plain, middle=text_bomb() * 60, last=text_bomb(b"iTXt") * 60),
    ]
    for encoded in files:
        assert find_excess(decoding_cost(encoded)) == (
            f"more than {MAX_TEXT_BYTES:,} bytes that compressed texts may become"
        )
        assert examine_images([_source(encoded)])[0].reason.startswith("too large")
        assert not any(name in _needed(encoded).numpy() for name in (b"zTXt", b"iTXt", b"iCCP"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for encoded in files:
        np.testing.assert_array_equal(_decode(encoded), _decode(plain))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 2**10  # KiB


CHUNKS = {
    "many": (with_chunks(grey_png((9, 9)), middle=chunk(b"abCd", b"") * (MAX_SEGMENTS - 9)), ""),
    "too many": (with_chunks(grey_png((9, 9)), middle=chunk(b"abCd", b"") * MAX_SEGMENTS), f"{MAX_SEGMENTS:,} chunks"),
    "too many behind": (with_chunks(grey_png((9, 9)), last=chunk(b"tEXt", b"") * 9999), f"{MAX_SEGMENTS:,} chunks"),
    "data of any size": (
        grey_png((9, 9), *(chunk(b"IDAT", bytes(at % 2)) for at in range(9999))),
        f"{MAX_SEGMENTS:,} chunks",
    ),
    "empty data": (grey_png((9, 9), chunk(b"IDAT", b"") * (MAX_DATA_CHUNKS - 1)), ""),
    "more empty data": (grey_png((9, 9), chunk(b"IDAT", b"") * MAX_DATA_CHUNKS), f"{MAX_DATA_CHUNKS:,} chunks of data"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_the_chunks_of_a_png_are_counted(name):
    encoded, excess = CHUNKS[name]
    assert find_excess(decoding_cost(encoded)) == (f"more than {excess}" if excess else "")
    if not excess:
        with_text = with_chunks(encoded, middle=chunk(b"tEXt", b"a\0b"))
        np.testing.assert_array_equal(_decode(with_text), np.zeros((9, 9, 3)))


@pytest.mark.parametrize("length", [2**31 - 13, 2**31 - 1, 2**31, 2**32 - 12, 2**32 - 1])
def test_lengths_past_the_end_lead_nowhere(length):
    encoded = with_chunks(grey_png((9, 9)), middle=chunk(b"tEXt", b"a\0b") + struct.pack(">I", length) + b"abCd")
    for refused in rejections(encoded):
        assert refused[0]
        assert refused[1]


def honest_pngs():
    """Yield files with all that may stand in a PNG, as programs write it, and their pixels."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    info = PngImagePlugin.PngInfo()
    for key, value, zipped in (("Software", "a program", False), ("Comment", "x" * 3000, True)):
        info.add_text(key, value, zip=zipped)
        info.add_itxt(key, "ä" + value, "de", "Kommentar", zip=zipped)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = photo(mode, size=(200, 150))
        transparent = {"transparency": 3} if mode in ("L", "P") else {}
        encoded = saved(image, "PNG", icc_profile=profile, pnginfo=info, **transparent)
        yield encoded, pillow(encoded)
        whole = saved(image, "PNG", pnginfo=info, compress_level=0, dpi=(72, 72))
        gamma = chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"sRGB", b"\1")
        yield with_chunks(whole, middle=gamma, last=chunk(b"tIME", bytes(7)) + chunk(b"tEXt", b"a\0b")), pillow(whole)
    samples = np.random.default_rng(0).integers(0, 2**16, (5, 7)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    encoded = with_chunks(png(0, 16, (7, 5), rows), middle=chunk(b"gAMA", struct.pack(">I", 45_455)))
    yield encoded, np.repeat(samples[..., None] >> 8, 3, axis=2)
    yield with_chunks(whole, last=chunk(b"tEXt", b"a\0b")) + bytes(99_999), pillow(whole)


def test_honest_pngs_keep_their_pixels():
    for encoded, expected in honest_pngs():
        assert find_excess(decoding_cost(encoded)) == ""
        np.testing.assert_array_equal(_decode(encoded), expected)
        assert strip_png(encoded) != encoded
        with pictures.open_picture(encoded) as image:
            np.testing.assert_array_equal(pictures.decode_colours(image), expected)
        (examined,) = examine_images([_source(encoded)])
        assert examined.reason is None


def test_pillow_gets_what_the_pixels_take():
    buffer = io.BytesIO()
    photo().save(buffer, "PNG", save_all=True, append_images=[photo(seed=1)])
    with pictures.open_picture(with_chunks(buffer.getvalue(), middle=chunk(b"tEXt", b"a\0b"))) as image:
        assert image.n_frames == 2
        assert "a" not in image.info
    too_large = jpeg_of_scans(SMALL, FIRST, scan() * 99, END)
    with pytest.raises(pictures.DamagedPictureError, match="more than 64 scans"), pictures.open_picture(too_large):
        pass


def test_an_animation_in_an_animation_has_one_size():
    """Put a small picture into a frame of a WebP's frame, and a large one behind it."""
    small, large = (saved(photo(size=size), "WEBP")[12:] for size in ((5, 4), (300, 200)))

    def frame(content):
        return b"ANMF" + struct.pack("<I", 16 + len(content)) + bytes(16) + content

    encoded = b"RIFF\xff\xff\0\0WEBP" + frame(frame(small) + large)
    assert decoding_cost(encoded).pixels == int(_pixels(encoded)) == 300 * 200


def test_the_codes_of_a_lossless_webp_cost_time():
    """Compare a lossless image with a lossy one; their pixels are the same."""
    lossy, lossless = (saved(photo(size=(300, 200)), "WEBP", lossless=kind) for kind in (False, True))
    alpha = saved(photo("RGBA", size=(300, 200)), "WEBP")
    for encoded in (lossless, alpha):
        assert decoding_cost(encoded).nanoseconds - decoding_cost(lossy).nanoseconds > 8_000 * 300 * 200 // 17


@pytest.mark.parametrize(("place", "size"), [((60_000, 50_000), (1, 1)), ((0, 0), (16_000, 15_000))], ids=str)
def test_a_frame_past_its_canvas_counts(place, size):
    """Put a frame where the image that is decoded must reach, though its canvas is small."""
    descriptor = struct.pack("<HHHHB", *place, *size, 0)
    still = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"\x2c" + descriptor + b"\2\2\x4c\1\0;"
    expected = (place[0] + size[0]) * (place[1] + size[1]) + size[0] * size[1] // 3
    assert decoding_cost(still).pixels == int(_pixels(still)) == expected > MAX_PIXELS
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + bytes(6)
    lossless = b"VP8L" + struct.pack("<IBI", 8, 0x2F, size[0] - 1 | size[1] - 1 << 14) + bytes(3)
    where = b"".join((side // 2).to_bytes(3, "little") for side in place)
    frame = b"ANMF" + struct.pack("<I", 16 + len(lossless)) + where + bytes(10) + lossless
    animated = b"RIFF\xff\xff\0\0WEBP" + canvas + frame
    expected = (place[0] + size[0]) * (place[1] + size[1])
    assert decoding_cost(animated).pixels == int(_pixels(animated)) == expected


def test_a_bmp_of_one_bit_takes_little_memory():
    image = Image.new("1", (8000, 8000))
    image.paste(1, (100, 200, 300, 500))
    encoded = saved(image, "BMP")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = _decode(encoded).numpy()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 * 2**10  # KiB; three bytes a pixel, twice
    assert decoded[200:500, 100:300].min() == 255
    assert decoded.sum(dtype=np.int64) == 3 * 255 * 300 * 200


def test_no_decoder_is_asked_about_other_formats():
    for content in (b"", b"text", b"\xff\x0a" + bytes(99), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            _decode(content)
