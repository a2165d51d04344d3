"""The limits of the work that an image file may cause, in one table.

The decoder's graph (`kcnn.data.input_pipeline.containers`) and the server's check of headers
(`kcnn.data.input_pipeline.headers`) walk through the same files. Both stop at the limits here, so that both accept
and refuse the same GIFs and WebPs. (A JPEG's segments are followed by libjpeg in the graph, without a limit of ours.)
This module imports nothing: the server loads no TensorFlow for it.
"""

# Pixels that an image states in its header, for all that decodes one: a larger image is excluded by name when examples
# are made, it gets a status from an export, and a server refuses it (where `--max_pixels` does not say otherwise).
MAX_PIXELS = 100_000_000

# Segments of a JPEG or chunks of a PNG or WebP before the one that is looked for. Files of cameras have under 100.
MAX_SEGMENTS = 4096

# Blocks of a GIF that are counted: the beginning of a frame or an extension, a data block of less than 255 bytes, and
# a terminator. Full data blocks (255 bytes) are not counted: the decoder passes up to GIF_FULL_BLOCKS of them together
# with the block after them in one step, so that they cost next to nothing. The size of the file bounds them.
# A frame with its graphic control extension has 6 counted blocks, so that 50,000 are more than 8,000 frames. A step of
# the decoder takes 0.1 milliseconds on a slow core: the worst file keeps one busy for 5 seconds.
MAX_GIF_BLOCKS = 50_000
GIF_FULL_BLOCKS = 1024

# The number of pixels that stands for "more than any limit allows": the walk through the file ended at a limit.
ENDLESS = 2**62
