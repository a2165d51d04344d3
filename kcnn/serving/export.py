"""A trained model as one SavedModel that TensorFlow alone can serve: preprocessing, weights and label names inside.

The network is rewritten for inference (`kcnn.serving.graph`), in bfloat16 where that pays (`kcnn.serving.precision`).
Nothing of Keras is saved, neither layers nor training functions.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

import kcnn
from kcnn.data.transform import Preprocessing, resize
from kcnn.errors import UserError, nearest
from kcnn.models.taps import penultimate
from kcnn.serving import graph, precision
from kcnn.serving.rows import read_images

TOP_CLASSES = 5
OPTIMIZE_FOR = ("latency", "throughput", "size", "none")
FORMATS = ("savedmodel",)
SAMPLES = 200  # images at most that precisions are compared on
_BATCH_SIZES = {"latency": 1, "throughput": 16}  # images of the request that is made fast
_CLASSIFY = "tensorflow/serving/classify"


def _check(model: keras.Model, labels: Sequence[str], preprocessing: Preprocessing) -> None:
    """Raises ValueError for what would be wrong in every answer."""
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
    """float32 [N, h, w, 3] → logits and features; the variables of it; how it computes."""
    if optimize_for == "none":
        batch = tf.TensorSpec([None, *preprocessing.image_size, 3], tf.float32)
        traced = tf.function(lambda images: model(images, training=False), input_signature=[batch], autograph=False)
        forward = traced.get_concrete_function()
        return forward, list(forward.variables), {"precision": "float32"}
    network = graph.fold(graph.freeze(model))
    facts: dict[str, Any] = {"precision": "float32"}
    if optimize_for == "size":
        network = graph.in_half_size(network)
    else:
        images = precision.patterns(SAMPLES, preprocessing.image_size)
        if samples:
            pixels, statuses = read_images(tf.constant(samples[:SAMPLES]), preprocessing)
            images = pixels[statuses == ""] if (statuses.numpy() == b"").any() else images
        network, facts = precision.choose(network, images, _BATCH_SIZES[optimize_for])
    return *graph.as_function(network), facts


def _signatures(
    forward: tf.types.experimental.ConcreteFunction,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    temperature: float,
    metadata: str,
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The functions that clients call."""
    names = tf.constant(list(labels))
    text, batch = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, *preprocessing.image_size, 3], tf.float32)

    def outputs(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The CPU's fused convolutions misread a batch of none: it gets one blank image, whose answer is dropped. Not by
        # padding, which they take for a margin of theirs.
        count = tf.shape(images)[0]
        blank = tf.zeros([tf.cast(count == 0, tf.int32), *preprocessing.image_size, 3])
        logits, features = forward(tf.concat([images, blank], axis=0))
        return logits[:count], features[:count]

    @tf.function(input_signature=[batch, text], autograph=False)
    def answers(images, status):
        good = (status == "")[:, None]
        logits, _ = outputs(images)
        probabilities = tf.nn.softmax(logits / temperature)
        top_probabilities, top = tf.math.top_k(probabilities, k=min(TOP_CLASSES, len(labels)))
        return {
            "probabilities": tf.where(good, probabilities, 0.0),
            "logits": tf.where(good, logits, 0.0),
            "top_classes": tf.where(good, tf.gather(names, top), ""),
            "top_probabilities": tf.where(good, top_probabilities, 0.0),
            "status": status,
        }

    @tf.function(input_signature=[text], autograph=False)
    def files(encoded):
        return read_images(encoded, preprocessing)

    @tf.function(input_signature=[text], autograph=False)
    def examples(serialized):
        key = "image/encoded"

        def encoded(one: tf.Tensor) -> tf.Tensor:
            return tf.io.parse_single_example(one, {key: tf.io.FixedLenFeature([], tf.string, default_value="")})[key]

        unreadable = f"no tf.Example with an image in {key}, or a damaged image: it cannot be decoded"
        return read_images(serialized, preprocessing, encoded=encoded, unreadable=unreadable)

    def pixels(images: tf.Tensor) -> tf.Tensor:
        with tf.device("/CPU:0"):  # as the bytes' pixels are made
            return resize(images, preprocessing)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serving_default(image_bytes):
        return answers(*files(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")], autograph=False)
    def images(images):
        return answers(pixels(images), tf.fill([tf.shape(images)[0]], ""))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="images")], autograph=False)
    def images_float(images):
        finite = tf.reduce_all(tf.math.is_finite(images), axis=[1, 2, 3])
        status = tf.where(finite, "", "a pixel is not a finite number")
        return answers(pixels(tf.where(finite[:, None, None, None], images, 0.0)), status)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def predict_tf_example(examples_):
        return answers(*examples(examples_))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def classify(inputs):
        answered = answers(*examples(inputs))
        scores, good = answered["probabilities"], (answered["status"] == "")[:, None]
        return {"classes": tf.where(good, tf.broadcast_to(names, tf.shape(scores)), ""), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def embed(image_bytes):
        images, status = files(image_bytes)
        return {"embedding": tf.where((status == "")[:, None], outputs(images)[1], 0.0), "status": status}

    @tf.function(input_signature=[], autograph=False)
    def describe():
        return {"metadata": tf.constant(metadata)}

    functions = {
        "serving_default": serving_default,
        "images": images,
        "images_float": images_float,
        "predict_tf_example": predict_tf_example,
        "classify": classify,
        "embed": embed,
        "metadata": describe,
    }
    return {name: function.get_concrete_function() for name, function in functions.items()}


def _as_classification(directory: Path) -> None:
    """Gives `classify` the method name by which TensorFlow Serving's Classify knows it; TensorFlow has no way to say it
    while saving.
    """
    path = directory / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].signature_def["classify"].method_name = _CLASSIFY
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").write_bytes(fingerprinting.CreateFingerprintDef(str(directory)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what TensorFlow logs about temporary files, which under absl.app goes to the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def _checksum(model: keras.Model) -> str:
    """SHA-256 of the weights, one after the other, as float32 in little-endian order."""
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(variable.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def export_classifier(
    model: keras.Model,
    directory: str | os.PathLike,
    labels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    *,
    optimize_for: str = "latency",
    formats: Sequence[str] = FORMATS,
    temperature: float = 1.0,
    samples: Sequence[bytes] = (),
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a SavedModel that loads with nothing but TensorFlow. Saved beside its place and renamed: whole or absent.

    Signatures, of which each request is one batched forward pass, N ≥ 0:
        serving_default: `image_bytes` string [N], encoded images of any formats and sizes.
        images: `images` uint8 [N, H, W, 3], RGB of any size, resized inside.
        images_float: `images` float32 [N, H, W, 3], RGB from 0 to 255, likewise.
        predict_tf_example: `examples` string [N], serialized tf.Examples with the file in `image/encoded`.
        classify: `inputs`, the same for TensorFlow Serving's Classify; answers `classes` string [N, C] and `scores`
            float32 [N, C], the probabilities in the order of the labels.
        embed: `image_bytes` → `embedding` float32 [N, D], what the last layer with weights takes, averaged over
            positions where it has any; and `status`.
        metadata: nothing → `metadata` string [], the JSON that is returned.
    The first four answer `probabilities` float32 [N, C] (rows sum to 1), `logits` float32 [N, C], the network's,
    `top_classes` string [N, k] and `top_probabilities` float32 [N, k] in falling order, k = min(5, C), and `status`
    string [N]: "", or why the row could not be read; its numbers are all 0 then, its classes "". The label names are
    also the asset `assets/labels.txt`.

    Args:
        model: raw RGB 0 to 255, float32 [N, h, w, 3] → float32 logits [N, C], computing in float32, made outside any
            distribution scope.
        directory: must not exist; missing parents are made.
        labels: the C class names, in the order of the logits.
        preprocessing: applied in the graph to every image; None for the usual crop of the model's size.
        optimize_for: "latency" of requests of one image or "throughput" of larger ones, for which the network may
            answer in bfloat16 if this machine gains from it and the top classes stay; "size", for which weights are
            kept as float16; "none" leaves the network as Keras makes it.
        formats: "savedmodel".
        temperature: what logits are divided by before they become probabilities, more than 0
            (`kcnn.evaluation.calibration`).
        samples: image files, as bytes, on which bfloat16 is compared with float32; patterns where there are none.
        run: what made the model, JSON-able, for the metadata.

    Returns:
        the metadata: `labels`, `preprocessing`, `calibration` (`temperature`), `export` (`optimize_for`, `precision`
        and what that rests on), `run`, `versions`, `checksums` (`weights`).

    Raises:
        UserError: `directory` exists, or an unknown purpose or format.
        ValueError: a layer computes in another precision, or model, labels and preprocessing do not fit together.
    """
    directory = Path(directory)
    if directory.exists():
        raise UserError(f"{str(directory)!r} exists: an export goes to a new directory")
    if optimize_for not in OPTIMIZE_FOR:
        raise UserError(f"optimize_for {optimize_for!r}: {nearest(optimize_for, OPTIMIZE_FOR)}")
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"format {name!r}: {nearest(name, FORMATS)}")
    if not temperature > 0:
        raise UserError(f"temperature {temperature}: expected a number above 0; 1 leaves the probabilities as they are")
    preprocessing = preprocessing or Preprocessing(model.input_shape[1:3])
    _check(model, labels, preprocessing)
    both = keras.Model(model.inputs, [model.outputs[0], penultimate(model).outputs[0]])
    forward, variables, computes = _optimized(both, preprocessing, optimize_for, samples)
    metadata = {
        "labels": list(labels),
        "preprocessing": dataclasses.asdict(preprocessing),
        "calibration": {"temperature": temperature},
        "export": {"optimize_for": optimize_for, **computes},
        "run": dict(run or {}),
        "versions": {
            "kcnn": kcnn.__version__,
            **{package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
        },
        "checksums": {"weights": _checksum(model)},
    }
    described = json.dumps(metadata, ensure_ascii=False, allow_nan=False, sort_keys=True)
    signatures = _signatures(forward, labels, preprocessing, temperature, described)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
        asset = Path(temporary, "labels.txt")
        asset.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        module = tf.Module()
        module.weights = variables
        module.labels = tf.saved_model.Asset(str(asset))
        with _quiet():
            # Nobody trains it; and of some activations' gradients TensorFlow cannot save what they refer to.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(module, f"{temporary}/model", signatures=signatures, options=options)
        _as_classification(Path(temporary, "model"))
        os.rename(f"{temporary}/model", directory)
    return metadata
