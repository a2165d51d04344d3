"""The classifier as users hold it: files, folders, broken things and versions."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_classifier import LABELS, SPEC

from kcnn.data.transform import preprocess
from kcnn.errors import UserError
from kcnn.serving.export import write_card
from kcnn.serving.predict import Prediction, load_classifier


@pytest.fixture(scope="module")
def classifier(export_dir):
    return load_classifier(export_dir)


@pytest.fixture
def folder(tmp_path, pictures):
    """Files with odd names in nested folders, two of them broken."""
    folder = tmp_path / "photos"
    (folder / "sub" / "日本").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "a.jpg").write_bytes(pictures[0])
    (folder / "b truncated.jpg").write_bytes(pictures[5][:200])
    (folder / "c.txt").write_bytes(pictures[1])  # a PNG all the same
    (folder / "sub" / "naïve 'café'.png").write_bytes(pictures[2])
    (folder / "sub" / "日本" / "empty.gif").write_bytes(b"")
    (folder / "sub" / "日本" / "猫.gif").write_bytes(pictures[3])
    (folder / ".DS_Store").write_bytes(b"not an image")
    (folder / ".hidden" / "x.jpg").write_bytes(pictures[0])
    (folder / "sub" / "round").symlink_to(folder)
    return folder


def test_answers_are_those_of_keras(classifier, model, pictures, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(pictures[1])
    (answer,) = classifier.predict(path)
    probabilities = tf.nn.softmax(model(preprocess(tf.constant(pictures[1]), SPEC)[None])).numpy()[0]
    order = np.argsort(-probabilities)[:5]
    assert answer.file == str(path)
    assert answer.error is None
    assert answer.classes == tuple(LABELS[index] for index in order)
    np.testing.assert_allclose(answer.probabilities, probabilities[order], atol=1e-5)
    assert classifier.predict(str(path)) == [answer]
    assert classifier.labels == tuple(LABELS)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_broken_files_do_not_disturb_the_others(classifier, folder, batch_size):
    answers = classifier.predict(folder, batch_size=batch_size)
    assert [Path(answer.file).relative_to(folder).as_posix() for answer in answers] == [
        "a.jpg",
        "b truncated.jpg",
        "c.txt",
        "sub/naïve 'café'.png",
        "sub/日本/empty.gif",
        "sub/日本/猫.gif",
    ]
    assert [answer.error is None for answer in answers] == [True, False, True, True, False, True]
    for answer in answers:
        assert len(answer.classes) == len(answer.probabilities) == (0 if answer.error else 5)
        if not answer.error:
            (alone,) = classifier.predict([answer.file])
            assert alone.classes == answer.classes
            np.testing.assert_allclose(alone.probabilities, answer.probabilities, atol=1e-6)


def test_order_of_mixed_items_is_kept(classifier, folder, pictures, tmp_path):
    (tmp_path / "nothing here" / "nor here").mkdir(parents=True)
    missing = tmp_path / "missing.jpg"
    items = [missing, pictures[0], tmp_path / "nothing here", str(folder / "a.jpg"), b"", folder / "sub" / "日本"]
    answers = classifier.predict(items, batch_size=2)
    assert [(answer.file, answer.error) for answer in answers] == [
        (str(missing), "No such file or directory"),
        ("<bytes>", None),
        (str(tmp_path / "nothing here"), "no files in this folder"),
        (str(folder / "a.jpg"), None),
        ("<bytes>", "the file is empty"),
        (str(folder / "sub" / "日本" / "empty.gif"), "the file is empty"),
        (str(folder / "sub" / "日本" / "猫.gif"), None),
    ]
    assert answers[1].probabilities == pytest.approx(answers[3].probabilities)


def test_nothing_given_nothing_answered(classifier):
    assert classifier.predict([]) == []
    with pytest.raises(UserError, match="batch_size is 0"):
        classifier.predict([], batch_size=0)


def test_a_stream_reads_one_batch_ahead(classifier, pictures):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield pictures[0]

    stream = classifier.stream(endless(), batch_size=3)
    for _ in range(4):
        assert isinstance(next(stream), Prediction)
    assert len(taken) == 6


def test_the_highest_version_is_taken(export_dir, tmp_path):
    for version in ("2", "10"):
        shutil.copytree(export_dir, tmp_path / "tiny" / version)
    (tmp_path / "tiny" / "11").mkdir()  # holds no model
    shutil.copytree(export_dir, tmp_path / "tiny" / "latest")
    write_card(tmp_path / "tiny" / "10", {"name": "ten"})
    classifier = load_classifier(tmp_path / "tiny")
    assert classifier.directory == tmp_path / "tiny" / "10"
    assert classifier.card == {"name": "ten"}
    assert load_classifier(str(tmp_path / "tiny" / "2")).card is None


def test_what_is_no_model_is_one_line(export_dir, tmp_path):
    shutil.copytree(export_dir, tmp_path / "resnet50" / "1")
    for wrong in (tmp_path / "resnet5", tmp_path):
        with pytest.raises(UserError, match="resnet50'") as caught:
            load_classifier(wrong)
        assert "\n" not in str(caught.value)
    (tmp_path / "resnet50" / "1" / "saved_model.pb").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_classifier(tmp_path / "resnet50")
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match="was not exported by kcnn"):
        load_classifier(tmp_path / "other")
