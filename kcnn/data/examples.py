"""Examples on disk: tf.Example records in gzip'd TFRecord shards, in the layout of TFX's Examples artifact.

    <directory>/Split-train/data_tfrecord-00000-of-00004.gz

The keys are those of TensorFlow's object-detection and slim data sets. The image keeps the bytes it came with:
nothing is re-encoded. Gzip runs at level 0, since JPEG does not compress and decompression would slow reading.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from kcnn.data.drivers import replacing
from kcnn.data.records import COLUMN

SHARD_BYTES = 128 * 2**20
_OPTIONS = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=0)
_FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/filename": tf.io.FixedLenFeature([], tf.string),
}


@dataclasses.dataclass(frozen=True)
class Example:
    """One labelled image.

    Attributes:
        encoded: the file's own bytes.
        filename: the name in reports.
        label: the class index, from 0.
        text: the class name.
        format: "JPEG", "PNG", "GIF", "BMP" or "WEBP", found from the bytes and not from the name.
        height: rows of the stored pixels, before EXIF orientation.
        width: columns of the stored pixels, before EXIF orientation.
        sha256: hexadecimal digest of `encoded`.
        columns: what else the data set says of the image, by name; `image/column/<name>` in the tf.Example.
    """

    encoded: bytes
    filename: str
    label: int
    text: str
    format: str
    height: int
    width: int
    sha256: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


def encode_example(example: Example) -> bytes:
    """Serialize an example as a tf.Example."""

    def text(value: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode("utf-8", "surrogateescape")]))

    def integer(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[example.encoded])),
        "image/filename": text(example.filename),
        "image/class/label": integer(example.label),
        "image/class/text": text(example.text),
        "image/format": text(example.format),
        "image/height": integer(example.height),
        "image/width": integer(example.width),
        "image/key/sha256": text(example.sha256),
        **{COLUMN + name: text(value) for name, value in example.columns.items()},
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse_example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parse what training and evaluation need of a record: encoded (string), label (int64), filename (string)."""
    parsed = tf.io.parse_single_example(serialized, _FEATURES)
    return {
        "encoded": parsed["image/encoded"],
        "label": parsed["image/class/label"],
        "filename": parsed["image/filename"],
    }


def shard_path(directory: str | os.PathLike, split: str, shard: int, count: int) -> Path:
    """Return the path of one of the `count` shards of a split."""
    return Path(directory, f"Split-{split}", f"data_tfrecord-{shard:05d}-of-{count:05d}.gz")


def shard_count(size: int) -> int:
    """Return how many shards hold a split of `size` bytes."""
    return max(1, -(-size // SHARD_BYTES))


def write_shard(path: Path, examples: Iterable[Example], scratch: Path) -> None:
    """Write the examples, one in memory at a time, to a shard.

    Args:
        path: the shard's file.
        examples: its examples.
        scratch: the folder that holds the file until it is whole.
    """
    with replacing(path, scratch) as partial, tf.io.TFRecordWriter(str(partial), _OPTIONS) as writer:
        for example in examples:
            writer.write(encode_example(example))


def shard_paths(directory: str | os.PathLike, split: str) -> list[str]:
    """Return the sorted shard files of one split; an empty list where there is no such split."""
    return sorted(map(str, Path(directory, f"Split-{split}").glob("data_tfrecord-*.gz")))


def read_examples(paths: list[str]) -> tf.data.Dataset:
    """Return the serialized records of the given shards, string scalars, always in the same order.

    Several shards are read at once.
    """
    return tf.data.Dataset.from_tensor_slices(paths).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP", buffer_size=4 * 2**20),
        cycle_length=min(len(paths), 8),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def first_images(paths: list[str], count: int) -> Iterator[bytes]:
    """Yield the first encoded images of the given shards, at most `count`, in the order of `read_examples`."""
    for record in read_examples(paths).take(count) if paths else ():
        yield parse_example(record)["encoded"].numpy()
