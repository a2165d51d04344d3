"""The first bytes of image files, by which their format is recognised; a module without TensorFlow."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG"
GIF = b"GIF8"
BMP = b"BM"
WEBP = b"RIFF"
FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF", BMP: "BMP", WEBP: "WEBP"}


def find_format(encoded: bytes) -> str | None:
    """Return the format of a file that begins like an image, "JPEG", "PNG", "GIF", "BMP" or "WEBP"; None for others."""
    found = next((name for magic, name in FORMATS.items() if encoded.startswith(magic)), None)
    return None if found == "WEBP" and encoded[8:12] != b"WEBP" else found  # RIFF holds sounds and films too
