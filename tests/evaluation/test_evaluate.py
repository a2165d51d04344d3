"""Evaluation of an export over records, and the files that it leaves."""

import csv
import hashlib
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from kcnn.data import examples
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.evaluation.evaluate import Evaluation, correct_answers, evaluate_export
from kcnn.evaluation.results import plot_confusion_matrix, write_evaluation
from kcnn.serving.export.classifier import export_classifier
from tests import shards

COLOURS = {"red": (255, 0, 0), "grün": (0, 255, 0), "blue, light": (0, 0, 255)}


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    """Export a model whose logits are the image's mean red, green and blue, over 25.5; those of grey are no numbers."""
    inputs = keras.Input((8, 8, 3))
    colour = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 25.5)(inputs))
    grey = keras.ops.exp(keras.ops.prod(colour, axis=1, keepdims=True))  # 1 without grey, else infinite
    outputs = keras.layers.Activation("linear")(keras.layers.Add()([colour, grey]))
    directory = tmp_path_factory.mktemp("export") / "1"
    export_classifier(keras.Model(inputs, outputs), directory, list(COLOURS), Preprocessing(image_size=(8, 8)))
    return directory


def example(filename, label, colour, size=(9, 12)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    encoded = file.getvalue()
    text = list(COLOURS)[label]
    return examples.Example(encoded, filename, label, text, "PNG", *size, hashlib.sha256(encoded).hexdigest())


def write(directory, records):
    return shards.write(directory, "test", records)


@pytest.fixture(scope="module")
def evaluation(export_dir, tmp_path_factory):
    colours = list(COLOURS.values())
    records = [example(f"photo {i}.png", i % 3, colours[i % 3], (8 + i, 20)) for i in range(10)]
    records.append(example("wrong\udcff.png", 1, COLOURS["red"]))  # a file name that is no UTF-8
    return evaluate_export(export_dir, write(tmp_path_factory.mktemp("data"), records), batch_size=4, total=11)


def test_answers_are_the_models(evaluation):
    assert evaluation.class_names == list(COLOURS)
    assert evaluation.filenames == [*(f"photo {i}.png" for i in range(10)), "wrong\udcff.png"]
    assert evaluation.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
    sure, other = np.e**10 / (np.e**10 + 2), 1 / (np.e**10 + 2)
    expected = np.where(np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0]], sure, other)
    assert evaluation.probabilities.dtype == np.float32
    np.testing.assert_allclose(evaluation.probabilities, expected, rtol=1e-4)


def test_a_broken_image_is_named_and_not_left_out(export_dir, tmp_path):
    records = [example("fine.png", 0, (255, 0, 0)), example("bad.png", 1, (0, 255, 0))]
    records[1] = examples.Example(b"torn", *[getattr(records[1], field) for field in list(vars(records[1]))[1:]])
    with pytest.raises(UserError, match=r"'bad\.png'"):
        evaluate_export(export_dir, write(tmp_path, records))


def test_nothing_to_evaluate(export_dir, tmp_path):
    with pytest.raises(UserError, match="no examples"):
        evaluate_export(export_dir, write(tmp_path, []))
    with pytest.raises(UserError, match="no shards"):
        evaluate_export(export_dir, [])


def test_an_answer_that_is_no_number_is_no_score(export_dir, tmp_path):
    paths = write(tmp_path, [example("fine.png", 0, (0, 0, 0)), example("far.png", 0, (200, 200, 200))])
    with pytest.raises(UserError, match=r"answer for 'far.png' is no number"):
        evaluate_export(export_dir, paths)


def test_the_answers_of_another_export(export_dir, tmp_path):
    colours = list(COLOURS.values())
    paths = write(tmp_path, [example(f"{i}.png", i % 3, colours[i % 2]) for i in range(6)])
    names = list(COLOURS)
    ours = correct_answers(export_dir, paths, names, batch_size=4, total=6)
    assert ours.tolist() == [True, True, False, False, False, False]
    # Its classes in another order: what it calls the last is our first.
    assert correct_answers(export_dir, paths, names[::-1], total=6).tolist() == [False, True, True, False, False, False]
    with pytest.raises(UserError, match="it has other classes: it lacks fox and has blue, light"):
        correct_answers(export_dir, paths, ["red", "grün", "fox"])
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    with pytest.raises(UserError, match="it cannot be run: SavedModel file does not exist"):
        correct_answers(tmp_path, paths, names)


def read(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def test_report(evaluation, tmp_path):
    metrics = write_evaluation(tmp_path / "report", evaluation)
    directory = tmp_path / "report"
    assert json.loads((directory / "metrics.json").read_text(encoding="utf-8")) == metrics
    assert metrics["top1"]["value"] == pytest.approx(10 / 11)
    assert "top5" not in metrics
    assert read(directory / "confusion_matrix.csv") == [
        ["label", "red", "grün", "blue, light"],
        ["red", "4", "0", "0"],
        ["grün", "1", "3", "0"],
        ["blue, light", "0", "0", "3"],
    ]
    header, *rows = read(directory / "per_class.csv")
    red = dict(zip(header, rows[0], strict=True))
    assert (red["class"], red["support"], red["precision"], red["recall"]) == ("red", "4", "0.8", "1.0")
    assert float(red["precision_low"]) < 0.8 < float(red["precision_high"])
    header, *rows = read(directory / "slices.csv")
    assert [row[:4] for row in rows] == [
        ["class", "red", "4", "4"],
        ["class", "grün", "4", "3"],
        ["class", "blue, light", "3", "3"],
        ["size", "1 to 8 px", "1", "1"],
        ["size", "9 to 16 px", "9", "8"],  # of which one is 9 x 12
        ["size", "17 to 32 px", "1", "1"],
    ]
    assert header == ["slice", "value", "examples", "correct", "accuracy", "accuracy_low", "accuracy_high", "note"]
    assert float(rows[1][4]) == metrics["slices"][1]["accuracy"]["value"] == 0.75
    assert rows[1][7] == "too few to tell (fewer than 20)"
    predictions = read(directory / "predictions.csv")
    assert predictions[0] == ["filename", "label", "predicted", "probability"]
    assert predictions[1] == ["photo 0.png", "red", "red", "0.999909"]
    assert predictions[-1] == ["wrong\udcff.png", "grün", "red", "0.999909"]
    assert len(predictions) == 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 20, 21, 250])
def test_confusion_matrix_picture(tmp_path, classes):
    names = ["$x_1", "emoji 🐈 and a name that goes on for very long", *(f"class_{c}" for c in range(2, classes))]
    matrix = np.diag(np.arange(classes))  # the first class has no examples
    matrix[1, 0] = 5
    plot_confusion_matrix(tmp_path / "matrix.png", matrix, names)
    image = np.asarray(Image.open(tmp_path / "matrix.png").convert("RGB"))
    assert 400 < min(image.shape[:2]) <= max(image.shape[:2]) < 3000
    # Dark blue, the colour of a row that is wholly right, is there; most of the picture is light.
    assert (np.abs(image.astype(int) - (8, 48, 107)).sum(2) < 10).any()
    assert image.mean() > 150


def test_evaluation_is_of_one_export(evaluation):
    """The graph that is scored has labels as wide as its answers."""
    with pytest.raises(ValueError, match="do not fit 2 classes"):
        write_evaluation("unused", Evaluation(["a", "b"], ["x"], np.array([0]), evaluation.probabilities[:1]))
