"""A trained model as one SavedModel that TensorFlow alone can serve: preprocessing, weights and label names inside.

The weights of all but the largest models are frozen into constants, so that the runtime folds batch norm and activation
into the convolutions. Nothing of Keras is saved, neither layers nor training functions.
"""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kcnn.data.transform import Preprocessing, preprocess_batch, resize
from kcnn.errors import UserError

TOP_CLASSES = 5
# The weights become constants up to this size, which speeds up small models most; TensorFlow copies constants so often
# while loading that beyond it, seconds and gigabytes would be lost (measured: VGG-16, 528 MiB, 58 s and 20 GB).
_FROZEN_BYTES = 128 * 2**20


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


def _forward(model: keras.Model, image_size: tuple[int, int]) -> tf.types.experimental.ConcreteFunction:
    """float32 [N, h, w, 3] → [N, C] logits, frozen unless that would cost too much."""
    batch = tf.TensorSpec([None, *image_size, 3], tf.float32)
    traced = tf.function(lambda images: model(images, training=False), input_signature=[batch])
    forward = traced.get_concrete_function()
    if sum(4 * variable.shape.num_elements() for variable in forward.variables) > _FROZEN_BYTES:
        return forward
    return convert_variables_to_constants_v2(forward)


def _signatures(
    forward: tf.types.experimental.ConcreteFunction, labels: Sequence[str], preprocessing: Preprocessing
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The functions that clients call."""
    names = list(labels)

    def answers(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # The CPU's fused convolutions misread a batch of none: it gets one blank image, whose answer is dropped.
        count = tf.shape(images)[0]
        blank = tf.cast(count == 0, tf.int32)
        logits = tf.nest.flatten(forward(tf.pad(images, [[0, blank], [0, 0], [0, 0], [0, 0]])))[0]
        probabilities = tf.nn.softmax(logits[:count])
        top_probabilities, top = tf.math.top_k(probabilities, k=min(TOP_CLASSES, len(names)))
        return {
            "probabilities": probabilities,
            "top_classes": tf.gather(tf.constant(names), top),
            "top_probabilities": top_probabilities,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(image_bytes):
        return answers(preprocess_batch(image_bytes, preprocessing))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def images(images):
        with tf.device("/CPU:0"):  # as the bytes' pixels are made
            pixels = resize(images, preprocessing)
        return answers(pixels)

    return {"serving_default": serving_default.get_concrete_function(), "images": images.get_concrete_function()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what TensorFlow logs about temporary files, which under absl.app goes to the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def export_classifier(
    model: keras.Model, directory: str | os.PathLike, labels: Sequence[str], preprocessing: Preprocessing
) -> None:
    """Writes a SavedModel that loads with nothing but TensorFlow. Saved beside its place and renamed: whole or absent.

    Signatures, of which each request is one batched forward pass:
        serving_default: `image_bytes` string [N], encoded images of any formats and sizes, N ≥ 0.
        images: `images` uint8 [N, H, W, 3], RGB of any size, resized inside.
    Both answer `probabilities` float32 [N, C] (rows sum to 1), `top_classes` string [N, k] and `top_probabilities`
    float32 [N, k] in falling order, k = min(5, C). The label names are also the asset `assets/labels.txt`.

    Args:
        model: raw RGB 0 to 255, float32 [N, h, w, 3] → float32 logits [N, C], computing in float32, made outside any
            distribution scope.
        directory: must not exist; missing parents are made.
        labels: the C class names, in the order of the logits.
        preprocessing: applied in the graph to every image.

    Raises:
        UserError: `directory` exists.
        ValueError: a layer computes in another precision, or model, labels and preprocessing do not fit together.
    """
    directory = Path(directory)
    if directory.exists():
        raise UserError(f"{str(directory)!r} exists: an export goes to a new directory")
    _check(model, labels, preprocessing)
    forward = _forward(model, preprocessing.image_size)
    signatures = _signatures(forward, labels, preprocessing)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
        asset = Path(temporary, "labels.txt")
        asset.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        module = tf.Module()
        module.weights = forward.variables  # none, when frozen
        module.labels = tf.saved_model.Asset(str(asset))
        with _quiet():
            # Nobody trains it; and of some activations' gradients TensorFlow cannot save what they refer to.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(module, f"{temporary}/model", signatures=signatures, options=options)
        os.rename(f"{temporary}/model", directory)


def write_card(export_dir: str | os.PathLike, card: dict[str, Any]) -> None:
    """Writes `card`, whatever JSON it holds, to `assets.extra/card.json` of an export; raises ValueError for NaN."""
    text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path = Path(export_dir, "assets.extra", "card.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")  # of file names that are no UTF-8
