"""The check before publishing, on exports that are right, wrong and broken."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_classifier import SPEC, picture

from kcnn.data.transform import preprocess
from kcnn.serving import standalone
from kcnn.serving.validate import DisagreementError, check_in_fresh_process


def expected_probabilities(model, pictures):
    images = np.stack([preprocess(tf.constant(image), SPEC).numpy() for image in pictures])
    return tf.nn.softmax(model.predict(images, verbose=0)).numpy()


def test_agrees_with_keras(export_dir, model, pictures):
    images = [pictures[0] + b"\0\0", *pictures] * 5  # more than one request, and bytes that end in zeros
    assert len(images) > standalone.BATCH
    assert check_in_fresh_process(export_dir, images, expected_probabilities(model, images)) < 1e-5


def test_formats_without_pixels_are_served_too(export_dir, model):
    images = [picture("GIF", (30, 20))]
    assert check_in_fresh_process(export_dir, images, expected_probabilities(model, images)) < 1e-5


def test_disagreement_is_measured(export_dir, model, pictures):
    expected = expected_probabilities(model, pictures)
    wrong = expected.copy()
    wrong[0] = np.roll(wrong[0], 1)
    largest = np.abs(wrong - expected).max()
    with pytest.raises(
        DisagreementError, match=r"max \|Δp\| = .* the same top class for 87.5% of 16 answers"
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
    with pytest.raises(RuntimeError, match=r"kcnn.* was imported"):
        standalone.main(str(export_dir), str(tmp_path / "requests.npz"), str(tmp_path / "answers.npz"))
    assert not (tmp_path / "answers.npz").exists()
