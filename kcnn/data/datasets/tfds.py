"""Any image-classification data set of tensorflow-datasets, with its images in their encoded bytes.

A data set that is prepared on disk needs no connection. Any other is downloaded and prepared, unless --offline.
"""

import functools
from collections.abc import Iterator
from typing import Any

from kcnn.data.datasets import Dataset, ImageSource, split_name
from kcnn.errors import UserError, close_names


def _builder(name: str, data_dir: str | None, offline: bool) -> Any:
    """Return the builder of a data set that is prepared on disk by then; raise UserError as `load` does."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    where = data_dir or tfds.core.constants.DATA_DIR
    try:
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        pass  # not prepared on this machine
    except ValueError as error:
        raise UserError(f"--dataset {name}: not a tensorflow-datasets name: {_first_line(error)}") from None
    builders = tfds.list_builders(with_community_datasets=False)
    base = name.split("/")[0].split(":")[0]
    if base not in builders:
        close = close_names(base, ["digits", *builders])
        raise UserError(
            f"--dataset {name}: no such directory, CSV file or data set"
            + (
                f"; did you mean {' or '.join(close)}?"
                if close
                else f", and none prepared in {where}; 'digits' is built in"
            )
        )
    if offline:
        raise UserError(
            f"--dataset {name}: not prepared in {where}, and --offline forbids the download; "
            f"prepare it on a machine with a connection and give its folder as --data_dir"
        )
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
        builder.download_and_prepare()
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        # These are what urllib, requests and tensorflow-datasets' own checks raise.
        raise UserError(f"--dataset {name}: could not be downloaded to {where}: {_first_line(error)}") from None
    return builder


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def load(name: str, data_dir: str | None = None, *, offline: bool = False) -> Dataset:
    """Open the data set `name` of tensorflow-datasets ("cifar10", "tf_flowers", "imagenette/160px-v2").

    Args:
        name: the name, with a configuration after a slash where it has several.
        data_dir: where tensorflow-datasets keeps its data; its own default when None.
        offline: forbids the download.

    Raises:
        UserError: the name is unknown, the data cannot be downloaded, or it has no image with a class label.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir, offline)
    features = builder.info.features
    keys = builder.info.supervised_keys or ("image", "label")
    image, label = keys[0], keys[1]
    if not (
        isinstance(features, tfds.features.FeaturesDict)
        and {image, label} <= set(features)
        and isinstance(features[image], tfds.features.Image)
        and isinstance(features[label], tfds.features.ClassLabel)
    ):
        raise UserError(f"--dataset {name}: not an image-classification data set (no image with a class label)")
    labels = tuple(features[label].names)

    def sources() -> Iterator[ImageSource]:
        for split in sorted(builder.info.splits):
            records = builder.as_dataset(split=split, decoders={image: tfds.decode.SkipDecoding()}, shuffle_files=False)
            for index, record in enumerate(records.as_numpy_iterator()):
                text = labels[record[label]] if record[label] >= 0 else None
                read = functools.partial(bytes, record[image])
                yield ImageSource(f"{name}/{split}/{index}", text, split_name(split), read)

    return Dataset(
        name=builder.info.full_name,
        labels=labels,
        sources=sources,
        count=sum(split.num_examples for split in builder.info.splits.values()),
        fingerprint=f"tensorflow-datasets {builder.info.full_name}",
    )
