"""What it takes to decode an image, from its bytes alone: nothing is decoded, and no TensorFlow is loaded.

A file that cannot be read costs nothing: the decoder refuses it later. The walks through files end at the limits of
`kcnn.data.input_pipeline.limits`, as the decoder's do.
"""

import re
import struct
from typing import NamedTuple

from kcnn.data.input_pipeline.limits import (
    BLOCK_NANOSECONDS,
    BYTE_NANOSECONDS,
    CODES_NANOSECONDS,
    ENDLESS,
    INFLATION,
    MAX_BYTES_OF_TEXT,
    MAX_DATA_CHUNKS,
    MAX_GIF_BLOCKS,
    MAX_PIXELS,
    MAX_SCANNED_PIXELS,
    MAX_SCANS,
    MAX_SEGMENTS,
    MAX_TEXT_BYTES,
    NANOSECONDS,
    SCAN_NANOSECONDS,
    STEP_NANOSECONDS,
    WEBP_CODES,
)
from kcnn.data.input_pipeline.png_files import walk_png


class DecodingCost(NamedTuple):
    """What it takes to decode an image.

    Attributes:
        pixels: of the image that is decoded; 0 when these are not the bytes of an image, and ENDLESS past a limit. A
            GIF's frames count as a third each: many decoders hold them all, with a byte a pixel, before they take the
            first.
        nanoseconds: of one core, estimated (see `limits.NANOSECONDS`).
        excess: the limit that the file passes, as "more than 64 scans"; "" for none, or for too many pixels.
    """

    pixels: int = 0
    nanoseconds: int = 0
    excess: str = ""


def decoding_cost(encoded: bytes) -> DecodingCost:
    """Return what it takes to decode an image; nothing when these are not the bytes of one."""
    for magic, read in READERS.items():
        if encoded.startswith(magic):
            try:
                return read(encoded)
            except (struct.error, IndexError):  # it ends within its header
                return DecodingCost()
    return DecodingCost()


def find_excess(cost: DecodingCost, most_pixels: int = MAX_PIXELS) -> str:
    """Return the limit that an image passes, as "more than 100,000,000 pixels"; "" for none."""
    return cost.excess or (f"more than {most_pixels:,} pixels" if cost.pixels > most_pixels else "")


def _cost(name: str, width: int, height: int, encoded: bytes, walk: int = 0) -> DecodingCost:
    """Return the cost of an image of these sides, of any sign.

    Args:
        name: key of NANOSECONDS.
        width: as stored.
        height: as stored.
        encoded: the file.
        walk: nanoseconds of the graph's walk through it.
    """
    time = _area(width, height) * NANOSECONDS[name] + len(encoded) * BYTE_NANOSECONDS + walk
    return DecodingCost(abs(width * height), time)


def _area(width: int, height: int) -> int:
    """Return the pixels with both sides rounded up to 32: a JPEG's blocks, and the work for each row of any format."""
    return (abs(width) + 31 & -32) * (abs(height) + 31 & -32)


def _beyond(most: int, what: str) -> DecodingCost:
    return DecodingCost(ENDLESS, ENDLESS, f"more than {most:,} {what}")


def _jpeg(encoded: bytes) -> DecodingCost:
    """Return the cost by the first frame header and the scans. ITU-T T.81, B.1.1 and B.2.2."""
    position, frame, walk = 2, (0, 0, 0, 0), 0
    for _ in range(MAX_SEGMENTS):
        walk += STEP_NANOSECONDS
        if encoded[position] != 0xFF or encoded[position + 1] in b"\x00\xff":
            found = _MARKER.search(encoded, position)  # as libjpeg, which skips what stands between segments
            if not found:
                return DecodingCost()
            position = found.start()
        marker = encoded[position + 1]
        if marker == 0xDA:  # the compressed data
            break
        if marker in _FRAMES and not frame[0]:
            frame = (marker, *_FRAME.unpack_from(encoded, position + 5))
        position += 2
        if marker in _WITH_LENGTH:
            position += encoded[position] << 8 | encoded[position + 1]
    else:
        return _beyond(MAX_SEGMENTS, "segments")
    kind, height, width, components = frame
    if kind not in _PROGRESSIVE and encoded[position + 4] == components:  # the decoder refuses a second scan
        return _cost("JPEG", width, height, encoded, walk)
    scans = _count_scans(encoded, position + 1)
    if scans > MAX_SCANS:
        return _beyond(MAX_SCANS, "scans")
    if scans * height * width > MAX_SCANNED_PIXELS:
        return _beyond(MAX_SCANNED_PIXELS, "pixels in all scans")
    walk += scans * SCAN_NANOSECONDS * _area(width, height)
    return _cost("progressive JPEG", width, height, encoded, walk)


def _count_scans(encoded: bytes, position: int) -> int:
    """Return the number of scans of a JPEG, the first of whose markers ends at `position`; more than any when endless.

    Within the compressed data the decoder passes over markers below 0xC0 where it looks for a restart.
    """
    scans = 0
    for _ in range(MAX_SEGMENTS):
        scans += encoded[position] == 0xDA
        if encoded[position] == 0xD9 or scans > MAX_SCANS:
            return scans
        if encoded[position] in _WITH_LENGTH:
            position += int.from_bytes(encoded[position + 1 : position + 3], "big")
        found = _MARKER_BETWEEN_SCANS.search(encoded, position + 1)
        if not found:
            return scans
        position = found.start() + 1
    return ENDLESS


_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_BETWEEN_SCANS = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_FRAME = struct.Struct(">HHB")  # height, width, components
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_WITH_LENGTH = {*range(0xC0, 0xD0), *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE}


def _png(encoded: bytes) -> DecodingCost:
    """Return the cost by the header, which must be the first chunk, and by the chunks.

    https://www.w3.org/TR/png-3
    """
    steps = data_chunks = last = texts = 0
    alpha = encoded[25:26] in (b"\4", b"\6")
    for name, start, end in walk_png(encoded):
        alpha |= name == b"tRNS"
        texts += min((end - start) * INFLATION, MAX_BYTES_OF_TEXT) if name in _INFLATED else 0
        data_chunks += name == b"IDAT"
        steps += name != b"IDAT" or end - start != last
        last = end - start
        if steps > MAX_SEGMENTS:
            return _beyond(MAX_SEGMENTS, "chunks")
        if data_chunks > MAX_DATA_CHUNKS:
            return _beyond(MAX_DATA_CHUNKS, "chunks of data")
        if texts > MAX_TEXT_BYTES:
            return _beyond(MAX_TEXT_BYTES, "bytes that compressed texts may become")
    if not steps:
        return DecodingCost()
    width, height = struct.unpack_from(">II", encoded, 16)
    return _cost("PNG with alpha" if alpha else "PNG", width, height, encoded, steps * STEP_NANOSECONDS)


_INFLATED = {b"zTXt", b"iTXt", b"iCCP"}


def _bmp(encoded: bytes) -> DecodingCost:
    width, height = struct.unpack_from("<ii", encoded, 18)
    return _cost("BMP", width, height, encoded)


def _gif(encoded: bytes) -> DecodingCost:
    """Return the cost of the canvas, as large as its first frame makes it, and a third of the pixels of all frames.

    The blocks are counted as `kcnn.data.input_pipeline.gif_blocks` counts them: the beginnings of frames and
    extensions, the blocks that are not full, and the terminators.

    Source: https://www.w3.org/Graphics/GIF/spec-gif89a.txt, sections 18 to 25
    """

    def colours(flags: int) -> int:
        return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0

    width, height, flags = struct.unpack_from("<HHB", encoded, 6)
    position, frames, blocks, first = 13 + colours(flags), 0, 0, True
    while position < len(encoded) and encoded[position] in b"\x21\x2c" and blocks <= MAX_GIF_BLOCKS:
        blocks += 1
        if encoded[position] == 0x2C:
            # A descriptor that the file cuts off ends in zeros: the frames before it still count.
            descriptor = encoded[position + 1 : position + 10].ljust(9, b"\0")
            left, top, frame_width, frame_height, flags = struct.unpack("<HHHHB", descriptor)
            frames += frame_width * frame_height
            if first:
                width, height, first = max(width, left + frame_width), max(height, top + frame_height), False
            position += 11 + colours(flags)
        else:
            position += 2
        size = -1
        while size and position < len(encoded) and blocks <= MAX_GIF_BLOCKS:
            size = encoded[position]
            position += 1 + size
            blocks += size < 255
    if blocks > MAX_GIF_BLOCKS:
        return _beyond(MAX_GIF_BLOCKS, "blocks")
    cost = _cost("GIF", width, height, encoded, blocks * BLOCK_NANOSECONDS + frames * NANOSECONDS["GIF"])
    return cost._replace(pixels=cost.pixels + frames // 3)


def _webp(encoded: bytes) -> DecodingCost:
    """Return the cost of the canvas or of the first bitstream, whichever is larger; a frame may reach past the canvas.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    position, canvas, largest, place, animated, lossless, walk = 12, (0, 0), (0, 0), (0, 0), False, False, 0
    for step in range(MAX_SEGMENTS):
        walk = step * STEP_NANOSECONDS
        if position + 8 > len(encoded):
            break
        name, size = encoded[position : position + 4], struct.unpack_from("<I", encoded, position + 4)[0]
        content = position + 8
        sides = (0, 0)
        if name == b"VP8X":
            sides = canvas = _uint24_pair(encoded, content + 4, 1)
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", encoded, content + 6)
            sides = (width & 0x3FFF, height & 0x3FFF)
        elif name == b"VP8L":
            (bits,) = struct.unpack_from("<I", encoded, content + 1)
            sides = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        lossless |= name in (b"VP8L", b"ALPH")
        found = name in (b"VP8 ", b"VP8L")
        if found and animated:
            sides = (max(canvas[0], place[0] + sides[0]), max(canvas[1], place[1] + sides[1]))
        largest = max(largest, sides, key=lambda pair: pair[0] * pair[1])
        if found:
            break
        if name == b"ANMF" and not animated:  # chunks stand in it, after the frame's 16 bytes
            left, top = _uint24_pair(encoded, content, 0)
            position, animated, place = content + 16, True, (2 * left, 2 * top)
            continue
        position = content + size + (size & 1)
    else:
        return _beyond(MAX_SEGMENTS, "chunks")
    if lossless:
        walk += CODES_NANOSECONDS * min(WEBP_CODES, largest[0] * largest[1] // 16, len(encoded) // 2)
    return _cost("WEBP", *largest, encoded, walk)


def _uint24_pair(encoded: bytes, position: int, more: int) -> tuple[int, int]:
    """Return two 24-bit integers, each and `more`."""
    both = int.from_bytes(encoded[position : position + 6], "little")
    return (both & 0xFFFFFF) + more, (both >> 24) + more


def _jpeg_xl(encoded: bytes) -> DecodingCost:
    """Return the cost of the codestream, which stands alone or in a box. ISO/IEC 18181-1, SizeHeader, and 18181-2."""
    start = 2
    if encoded[:2] != b"\xff\x0a":
        found = [encoded.find(b"jxlc"), encoded.find(b"jxlp")]
        start = min((at + skipped for at, skipped in zip(found, (6, 10), strict=True) if at >= 0), default=len(encoded))
    bits = int.from_bytes(encoded[start : start + 16], "little")

    def read(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = read(1)

    def side() -> int:
        return 8 * (1 + read(5)) if small else 1 + read((9, 13, 18, 30)[read(2)])

    height = side()
    ratio = read(3)
    width = height * _JPEG_XL_RATIOS[ratio - 1] if ratio else side()
    return _cost("JPEG XL", int(width), height, encoded)


_JPEG_XL_RATIOS = (1, 1.2, 4 / 3, 1.5, 16 / 9, 1.25, 2)  # width to height
READERS = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"RIFF": _webp,
    # TensorFlow's decode_image reads it too.
    b"\xff\x0a": _jpeg_xl,
    b"\x00\x00\x00\x0cJXL ": _jpeg_xl,
}
