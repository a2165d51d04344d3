"""Examples on disk: tf.Example records in gzip'd TFRecord shards, laid out as TFX's Examples artifact.

    <directory>/Split-train/data_tfrecord-00000-of-00004.gz

The keys are those of TensorFlow's object-detection and slim data sets. The image keeps the bytes it came with:
nothing is re-encoded. Gzip runs at level 0, since JPEG does not compress and reading must not cost.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from kcnn.data.drivers import replacing
from kcnn.data.records import COLUMN

SPLITS = ("train", "val", "test")
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
        filename: where it came from, for reports.
        label: the class index, from 0.
        text: the class name.
        format: "JPEG", "PNG", ..., found from the bytes and not from the name.
        height: of the stored pixels, before EXIF orientation.
        width: likewise.
        sha256: hexadecimal digest of `encoded`.
        columns: what else the data set says of it, by name; `image/column/<name>` in the tf.Example.
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


def encode(example: Example) -> bytes:
    """The serialized tf.Example."""

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


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """What training and evaluation need of a record: encoded (string), label (int64), filename (string), scalars."""
    parsed = tf.io.parse_single_example(serialized, _FEATURES)
    return {
        "encoded": parsed["image/encoded"],
        "label": parsed["image/class/label"],
        "filename": parsed["image/filename"],
    }


def shard_path(directory: str | os.PathLike, split: str, shard: int, count: int) -> Path:
    """The file of one shard of a split's `count`."""
    return Path(directory, f"Split-{split}", f"data_tfrecord-{shard:05d}-of-{count:05d}.gz")


def shard_count(size: int) -> int:
    """How many shards hold a split of so many bytes."""
    return max(1, -(-size // SHARD_BYTES))


def write_shard(path: Path, examples: Iterable[Example], scratch: Path) -> None:
    """Writes the examples, of which memory holds one, to `path`, under another name in `scratch` until it is whole."""
    with replacing(path, scratch) as partial, tf.io.TFRecordWriter(str(partial), _OPTIONS) as writer:
        for example in examples:
            writer.write(encode(example))


def shard_paths(directory: str | os.PathLike, split: str) -> list[str]:
    """The sorted shard files of one split; empty when the split is not there."""
    return sorted(map(str, Path(directory, f"Split-{split}").glob("data_tfrecord-*.gz")))


def read(paths: list[str]) -> tf.data.Dataset:
    """The serialized records of the given shards, several shards read at once, always in the same order."""
    return tf.data.Dataset.from_tensor_slices(paths).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP", buffer_size=4 * 2**20),
        cycle_length=min(len(paths), 8),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def images(paths: list[str], count: int) -> Iterator[bytes]:
    """The first encoded images of the given shards, `count` at most, in the order of `read`; of no shards none."""
    for record in read(paths).take(count) if paths else ():
        yield parse(record)["encoded"].numpy()
