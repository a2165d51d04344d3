"""The pixels of an encoded image, from its header alone: nothing is decoded, and no TensorFlow is loaded.

A file that cannot be read has no pixels: the decoder refuses it later. The walks through files end at the limits of
`kcnn.data.input_pipeline.limits`, as the decoder's do.
"""

import struct

from kcnn.data.input_pipeline.limits import ENDLESS, MAX_GIF_BLOCKS, MAX_SEGMENTS


def pixels(encoded: bytes) -> int:
    """Return the pixels of the image that is decoded; 0 when these are not the bytes of an image.

    A GIF's frames count as a third each: many decoders hold them all, with a byte a pixel, before they take the first.
    """
    for magic, read in READERS.items():
        if encoded.startswith(magic):
            try:
                return read(encoded)
            except (struct.error, IndexError):  # it ends within its header
                return 0
    return 0


def _jpeg(encoded: bytes) -> int:
    """Return the pixels in the first frame header. ITU-T T.81, B.1.1 and B.2.2."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = encoded.find(b"\xff", position)  # as libjpeg, which skips what stands between segments
        if position < 0:
            return 0
        while encoded[position] == 0xFF:
            position += 1
        marker = encoded[position]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", encoded, position + 4)
            return height * width
        if marker == 0xDA:  # the compressed data
            return 0
        alone = marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9
        position += 1 if alone else 1 + struct.unpack_from(">H", encoded, position + 1)[0]
    return ENDLESS


def _png(encoded: bytes) -> int:
    width, height = struct.unpack_from(">II", encoded, 16)
    return width * height


def _bmp(encoded: bytes) -> int:
    width, height = struct.unpack_from("<ii", encoded, 18)
    return abs(width * height)


def _gif(encoded: bytes) -> int:
    """Return the pixels of the canvas, and a third of those of all frames.

    The blocks are counted as `kcnn.data.input_pipeline.containers` counts them: the beginnings of frames and
    extensions, the blocks that are not full, and the terminators.

    Source: https://www.w3.org/Graphics/GIF/spec-gif89a.txt, sections 18 to 25
    """

    def colours(flags: int) -> int:
        return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0

    width, height, flags = struct.unpack_from("<HHB", encoded, 6)
    position, frames, blocks = 13 + colours(flags), 0, 0
    while position < len(encoded) and encoded[position] in b"\x21\x2c" and blocks <= MAX_GIF_BLOCKS:
        blocks += 1
        if encoded[position] == 0x2C:
            # A descriptor that the file cuts off ends in zeros: the frames before it still count.
            descriptor = encoded[position + 5 : position + 10].ljust(5, b"\0")
            frame_width, frame_height, flags = struct.unpack("<HHB", descriptor)
            frames += frame_width * frame_height
            position += 11 + colours(flags)
        else:
            position += 2
        size = -1
        while size and position < len(encoded) and blocks <= MAX_GIF_BLOCKS:
            size = encoded[position]
            position += 1 + size
            blocks += size < 255
    return ENDLESS if blocks > MAX_GIF_BLOCKS else width * height + frames // 3


def _webp(encoded: bytes) -> int:
    """Return the pixels of the canvas or of the first bitstream, whichever is larger.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    position, largest = 12, 0
    for _ in range(MAX_SEGMENTS):
        if position + 8 > len(encoded):
            return largest
        name, size = encoded[position : position + 4], struct.unpack_from("<I", encoded, position + 4)[0]
        content = position + 8
        if name == b"VP8X":
            canvas = int.from_bytes(encoded[content + 4 : content + 10], "little")
            largest = max(largest, (1 + (canvas & 0xFFFFFF)) * (1 + (canvas >> 24)))
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", encoded, content + 6)
            return max(largest, (width & 0x3FFF) * (height & 0x3FFF))
        elif name == b"VP8L":
            (bits,) = struct.unpack_from("<I", encoded, content + 1)
            return max(largest, (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF)))
        elif name == b"ANMF":  # chunks stand in it, after the frame's 16 bytes
            position = content + 16
            continue
        position = content + size + (size & 1)
    return ENDLESS


def _jpeg_xl(encoded: bytes) -> int:
    """Return the pixels of the codestream, which stands alone or in a box. ISO/IEC 18181-1, SizeHeader, and 18181-2."""
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
    return int(width * height)


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
