"""The check before publishing, on exports that are right, wrong and broken."""

import io

import numpy as np
import pytest
import tensorflow as tf
from tiny_classifier import SPEC, picture
from PIL import Image

from kcnn.data.transform import preprocess
from kcnn.serving import standalone
from kcnn.serving.validate import DisagreementError, check_in_fresh_process


def expected_probabilities(model, pictures):
    images = np.stack([preprocess(tf.constant(image), SPEC).numpy() for image in pictures])
    return tf.nn.softmax(model.predict(images, verbose=0)).numpy()


def test_agrees_with_keras(export_dir, model, pictures):
    # More than one request, bytes that end in zeros, and pixels from another decoder.
    images = [picture("PNG", (40 + seed, 30), seed) for seed in range(3)] + [pictures[0] + b"\0\0", *pictures] * 5
    pixels = [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images[:3]]
    assert len(images) > standalone.BATCH
    assert check_in_fresh_process(export_dir, images, expected_probabilities(model, images), pixels) < 1e-5


def test_disagreement_is_measured(export_dir, model, pictures):
    expected = expected_probabilities(model, pictures)
    wrong = expected.copy()
    wrong[0] = np.roll(wrong[0], 1)
    largest = np.abs(wrong - expected).max()
    with pytest.raises(
        DisagreementError, match=r"max \|Δp\| = .* the same top class for 83.3% of 12 answers"
    ) as caught:
        check_in_fresh_process(export_dir, pictures, wrong)
    assert f"{largest:.2g}" in str(caught.value)


def test_not_a_number_is_no_agreement(export_dir, model, pictures):
    with pytest.raises(DisagreementError, match="nan"):
        check_in_fresh_process(export_dir, pictures[:1], np.full((1, 7), np.nan))


def test_what_cannot_be_loaded_or_decoded_is_refused(export_dir, tmp_path):
    with pytest.raises(DisagreementError, match="cannot be served by TensorFlow alone"):
        check_in_fresh_process(tmp_path / "nothing", [b"x"], np.ones((1, 7)))
    with pytest.raises(DisagreementError, match="cannot be served by TensorFlow alone"):
        check_in_fresh_process(export_dir, [b"no image"], np.ones((1, 7)))


def test_standalone_refuses_company(export_dir, pictures, tmp_path):
    image = np.frombuffer(pictures[0], np.uint8)
    np.savez(tmp_path / "requests.npz", encoded=image, lengths=np.array([len(image)]))
    with pytest.raises(RuntimeError, match="kcnn was imported"):
        standalone.main(str(export_dir), str(tmp_path / "requests.npz"), str(tmp_path / "answers.npz"))
    assert not (tmp_path / "answers.npz").exists()
