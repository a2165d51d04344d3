"""The check before publishing, on exports that are right, wrong and broken."""

import numpy as np
import pytest
import tensorflow as tf
from fake_docker import fake_docker
from tiny_classifier import LABELS, SPEC, picture

from kcnn.data.input_pipeline.transform import preprocess
from kcnn.serving.validation import standalone
from kcnn.serving.validation.saved_model import validate_export

KINDS = {
    "classify": "examples",
    "embed": "bytes",
    "images": "pixels",
    "images_float": "pixels",
    "metadata": "other",
    "predict_tf_example": "examples",
    "serving_default": "bytes",
}


def expected_probabilities(model, pictures):
    images = np.stack([preprocess(tf.constant(image), SPEC).numpy() for image in pictures])
    return tf.nn.softmax(model.predict(images, verbose=0)).numpy()


def by_name(checks):
    return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def serving(export_dir):
    """Return the signatures as a server answers them, in JSON's types."""
    served = tf.saved_model.load(str(export_dir))

    def plain(value):
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value.decode() if isinstance(value, bytes) else value

    def answer(signature, batch):
        ((key, spec),) = signature.structured_input_signature[1].items()
        outputs = signature(**{key: tf.constant(batch, spec.dtype)})
        return {output: plain(tensor.numpy().tolist()) for output, tensor in outputs.items()}

    return {
        name: lambda batch, signature=signature: answer(signature, batch)
        for name, signature in served.signatures.items()
    }


def test_agrees_with_keras_in_its_own_process_and_in_tensorflow_serving(
    export_dir, model, pictures, serving, tmp_path, monkeypatch
):
    images = [pictures[0] + b"\0\0", *pictures] * 5  # more than one request, and bytes that end in zeros
    assert len(images) > standalone.BATCH
    ballast = np.ones(2**30, np.uint8)  # what this process holds is none of the other's memory
    limits = {"max_latency_ms": 10_000, "max_memory_mb": 100_000}
    expected = expected_probabilities(model, images)
    with fake_docker(tmp_path, monkeypatch, serving):
        facts, checks = validate_export(export_dir, images, expected, LABELS, serving_image="sha256:1", **limits)
    found = by_name(checks)
    assert list(found) == [
        "loads",
        *(f"answers, {name}" for name in sorted(KINDS)),
        "latency",
        "memory",
        "tensorflow_serving",
    ]
    assert {check.name: check.passed for check in checks} == dict.fromkeys(found, True)
    assert found["answers, serving_default"].figure < 1e-5
    assert "70 times" in found["answers, serving_default"].said  # in batches and one by one
    assert "8 times" in found["answers, images"].said
    assert found["answers, predict_tf_example"].figure < 1e-5
    assert found["answers, classify"].figure < 1e-5
    asked = "images, images_float, predict_tf_example, serving_default"
    assert found["tensorflow_serving"].said.startswith(f"TensorFlow Serving answers {asked} as the")
    assert facts["files"] == 35
    assert facts["signatures"] == KINDS
    assert 0 < facts["latency_ms"]["median"] <= facts["latency_ms"]["p95"] < 10_000
    assert 100 < facts["memory_mb"]["before"] <= facts["memory_mb"]["peak"] < 100_000
    assert facts["memory_mb"]["before"] < ballast.nbytes / 2**20


def test_disagreement_slowness_and_size_are_measured(export_dir, model, pictures, serving, tmp_path, monkeypatch):
    expected = expected_probabilities(model, pictures)
    wrong = expected.copy()
    wrong[0] = np.roll(wrong[0], 1)
    largest = np.abs(wrong - expected).max()
    limits = {"max_latency_ms": 1e-3, "max_memory_mb": 10}
    with fake_docker(tmp_path, monkeypatch, serving):
        _, checks = validate_export(export_dir, pictures, wrong, LABELS, serving_image="sha256:1", **limits)
    found = by_name(checks)
    failed = found["answers, serving_default"]
    assert failed.passed is False
    assert failed.figure == pytest.approx(largest, rel=1e-4)
    assert f"max |Δp| = {largest:.2g}" in failed.said
    assert "the same top class for 83.3% of 12 answers" in failed.said
    assert found["answers, images"].passed  # as its own answers for the same pixels
    assert found["latency"].passed is False
    assert "95% of 200 requests of one image within" in found["latency"].said
    assert found["latency"].said.endswith("above --max_latency_ms 0.001")
    assert found["memory"].passed is False
    assert found["memory"].said.endswith("above --max_memory_mb 10")
    assert found["tensorflow_serving"].passed is False
    assert "TensorFlow Serving's signature predict_tf_example differs" in found["tensorflow_serving"].said


@pytest.mark.slow
def test_formats_without_pixels_are_served_too_and_names_must_fit(export_dir, model):
    images = [picture("GIF", (30, 20))]
    _, checks = validate_export(export_dir, images, expected_probabilities(model, images), LABELS[::-1])
    found = by_name(checks)
    assert found["answers, images"].passed is None
    assert "no JPEG or PNG" in found["answers, images"].said
    assert found["answers, serving_default"].passed is False
    assert "top_classes and top_probabilities that are not those of" in found["answers, serving_default"].said
    assert (found["latency"].passed, found["latency"].bound) == (None, None)  # nothing was asked
    assert found["tensorflow_serving"].passed is None


class Odd(tf.Module):
    """Answers NaN where it is asked for an image, and has signatures of its own."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def image(self, image_bytes):
        return {"probabilities": tf.fill([tf.shape(image_bytes)[0], 7], np.nan)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([], tf.int64)])
    def sums(self, x, y):
        return {"sum": tf.reduce_sum(x, 1) + tf.cast(y, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def logarithms(self, x):
        return {"logarithm": tf.math.log(x)}


def test_every_signature_is_asked(tmp_path, pictures):
    odd = Odd()
    signatures = {"serving_default": odd.image, "sums": odd.sums, "logarithms": odd.logarithms}
    tf.saved_model.save(odd, str(tmp_path / "odd"), signatures=signatures)
    facts, checks = validate_export(tmp_path / "odd", pictures[:1], np.full((1, 7), 1 / 7), LABELS)
    found = by_name(checks)
    assert facts["signatures"] == {"serving_default": "bytes", "sums": "other", "logarithms": "other"}
    assert found["answers, serving_default"].passed is False
    assert "nan" in found["answers, serving_default"].said
    assert found["answers, serving_default"].figure is None
    assert found["answers, sums"].passed
    assert found["answers, logarithms"].passed is False  # of zeros


def test_what_cannot_be_loaded_or_decoded_is_refused(export_dir, tmp_path):
    _, (check,) = validate_export(tmp_path / "nothing", [b"x"], np.ones((1, 7)), LABELS)
    assert (check.name, check.passed) == ("loads", False)
    assert "cannot be served by TensorFlow alone" in check.said
    _, checks = validate_export(export_dir, [b"no image"], np.ones((1, 7)), LABELS)
    failed = by_name(checks)["answers, serving_default"]
    assert failed.passed is False
    assert "refuses images of the evaluation: not a JPEG, PNG, GIF, BMP or WebP image" in failed.said


def test_standalone_refuses_company(export_dir, pictures, tmp_path):
    image = np.frombuffer(pictures[0], np.uint8)
    np.savez(tmp_path / "requests.npz", encoded=image, lengths=np.array([len(image)]))
    with pytest.raises(RuntimeError, match=r"kcnn.* was imported"):
        standalone.main(str(export_dir), str(tmp_path / "requests.npz"), str(tmp_path / "answers.npz"))
    assert not (tmp_path / "answers.npz").exists()
