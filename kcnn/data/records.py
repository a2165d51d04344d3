"""Reading of example shards without TensorFlow, which each process of a pool would take ten seconds to load.

The records are read by the format's definition: https://www.tensorflow.org/tutorials/load_data/tfrecord and
tensorflow/core/example/example.proto.
"""

import contextlib
import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kcnn.data.drivers import Driver, advance_progress, local_driver
from kcnn.errors import UserError

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"  # the class of images that have none
MAX_MESSAGE_BYTES = 2**31  # protobuf has no longer messages
COLUMN = "image/column/"  # begins the name of a feature that holds one of the data set's own columns

T = TypeVar("T")


def _example_class() -> type[Any]:
    """Return the message class of tf.Example, made from its definition."""
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto()
    text_format.Parse(
        """
        name: "example.proto" package: "tensorflow" syntax: "proto3"
        message_type { name: "BytesList" field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED } }
        message_type { name: "Int64List" field { name: "value" number: 1 type: TYPE_INT64 label: LABEL_REPEATED } }
        message_type {
          name: "Feature"
          field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.BytesList" }
          field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".tensorflow.Int64List" }
        }
        message_type {
          name: "Features"
          field { name: "feature" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.Features.Entry"
                  label: LABEL_REPEATED }
          nested_type {
            name: "Entry" options { map_entry: true }
            field { name: "key" number: 1 type: TYPE_STRING }
            field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".tensorflow.Feature" }
          }
        }
        message_type {
          name: "Example"
          field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.Features" }
        }
        """,
        file,
    )
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


TFExample = _example_class()  # the class of tf.Example messages


def read_records(path: str) -> Iterator[bytes]:
    """Yield the records of a gzip'd TFRecord file; gzip's checksum is verified, not that of each record.

    Raises:
        UserError: the file is damaged.
    """
    try:
        if not os.path.getsize(path):  # gzip would read no records and no error
            raise EOFError
        with gzip.open(path) as file:
            while header := file.read(12):
                (length,) = struct.unpack("<Q", header[:8])
                if length >= MAX_MESSAGE_BYTES:
                    raise EOFError
                record = file.read(length + 4)[:length]
                if len(record) < length:
                    raise EOFError
                yield record
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error):
        raise UserError(f"{path}: damaged examples; delete the folder that holds them and run again") from None


def map_shards(
    function: Callable[[Iterable[bytes]], T],
    shards: Mapping[str, Sequence[str]],
    *,
    total: int | None = None,
    description: str,
    driver: Driver | None = None,
) -> Iterator[tuple[str, T]]:
    """Apply a function to the records of each shard; yield (split, result) for each file, in order.

    Args:
        function: takes the records of a file; importable by its name.
        shards: split → its files.
        total: how many records the files hold, for the progress bar.
        description: the progress bar's text.
        driver: runs the function; a driver on this machine when None.

    Raises:
        UserError: a file is damaged.
    """
    splits = [split for split, paths in shards.items() for _ in paths]
    tasks = [os.path.abspath(path) for paths in shards.values() for path in paths]
    with contextlib.ExitStack() as stack:
        run = driver or stack.enter_context(local_driver())
        yield from zip(splits, run(partial(_apply, function), tasks, total=total, description=description), strict=True)


def _apply(function: Callable[[Iterable[bytes]], T], path: str) -> T:
    return function(_with_progress(read_records(path)))


def _with_progress(records: Iterable[bytes]) -> Iterator[bytes]:
    for record in records:
        yield record
        advance_progress()
