"""Requests to an export, good and broken, and the answers of TensorFlow."""

import functools
import struct
import zlib

import tensorflow as tf
from tiny_classifier import picture

load = functools.cache(tf.saved_model.load)


def ask(export_dir, pictures):
    served = load(str(export_dir))
    return {k: v.numpy() for k, v in served.signatures["serving_default"](image_bytes=tf.constant(pictures)).items()}


def example(content):
    feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def bomb(size):
    """Return a PNG whose header promises so many pixels a side."""
    png = picture("PNG", (8, 8))
    return png[:16] + size.to_bytes(4, "big") * 2 + png[24:]


def png_header(width, height, data=b""):
    """Return a PNG that states this size."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


HUGE = "too large: more than 100000000 pixels, or too many scans or blocks"


BROKEN = {
    b"": "empty: there are no bytes",
    b"no image": "not a JPEG, PNG, GIF, BMP or WebP image",
    picture("JPEG", (60, 40))[:200]: "a damaged image: it cannot be decoded",
    picture("PNG", (60, 40))[:300]: "a damaged image: it cannot be decoded",
    bomb(60_000): HUGE,
    bomb(2**31 - 1): HUGE,
    picture("GIF", (20, 20))[:6] + b"\xff" * 4 + picture("GIF", (20, 20))[10:]: HUGE,
    b"BM" + bytes(16) + b"\0\0\1\0" * 2 + bytes(40): HUGE,
    b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0" * 2 + bytes(40): HUGE,
}
