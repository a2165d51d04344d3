"""The limits of the work that an image file may cause, in one table.

The decoder's graph (`kcnn.data.input_pipeline.stored_pixels`) and the check of headers in Python
(`kcnn.data.input_pipeline.headers`: for examples, for Pillow, for the server) walk through the same files. Both stop at
the limits here. This module imports nothing: the server loads no TensorFlow for it.
"""

# Pixels that an image states in its header, for all that decodes one: a larger image is excluded by name when examples
# are made, it gets a status from an export, and a server refuses it (where `--max_pixels` does not say otherwise).
MAX_PIXELS = 100_000_000

# Of all images of a request together, for each pixel that one image may have: their pixels, and the nanoseconds that
# one core takes to decode them (see NANOSECONDS).
REQUEST_PIXELS = 2
REQUEST_NANOSECONDS = 55

# Segments of a JPEG or chunks of a PNG or WebP before the one that is looked for. Files of cameras have under 100; a
# depth map of 16 MB in a JPEG has 256.
MAX_SEGMENTS = 1024

# Scans of a JPEG, and the pixels that they pass together: the decoder goes over the whole image for each, though a
# scan may have no data. A progressive photo has 10; the tools that search for the smallest file make 20 at most.
MAX_SCANS = 64
MAX_SCANNED_PIXELS = 12 * MAX_PIXELS

# Chunks of a PNG's compressed data. The decoder's graph passes up to RUN of the same length in one step, so that the
# others alone count as segments.
MAX_DATA_CHUNKS = 65_536
RUN = 1024

# Bytes that the texts and the profile of a PNG may become: many decoders inflate each, to 8 MB at most (as libpng).
# A byte of zlib's becomes 1,032 at most.
MAX_TEXT_BYTES = 64_000_000
MAX_BYTES_OF_TEXT = 8_000_000
INFLATION = 1032

# Blocks of a GIF that are counted: the beginning of a frame or an extension, a data block of less than 255 bytes, and
# a terminator. Full data blocks (255 bytes) are not counted: the decoder passes up to RUN of them together with the
# block after them in one step, so that they cost next to nothing. The size of the file bounds them.
# A frame with its graphic control extension has 6 counted blocks, so that 16,000 are more than 2,600 frames.
MAX_GIF_BLOCKS = 16_000

# Nanoseconds of one core, rounded up from measurements: to decode a pixel of a format, for a further scan's pass over a
# pixel, for a compressed byte, and for a step of the graph's walk through the chunks or the blocks of a file.
NANOSECONDS = {
    "JPEG": 8,
    "progressive JPEG": 16,
    "PNG": 25,
    "PNG with alpha": 50,
    "GIF": 30,
    "BMP": 20,
    "WEBP": 40,
    "JPEG XL": 40,
}
SCAN_NANOSECONDS = 3
BYTE_NANOSECONDS = 16
STEP_NANOSECONDS = 20_000
BLOCK_NANOSECONDS = 160_000  # it is walked through twice: to count, and to find the first frame

# Sets of codes that a lossless WebP, or the alpha of a WebP, may have: one for each 16 pixels and 2 bytes at most. How
# many it has stands within its compressed data; building one takes so long.
WEBP_CODES = 65_536
CODES_NANOSECONDS = 8_000

# The number of pixels that stands for "more than any limit allows": the walk through the file ended at a limit.
ENDLESS = 2**62
