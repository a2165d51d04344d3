"""The export, asked by programs that know nothing of kcnn, against Keras' own predictions."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from requests_and_answers import BROKEN, ask, example, load
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.util import _pywrap_util_port
from tiny_classifier import LABELS, SPEC, picture, tiny_model

from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from kcnn.errors import UserError
from kcnn.serving.export import network, precision
from kcnn.serving.export.classifier import export_classifier
from kcnn.serving.publishing.card import write_card

SIGNATURES = ["classify", "embed", "images", "images_float", "metadata", "predict_tf_example", "serving_default"]
STRANGER = """
import json, sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
images = [open(path, "rb").read() for path in sys.argv[2:]]
answers = served.signatures["serving_default"](image_bytes=tf.constant(images))
assert "kcnn" not in sys.modules
print(json.dumps({
    "signatures": sorted(served.signatures),
    "dtypes": {name: value.dtype.name for name, value in answers.items()},
    "probabilities": answers["probabilities"].numpy().tolist(),
    "top_probabilities": answers["top_probabilities"].numpy().tolist(),
    "top_classes": [[name.decode() for name in row] for row in answers["top_classes"].numpy()],
}))
"""


def expected_probabilities(model, pictures):
    logits = model.predict(np.stack([preprocess(tf.constant(image), SPEC).numpy() for image in pictures]), verbose=0)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def test_tensorflow_alone_answers_as_keras_does(export_dir, model, pictures, tmp_path):
    paths = [tmp_path / str(index) for index in range(len(pictures))]
    for path, image in zip(paths, pictures, strict=True):
        path.write_bytes(image)
    command = [sys.executable, "-I", "-c", STRANGER, str(export_dir), *map(str, paths)]
    process = subprocess.run(command, capture_output=True, check=False, text=True, cwd="/")
    assert process.returncode == 0, process.stderr
    answers = json.loads(process.stdout)
    assert answers["signatures"] == SIGNATURES
    floats = dict.fromkeys(["probabilities", "logits", "top_probabilities"], "float32")
    assert answers["dtypes"] == {**floats, "top_classes": "string", "status": "string"}
    expected = expected_probabilities(model, pictures)
    assert expected.std(axis=0).max() > 0.05  # the model tells the pictures apart, or agreement would mean nothing
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
    order = np.argsort(-expected, axis=1)[:, :5]
    assert answers["top_classes"] == np.array(LABELS)[order].tolist()
    np.testing.assert_allclose(answers["top_probabilities"], np.take_along_axis(expected, order, 1), atol=1e-5)


def test_a_mixed_request_equals_one_by_one(export_dir, pictures):
    together = ask(export_dir, pictures)["probabilities"]
    alone = np.concatenate([ask(export_dir, [image])["probabilities"] for image in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_pixels_and_bytes_of_a_png_get_the_same_answer(export_dir):
    served = load(str(export_dir)).signatures["images"]
    images = [picture("PNG", (50, 40), seed) for seed in range(3)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images])
    answers = served(images=tf.constant(pixels))["probabilities"].numpy()
    np.testing.assert_allclose(answers, ask(export_dir, images)["probabilities"], atol=1e-6)


def test_no_images_get_no_answers(export_dir):
    served = load(str(export_dir))
    answers = served.signatures["serving_default"](image_bytes=tf.constant([], tf.string))
    assert answers["probabilities"].shape == (0, len(LABELS))
    answers = served.signatures["images"](images=tf.zeros([0, 5, 6, 3], tf.uint8))
    assert answers["top_classes"].shape == (0, 5)


def test_only_constants_and_labels_are_saved(export_dir):
    assert (export_dir / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines() == LABELS
    assert tf.train.list_variables(str(export_dir / "variables" / "variables")) == [
        ("_CHECKPOINTABLE_OBJECT_GRAPH", [])
    ]
    assert sorted(path.name for path in export_dir.parent.iterdir()) == ["1"]


def test_a_large_model_keeps_its_variables(model, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "CONSTANT_BYTES", 0)
    export_classifier(model, tmp_path / "large", LABELS, SPEC)
    saved = tf.train.list_variables(str(tmp_path / "large" / "variables" / "variables"))
    assert [shape for name, shape in saved if name.startswith("weights")] == [[936, 7]]
    answers = ask(tmp_path / "large", pictures)
    np.testing.assert_allclose(answers["probabilities"], expected_probabilities(model, pictures), atol=1e-5)


def test_few_classes_are_all_named(tmp_path):
    export_classifier(tiny_model(2), tmp_path / "two", ["no", "yes"], SPEC)
    answers = ask(tmp_path / "two", [picture("PNG", (9, 9))])
    assert {name.decode() for name in answers["top_classes"][0]} == {"no", "yes"}
    assert answers["top_probabilities"].sum() == pytest.approx(1)


def test_nothing_is_printed(tmp_path, capsys, caplog):
    caplog.set_level("INFO", "absl")
    caplog.set_level("INFO", "tensorflow")
    export_classifier(tiny_model(3), tmp_path / "quiet", ["a", "b", "c"], SPEC)
    printed = capsys.readouterr()
    assert (printed.out, printed.err, caplog.text) == ("", "", "")


@pytest.mark.parametrize(
    ("labels", "spec", "dtype", "message"),
    [
        (LABELS[:-1], SPEC, None, "6 labels"),
        ([*LABELS[:-1], "two\nlines"], SPEC, None, "line break"),
        (LABELS, Preprocessing(image_size=(32, 32)), None, "takes images of"),
        (LABELS, SPEC, "mixed_bfloat16", "bfloat16"),
        (LABELS, SPEC, "mixed_float16", "float16"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, labels, spec, dtype, message):
    with pytest.raises(ValueError, match=message):
        export_classifier(tiny_model(dtype=dtype), tmp_path / "new" / "1", labels, spec)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_left_alone(tmp_path, model):
    (tmp_path / "1").mkdir()
    with pytest.raises(UserError, match="exists"):
        export_classifier(model, tmp_path / "1", LABELS, SPEC)
    assert list((tmp_path / "1").iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path, model, monkeypatch):
    save = tf.saved_model.save

    def fill_disk(module, directory, **options):
        save(module, directory, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fill_disk)
    with pytest.raises(OSError, match="No space"):
        export_classifier(model, tmp_path / "1", LABELS, SPEC)
    assert list(tmp_path.iterdir()) == []


def test_card_is_sorted_json(export_dir, tmp_path):
    card = {"name": "tiny", "labels": LABELS, "counts": {"train": 3, "test": 1}}
    write_card(tmp_path, card)
    text = (tmp_path / "assets.extra" / "card.json").read_text(encoding="utf-8")
    assert json.loads(text) == card
    assert text.index("counts") < text.index("labels") < text.index("name")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_card(tmp_path, {"top1": float("nan")})
    assert json.loads((tmp_path / "assets.extra" / "card.json").read_text(encoding="utf-8")) == card


def expect_refused(answers, rows, statuses):
    assert [status.decode() for status in answers["status"][rows]] == statuses
    for name in ("probabilities", "logits", "top_probabilities"):
        assert not answers[name][rows].any()
    assert set(answers["top_classes"][rows].ravel()) == {b""}


def test_a_row_that_cannot_be_decoded_leaves_the_others_alone(export_dir, pictures):
    mixed = [row for pair in zip(BROKEN, pictures * 2, strict=False) for row in pair]
    answers = ask(export_dir, mixed)
    expect_refused(answers, slice(0, None, 2), list(BROKEN.values()))
    assert set(answers["status"][1::2]) == {b""}
    whole = ask(export_dir, mixed[1::2])
    np.testing.assert_allclose(answers["probabilities"][1::2], whole["probabilities"], atol=1e-6)
    assert answers["top_classes"][1::2].tolist() == whole["top_classes"].tolist()
    expect_refused(ask(export_dir, list(BROKEN)), slice(None), list(BROKEN.values()))  # with no other in the batch


def test_examples_are_answered_as_their_images(export_dir, pictures):
    served = load(str(export_dir)).signatures
    whole = ask(export_dir, pictures)
    rows = [*map(example, pictures), b"no example", example(b""), tf.train.Example().SerializeToString()]
    answers = {k: v.numpy() for k, v in served["predict_tf_example"](examples=tf.constant(rows)).items()}
    np.testing.assert_allclose(answers["probabilities"][:-3], whole["probabilities"], atol=1e-6)
    damaged = "no tf.Example with an image in image/encoded, or a damaged image: it cannot be decoded"
    expect_refused(answers, slice(-3, None), [damaged, *["empty: there are no bytes"] * 2])
    classified = {k: v.numpy() for k, v in served["classify"](inputs=tf.constant(rows)).items()}
    np.testing.assert_array_equal(classified["scores"], answers["probabilities"])
    assert [name.decode() for name in classified["classes"][0]] == LABELS
    assert set(classified["classes"][-1]) == {b""}


def test_classify_is_what_tensorflow_serving_calls_a_classification(export_dir):
    saved = saved_model_pb2.SavedModel.FromString((export_dir / "saved_model.pb").read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    methods = {name: definitions[name].method_name for name in SIGNATURES}
    assert methods.pop("classify") == tf.saved_model.CLASSIFY_METHOD_NAME
    assert set(methods.values()) == {tf.saved_model.PREDICT_METHOD_NAME}
    assert set(definitions["classify"].inputs) == {tf.saved_model.CLASSIFY_INPUTS}
    outputs = {tf.saved_model.CLASSIFY_OUTPUT_CLASSES, tf.saved_model.CLASSIFY_OUTPUT_SCORES}
    assert set(definitions["classify"].outputs) == outputs


def test_a_pixel_that_is_no_number_is_the_rows_own_fault(export_dir):
    served = load(str(export_dir)).signatures
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 30, 50, 3)).astype(np.float32)
    whole = served["images_float"](images=tf.constant(pixels))["probabilities"].numpy()
    np.testing.assert_allclose(
        served["images"](images=tf.constant(pixels.round().astype(np.uint8)))["probabilities"],
        served["images_float"](images=tf.constant(pixels.round()))["probabilities"],
        atol=1e-6,
    )
    pixels[1, 0, 0, 0], pixels[2, -1, -1, -1] = np.nan, np.inf
    answers = {k: v.numpy() for k, v in served["images_float"](images=tf.constant(pixels)).items()}
    expect_refused(answers, slice(1, 3), ["a pixel is not a finite number"] * 2)
    np.testing.assert_allclose(answers["probabilities"][[0, 3]], whole[[0, 3]], atol=1e-6)


def test_embeddings_are_what_the_last_layer_takes(export_dir, model, pictures):
    served = load(str(export_dir)).signatures["embed"]
    answers = {k: v.numpy() for k, v in served(image_bytes=tf.constant([*pictures, b"no image"])).items()}
    assert answers["embedding"].shape == (len(pictures) + 1, 936)
    assert answers["status"].tolist() == [b""] * len(pictures) + [b"not a JPEG, PNG, GIF, BMP or WebP image"]
    kernel, bias = (weight.numpy() for weight in model.layers[-1].weights)
    np.testing.assert_allclose(
        answers["embedding"][:-1] @ kernel + bias, ask(export_dir, pictures)["logits"], atol=1e-4
    )
    assert not answers["embedding"][-1].any()


def test_metadata_say_what_it_is(tmp_path, model):
    returned = export_classifier(
        model, tmp_path / "1", LABELS, SPEC, temperature=2.5, optimize_for="size", run={"model": "tiny"}
    )
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["metadata"]
    told = json.loads(served()["metadata"].numpy())
    assert told == json.loads(json.dumps(returned))
    assert told["labels"] == LABELS
    assert Preprocessing(**told["preprocessing"]) == SPEC
    assert told["calibration"] == {"temperature": 2.5}
    assert told["export"] == {"optimize_for": "size", "formats": ["savedmodel"], "precision": "float32"}
    assert told["run"] == {"model": "tiny"}
    assert told["versions"]["tensorflow"] == tf.__version__
    assert len(told["checksums"]["weights"]) == 64


def test_temperature_is_in_probabilities_alone(export_dir, model, pictures, tmp_path):
    export_classifier(model, tmp_path / "1", LABELS, SPEC, temperature=3.0)
    plain, calibrated = ask(export_dir, pictures), ask(tmp_path / "1", pictures)
    np.testing.assert_allclose(calibrated["logits"], plain["logits"], atol=1e-5)
    np.testing.assert_allclose(plain["probabilities"], tf.nn.softmax(plain["logits"]), atol=1e-6)
    np.testing.assert_allclose(calibrated["probabilities"], tf.nn.softmax(plain["logits"] / 3), atol=1e-5)
    assert calibrated["top_classes"].tolist() == plain["top_classes"].tolist()


@pytest.mark.parametrize(
    ("purpose", "tolerance"),
    [
        pytest.param("throughput", 1e-5, marks=pytest.mark.slow),
        ("size", 5e-3),
        pytest.param("none", 1e-5, marks=pytest.mark.slow),
    ],
)
def test_whatever_it_is_made_for_it_answers_as_the_model(model, pictures, tmp_path, purpose, tolerance):
    export_classifier(model, tmp_path / "1", LABELS, SPEC, optimize_for=purpose)
    expected = expected_probabilities(model, pictures)
    np.testing.assert_allclose(ask(tmp_path / "1", pictures)["probabilities"], expected, atol=tolerance)


@pytest.mark.slow
def test_bfloat16_is_taken_where_it_gains_and_agrees(model, pictures, tmp_path, monkeypatch):
    samples = [picture("PNG", (40, 30), seed) for seed in range(precision.PICTURES)]
    numbers = iter(range(10))

    def exported(samples):
        return export_classifier(model, tmp_path / str(next(numbers)), LABELS, SPEC, samples=samples)["export"]

    monkeypatch.setattr(precision, "WORTH_SECONDS", 0)
    monkeypatch.setattr(precision, "GAIN", 0)
    monkeypatch.setattr(precision, "AGREEMENT", 0.9)  # of a network that has learned nothing
    facts = exported([*samples, b"no picture"])
    assert (facts["precision"], facts["compared"]) == ("bfloat16", len(samples))
    tops = expected_probabilities(model, samples).argmax(1)
    assert facts["classes"] == len(set(tops)) > 1
    found, expected = ask(tmp_path / "0", pictures), expected_probabilities(model, pictures)
    difference = np.abs(found["probabilities"] - expected).max()
    least = 1e-5 if _pywrap_util_port.IsMklEnabled() else 0  # without oneDNN, TensorFlow's pass changes nothing
    assert least <= difference < 2e-2
    for too_few in (samples[1:], [*samples[1:], b"no picture"], []):  # to tell; whatever it gains
        facts = exported(too_few)
        assert (facts["precision"], facts["compared"]) == ("float32", len(too_few) and len(samples) - 1)
        assert "100 pictures" in facts["reason"]
    monkeypatch.setattr(precision, "AGREEMENT", 1.1)
    facts = exported(samples)
    assert (facts["precision"], facts["compared"]) == ("float32", len(samples))
    assert "top classes" in facts["reason"]
    monkeypatch.setattr(precision, "GAIN", 1000)
    facts = exported(samples)
    assert (facts["precision"], facts["compared"]) == ("float32", 0)
    assert 0 < facts["speedup"] < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimize_for": "sped"}, "optimize_for 'sped'"),
        ({"formats": ("savedmodl",)}, "savedmodel"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": float("nan")}, "above 0"),
    ],
)
def test_unknown_wishes_are_refused(model, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        export_classifier(model, tmp_path / "1", LABELS, SPEC, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_programs_of_the_guide_run(export_dir, pictures, tmp_path):
    """Run the ten lines that load the export with TensorFlow alone."""
    page = Path(__file__).parents[3].joinpath("docs/guides/export.md").read_text(encoding="utf-8")
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "saved_model.load" in block)
    assert len(program.strip().splitlines()) <= 10
    for name, content in (("a.jpg", pictures[0]), ("b.jpg", b"no image")):
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-I", "-c", program, str(export_dir), str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    process = subprocess.run(command, capture_output=True, check=False, text=True, cwd="/")
    assert process.returncode == 0, process.stderr
    good, bad = process.stdout.splitlines()
    best = ask(export_dir, pictures[:1])["top_classes"][0][0].decode()
    assert good.startswith(f"{tmp_path}/a.jpg: {best} ")
    assert bad == f"{tmp_path}/b.jpg: not a JPEG, PNG, GIF, BMP or WebP image"
