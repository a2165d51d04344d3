"""A trained model as one SavedModel that TensorFlow alone can serve: preprocessing, weights and label names inside.

The network is rewritten for inference (`network.py`, `folding.py`), in bfloat16 where that pays (`precision.py`).
Nothing of Keras is saved: no layers, no training functions.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError, nearest
from kcnn.models.taps import penultimate
from kcnn.nn.keras_settings import needed_settings
from kcnn.serving.export.dtypes import in_half_size
from kcnn.serving.export.folding import add_grouped_biases, fold
from kcnn.serving.export.network import as_function, freeze
from kcnn.serving.export.precision import choose_precision
from kcnn.serving.export.rows import read_images
from kcnn.serving.export.signatures import signatures_of
from kcnn.serving.formats.catalogue import FORMATS, choose_formats, write_formats
from kcnn.serving.formats.source import make_source
from kcnn.version import __version__

OPTIMIZE_FOR = ("latency", "throughput", "size", "none")
SAMPLES = 200  # images at most that precisions are compared on
CALIBRATION = 200  # images at most that ranges of int8 are found on
_BATCH_SIZES = {"latency": 1, "throughput": 16}  # images in the request that is to be fast


def _check(model: keras.Model, labels: Sequence[str], preprocessing: Preprocessing) -> None:
    """Raise ValueError for what would make every answer wrong."""
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()} | {
        x.dtype for x in model.inputs + model.outputs
    }
    if dtypes != {"float32"}:
        raise ValueError(
            f"the model computes in {', '.join(sorted(dtypes))}: rebuild it in float32, copy its weights, export that"
        )
    if model.output_shape != (None, len(labels)):
        raise ValueError(f"the model's output has shape {model.output_shape}, but there are {len(labels)} labels")
    image_shape = (*preprocessing.image_size, 3)
    if not tf.TensorShape(model.input_shape[1:]).is_compatible_with(image_shape):
        raise ValueError(f"the model takes images of {model.input_shape[1:]}, but preprocessing makes {image_shape}")
    if any("\n" in label for label in labels):
        raise ValueError("a label contains a line break, and labels.txt holds one label a line")


def _optimized(
    model: keras.Model, preprocessing: Preprocessing, optimize_for: str, samples: Sequence[bytes]
) -> tuple[tf.types.experimental.ConcreteFunction, list[tf.Variable], dict[str, Any]]:
    """Return the function float32 [N, h, w, 3] → logits and features, its variables, and how it computes."""
    if optimize_for == "none":
        batch = tf.TensorSpec([None, *preprocessing.image_size, 3], tf.float32)
        traced = tf.function(lambda images: model(images, training=False), input_signature=[batch], autograph=False)
        forward = traced.get_concrete_function()
        return forward, list(forward.variables), {"precision": "float32"}
    network = add_grouped_biases(fold(freeze(model)))
    facts: dict[str, Any] = {"precision": "float32"}
    if optimize_for == "size":
        network = in_half_size(network)
    else:
        images = _pixels(samples[:SAMPLES], preprocessing)
        network, facts = choose_precision(network, images, _BATCH_SIZES[optimize_for])
    return *as_function(network), facts


def _pixels(encoded: Sequence[bytes], preprocessing: Preprocessing) -> tf.Tensor:
    """Return the images of the files that can be read, as the network sees them, float32 [N, h, w, 3]."""
    if not encoded:
        return tf.zeros([0, *preprocessing.image_size, 3])
    images, statuses = read_images(tf.constant(list(encoded), tf.string), preprocessing)
    return images[statuses == ""]


def _as_classification(directory: Path) -> None:
    """Give the signature `classify` the method name by which TensorFlow Serving's Classify finds it.

    TensorFlow has no argument for it when it saves.
    """
    path = directory / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].signature_def["classify"].method_name = tf.saved_model.CLASSIFY_METHOD_NAME
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").write_bytes(fingerprinting.CreateFingerprintDef(str(directory)))


@contextlib.contextmanager
def _quiet(level: int = logging.INFO) -> Iterator[None]:
    """Hold back log messages: TensorFlow's about temporary files, and those of converters.

    Under absl.app they would go to the terminal.
    """
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def _save(
    signatures: Mapping[str, tf.types.experimental.ConcreteFunction],
    variables: Sequence[tf.Variable],
    labels_file: Path,
    directory: Path,
) -> None:
    """Save the signatures as a SavedModel, with their variables and the labels as an asset."""
    module = tf.Module()
    module.weights = variables
    module.labels = tf.saved_model.Asset(str(labels_file))
    with _quiet():
        # Nobody trains it, and TensorFlow cannot save the gradients of some activations.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(directory), signatures=signatures, options=options)
    _as_classification(directory)


def _checksum(model: keras.Model) -> str:
    """Return the SHA-256 of the weights, one after the other, as float32 in little-endian order."""
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(variable.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


@needed_settings()
def export_classifier(
    model: keras.Model,
    directory: str | os.PathLike[str],
    labels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    *,
    optimize_for: str = "latency",
    formats: Sequence[str] = ("savedmodel",),
    temperature: float = 1.0,
    samples: Sequence[bytes] = (),
    calibration: Iterable[bytes] = (),
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a SavedModel that loads with nothing but TensorFlow.

    It is saved under another name and renamed: it is complete or absent.

    The signatures; a request to any of them is one batched forward pass, N ≥ 0:
        serving_default: `image_bytes` string [N], encoded images of any formats and sizes.
        images: `images` uint8 [N, H, W, 3], RGB of any size, resized inside.
        images_float: `images` float32 [N, H, W, 3], RGB from 0 to 255 of any size, resized inside.
        predict_tf_example: `examples` string [N], serialized tf.Examples with the file in `image/encoded`.
        classify: `inputs` string [N], serialized tf.Examples for TensorFlow Serving's Classify; answers `classes`
            string [N, C] and `scores` float32 [N, C], the probabilities in the order of the labels.
        embed: `image_bytes` → `embedding` float32 [N, D], the input of the last layer with weights, averaged over
            positions where it has any; and `status`.
        metadata: nothing → `metadata` string [], the JSON that is returned.
    The first four answer `probabilities` float32 [N, C] (rows sum to 1), `logits` float32 [N, C] of the network,
    `top_classes` string [N, k] and `top_probabilities` float32 [N, k] in falling order, k = min(5, C), and `status`
    string [N]: "", or why the row could not be read. The numbers of such a row are 0, its classes "". The label names
    are also the asset `assets/labels.txt`.

    Args:
        model: raw RGB from 0 to 255, float32 [N, h, w, 3] → float32 logits [N, C]. It computes in float32 and was made
            outside any distribution scope.
        directory: must not exist; missing parents are made.
        labels: the C class names, in the order of the logits.
        preprocessing: applied in the graph to every image; None for the usual crop to the model's size.
        optimize_for: "latency" for requests of one image or "throughput" for larger ones: the network may answer in
            bfloat16 if this machine gains from it and the top classes of `samples` stay the same; "size" keeps the
            weights as float16; "none" leaves the network as Keras makes it.
        formats: names of `kcnn.serving.formats.catalogue.FORMATS`, in any order. The SavedModel is written in any
            case: a version without it cannot be published. The others hold the network in float32, in
            `assets.extra/<format>/`, and take the pixels that the preprocessing makes.
        temperature: the divisor of the logits before the softmax, > 0 (`kcnn.evaluation.calibration`).
        samples: image files, as bytes, of the kind that the model is for. bfloat16 is compared with float32 on them.
            With fewer than 100 readable ones the network stays in float32; at most 200 are read.
        calibration: image files, as bytes, on which "tflite-int8" finds the ranges of activations. Take training
            images, so that held-out images can judge the result. The first 200 are read; other formats read none.
        run: facts about the run that made the model, JSON-able, for the metadata.

    Returns:
        The metadata: `labels`, `preprocessing`, `calibration` (`temperature`), `export` (`optimize_for`, `formats`,
        `precision` and the measurements that decided it), `run`, `versions`, `checksums` (`weights`).

    Raises:
        UserError: `directory` exists, the purpose or a format is unknown, packages for a format are missing, or a
            format cannot hold this network.
        ValueError: a layer computes in another precision, or model, labels and preprocessing do not fit together.
    """
    directory = Path(directory)
    if directory.exists():
        raise UserError(f"{str(directory)!r} exists: an export goes to a new directory")
    if optimize_for not in OPTIMIZE_FOR:
        raise UserError(f"optimize_for {optimize_for!r}: {nearest(optimize_for, OPTIMIZE_FOR)}")
    chosen = choose_formats(formats)
    if not temperature > 0:
        raise UserError(f"temperature {temperature}: expected a number above 0; 1 leaves the probabilities as they are")
    preprocessing = preprocessing or Preprocessing(model.input_shape[1:3])
    _check(model, labels, preprocessing)
    ranges = tf.zeros([0, *preprocessing.image_size, 3])
    if any(FORMATS[name].calibrated for name in chosen):
        ranges = _pixels(list(itertools.islice(calibration, CALIBRATION)), preprocessing)
        if not len(ranges):
            raise UserError("format 'tflite-int8': expected training images to calibrate it on, and found none")
    both = keras.Model(model.inputs, [model.outputs[0], penultimate(model).outputs[0]])
    forward, variables, computes = _optimized(both, preprocessing, optimize_for, samples)
    metadata = {
        "labels": list(labels),
        "preprocessing": dataclasses.asdict(preprocessing),
        "calibration": {"temperature": temperature},
        "export": {"optimize_for": optimize_for, "formats": list(chosen), **computes},
        "run": dict(run or {}),
        "versions": {
            "kcnn": __version__,
            **{package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
        },
        "checksums": {"weights": _checksum(model)},
    }
    described = json.dumps(metadata, ensure_ascii=False, allow_nan=False, sort_keys=True)
    signatures = signatures_of(forward, labels, preprocessing, temperature, described)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
        asset = Path(temporary, "labels.txt")
        asset.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        _save(signatures, variables, asset, Path(temporary, "model"))
        if len(chosen) > 1:
            folded = fold(freeze(both))
            with _quiet(logging.WARNING):
                made_of = make_source(folded, temperature, described, ranges.numpy(), Path(temporary, "source"))
                write_formats(chosen, made_of, Path(temporary, "model"))
        os.rename(f"{temporary}/model", directory)
    return metadata
