"""The signatures of an exported classifier, whatever runs its network.

They lead from files and pixels to labels and probabilities.
The signatures are listed at `kcnn.serving.export.classifier.export_classifier`.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from kcnn.data.input_pipeline.transform import Preprocessing, resize
from kcnn.serving.export.rows import read_images

TOP_CLASSES = 5

Forward = Callable[[tf.Tensor], Sequence[tf.Tensor]]


def signatures_of(
    forward: Forward,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    temperature: float,
    metadata: str,
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Return the functions that clients call, by name.

    Args:
        forward: float32 [N, h, w, 3], RGB in 0-255, N ≥ 1 → logits float32 [N, C] and features float32 [N, D].
        labels: the C class names.
        preprocessing: how an image becomes what `forward` takes.
        temperature: the divisor of the logits before the softmax.
        metadata: the JSON that the signature `metadata` answers.
    """
    names = tf.constant(list(labels))
    text = tf.TensorSpec([None], tf.string)
    outputs = _outputs_of(forward, preprocessing)
    answers = _answers_of(outputs, labels, preprocessing, temperature)

    @tf.function(input_signature=[text], autograph=False)
    def files(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return read_images(encoded, preprocessing)

    @tf.function(input_signature=[text], autograph=False)
    def examples(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = "image/encoded"

        def encoded(one: tf.Tensor) -> tf.Tensor:
            return tf.io.parse_single_example(one, {key: tf.io.FixedLenFeature([], tf.string, default_value="")})[key]

        unreadable = f"no tf.Example with an image in {key}, or a damaged image: it cannot be decoded"
        return read_images(serialized, preprocessing, encoded=encoded, unreadable=unreadable)

    def pixels(images: tf.Tensor) -> tf.Tensor:
        with tf.device("/CPU:0"):  # as the bytes' pixels are made
            return resize(images, preprocessing)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(*files(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")], autograph=False)
    def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(pixels(images), tf.fill([tf.shape(images)[0]], ""))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="images")], autograph=False)
    def images_float(images: tf.Tensor) -> dict[str, tf.Tensor]:
        finite = tf.reduce_all(tf.math.is_finite(images), axis=[1, 2, 3])
        status = tf.where(finite, "", "a pixel is not a finite number")
        # Rows of zeros; tf.where over all pixels would take a seventh of MobileNetV2's time.
        kept = tf.cast(finite, tf.float32)[:, None, None, None]
        return answers(pixels(tf.math.multiply_no_nan(images, kept)), status)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def predict_tf_example(examples_: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(*examples(examples_))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False)
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        answered = answers(*examples(inputs))
        scores, good = answered["probabilities"], (answered["status"] == "")[:, None]
        return {"classes": tf.where(good, tf.broadcast_to(names, tf.shape(scores)), ""), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def embed(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, status = files(image_bytes)
        return {"embedding": tf.where((status == "")[:, None], outputs(images)[1], 0.0), "status": status}

    @tf.function(input_signature=[], autograph=False)
    def describe() -> dict[str, tf.Tensor]:
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


def _outputs_of(forward: Forward, preprocessing: Preprocessing) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return the function that runs the network on any number of images, also on none."""

    def outputs(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Fused convolutions on the CPU misread an empty batch: it gets one blank image, whose answer is dropped. Not by
        # tf.pad, which they would take for a margin of their own.
        count = tf.shape(images)[0]
        blank = tf.zeros([tf.cast(count == 0, tf.int32), *preprocessing.image_size, 3])
        logits, features = forward(tf.concat([images, blank], axis=0))
        return logits[:count], features[:count]

    return outputs


def _answers_of(
    outputs: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    labels: Sequence[str],
    preprocessing: Preprocessing,
    temperature: float,
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function images, statuses → the outputs of a classification."""
    names = tf.constant(list(labels))
    text, batch = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, *preprocessing.image_size, 3], tf.float32)

    @tf.function(input_signature=[batch, text], autograph=False)
    def answers(images: tf.Tensor, status: tf.Tensor) -> dict[str, tf.Tensor]:
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

    return answers
