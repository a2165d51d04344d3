"""The files that TensorFlow Serving needs beside the versions of a published model, and inside each version.

Beside them, in <folder>: `models.config`, which lists versions and labels and is written anew when they change; and
copies of the files of `bundle_files/` (batching, monitoring, Compose, Kubernetes, two clients, README.txt), written
only where there is none, since users may change them. None of their names is a number, which TensorFlow Serving would
take for a version. Inside a version, because they belong to its signatures: the warm-up requests.

Source: https://www.tensorflow.org/tfx/serving/serving_config, https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from kcnn.serving.publishing import versions
from kcnn.serving.publishing.folder_files import lock_folder, replace_file
from kcnn.serving.publishing.labels import current_labels, read_served_labels

WARMUP = Path("assets.extra", "tf_serving_warmup_requests")  # within a version
FILES = Path(__file__).parent / "bundle_files"
BATCH_SIZES = (1, 2, 4, 8, 16, 32)  # of the warm-up requests: the sizes that batching.config allows
WARMUP_BYTES = 16 * 2**20  # of the warm-up requests of a version, beyond the one of a single image
LOADED = 2  # the highest versions: the last but one stays while a label moves to the last


def write_bundle(folder: Path) -> None:
    """Write the files beside the versions in a folder, each by a rename.

    Raises:
        OSError: a file cannot be written.
    """
    with lock_folder(folder):
        replace_file(folder / "models.config", models_config(folder))
        for template in sorted(FILES.iterdir()):
            if template.is_file() and not (folder / template.name).exists():
                text = template.read_text(encoding="utf-8").replace("@NAME@", folder.name)
                replace_file(folder / template.name, text.replace("@DNS_NAME@", _dns_name(folder.name)))


def _dns_name(name: str) -> str:
    """Return a name as Kubernetes takes it, RFC 1123."""
    return re.sub("[^a-z0-9]+", "-", f"kcnn-{name.lower()}").strip("-")[:63].strip("-")


def models_config(folder: Path) -> str:
    """Return the ModelServerConfig of the versions in a folder, which the server sees as /models/<its name>.

    Two versions are loaded, those with a label, and those that had one in the last models.config: TensorFlow Serving
    moves a label only between versions that are both there. Whoever asks without a label gets the highest.
    """
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(
        name=folder.name, base_path=f"/models/{folder.name}", model_platform="tensorflow"
    )
    labels, present = current_labels(folder), [int(version.name) for version in versions.list_versions(folder)]
    highest = set(present[-LOADED:])
    wanted = highest | set(labels.values()) | (set(read_served_labels(folder).values()) & set(present))
    if wanted == highest:
        model.model_version_policy.latest.num_versions = LOADED
    else:
        model.model_version_policy.specific.versions.extend(sorted(wanted))
    for label, number in sorted(labels.items()):
        model.version_labels[label] = number
    return f"# Written by kcnn whenever versions or labels change.\n{text_format.MessageToString(config)}"


def write_warmup(version: Path, name: str, images: Sequence[bytes]) -> int:
    """Write `assets.extra/tf_serving_warmup_requests`: TFRecords of PredictionLogs.

    TensorFlow Serving runs them while it loads the version. No client then waits for the work of a first request.

    Each signature is asked once with one image, serving_default in all of BATCH_SIZES as far as there is room. Nothing
    is written without images.

    Args:
        version: an export, not published yet.
        name: of the model.
        images: real ones, encoded, that the model can decode.

    Returns:
        how many requests there are.
    """
    import tensorflow as tf

    if not images:
        return 0
    requests = list(_warmup(version, name, images))
    path = version / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for request in requests:
            file.write(request.SerializeToString())
    return len(requests)


def _warmup(version: Path, model: str, images: Sequence[bytes]) -> Iterator[Any]:
    """Yield the PredictionLogs."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import prediction_log_pb2

    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    for name, signature in sorted(saved.meta_graphs[0].signature_def.items()):
        if len(signature.inputs) != 1:  # "metadata", or the runtime's own
            continue
        ((key, tensor),) = signature.inputs.items()
        taken = 0
        for size in BATCH_SIZES if name == "serving_default" else (1,):
            batch = [images[index % len(images)] for index in range(size)]
            taken += sum(map(len, batch))
            if size > 1 and taken > WARMUP_BYTES:
                break
            log = prediction_log_pb2.PredictionLog()
            if signature.method_name == tf.saved_model.CLASSIFY_METHOD_NAME:
                request = log.classify_log.request
                request.input.example_list.examples.extend(map(_example, batch))
            else:
                request = log.predict_log.request
                request.inputs[key].CopyFrom(tf.make_tensor_proto(_values(key, tensor.dtype, batch)))
            request.model_spec.name, request.model_spec.signature_name = model, name
            yield log


def _values(key: str, dtype: int, batch: Sequence[bytes]) -> Any:
    """Return images as a signature's input takes them: pixels, the bytes, or tf.Examples with them."""
    import tensorflow as tf

    from kcnn.data.input_pipeline.decode import decode_image

    if dtype == tf.string.as_datatype_enum:
        return batch if key == "image_bytes" else [_example(image).SerializeToString() for image in batch]
    pixels = [decode_image(tf.constant(image)) for image in batch]
    return tf.cast(tf.stack(pixels), tf.as_dtype(dtype)).numpy()


def _example(image: bytes) -> Any:
    import tensorflow as tf

    encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature={"image/encoded": encoded}))
