"""The export, asked by programs that know nothing of kcnn, against Keras' own predictions."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_classifier import LABELS, SPEC, picture, tiny_model

from kcnn.data.transform import Preprocessing, preprocess
from kcnn.errors import UserError
from kcnn.serving import export
from kcnn.serving.export import export_classifier, write_card

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


def ask(export_dir, pictures):
    served = tf.saved_model.load(str(export_dir))
    return {k: v.numpy() for k, v in served.signatures["serving_default"](image_bytes=tf.constant(pictures)).items()}


def test_tensorflow_alone_answers_as_keras_does(export_dir, model, pictures, tmp_path):
    paths = [tmp_path / str(index) for index in range(len(pictures))]
    for path, image in zip(paths, pictures, strict=True):
        path.write_bytes(image)
    command = [sys.executable, "-I", "-c", STRANGER, str(export_dir), *map(str, paths)]
    process = subprocess.run(command, capture_output=True, check=False, text=True, cwd="/")
    assert process.returncode == 0, process.stderr
    answers = json.loads(process.stdout)
    assert answers["signatures"] == ["images", "serving_default"]
    assert answers["dtypes"] == {"probabilities": "float32", "top_probabilities": "float32", "top_classes": "string"}
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
    served = tf.saved_model.load(str(export_dir)).signatures["images"]
    images = [picture("PNG", (50, 40), seed) for seed in range(3)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images])
    answers = served(images=tf.constant(pixels))["probabilities"].numpy()
    np.testing.assert_allclose(answers, ask(export_dir, images)["probabilities"], atol=1e-6)


def test_no_images_get_no_answers(export_dir):
    served = tf.saved_model.load(str(export_dir))
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
    monkeypatch.setattr(export, "_FROZEN_BYTES", 0)
    export_classifier(model, tmp_path / "large", LABELS, SPEC)
    saved = tf.train.list_variables(str(tmp_path / "large" / "variables" / "variables"))
    assert len([name for name, _ in saved if name.startswith("weights")]) == 11  # without the dropout's seed
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
