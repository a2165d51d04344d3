"""The first bytes of image files, by which their format is recognised; a module without TensorFlow."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG"
GIF = b"GIF8"
BMP = b"BM"
WEBP = b"RIFF"
FORMATS = (JPEG, PNG, GIF, BMP, WEBP)
