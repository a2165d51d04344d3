"""The classifier as users hold it: files, folders, pixels, broken things, versions, threads."""

import io
import os
import shutil
import threading
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_classifier import LABELS, SPEC, picture

from kcnn.data.input_pipeline.transform import preprocess
from kcnn.errors import UserError
from kcnn.serving.prediction.classifier import Prediction, _batches, load_classifier
from kcnn.serving.publishing.card import CARD, write_card
from kcnn.serving.publishing.rollback import republish_version
from tests.data.input_pipeline.hostile_images import END, jpeg_of_scans, scan
from tests.data.input_pipeline.image_files import png


@pytest.fixture(scope="module")
def classifier(export_dir):
    return load_classifier(export_dir)


@pytest.fixture
def folder(tmp_path, pictures):
    """Write files with odd names into nested folders, two of them broken."""
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
    (answer,) = classifier.predict(path)  # a path stands for a list of one
    probabilities = tf.nn.softmax(model(preprocess(tf.constant(pictures[1]), SPEC)[None])).numpy()[0]
    order = np.argsort(-probabilities)[:5]
    assert answer.file == str(path)
    assert answer.error is None
    assert answer.classes == tuple(LABELS[index] for index in order)
    np.testing.assert_allclose(answer.probabilities, probabilities[order], atol=1e-5)
    assert classifier.predict(str(path)) == [answer]
    assert classifier.labels == tuple(LABELS)


def test_formats_of_others_are_named_with_what_reads_them(classifier, pictures, tmp_path):
    (tmp_path / "a.CR2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(99))
    (tmp_path / "b.jpg").write_bytes(pictures[0])
    (tmp_path / "c.avif").write_bytes(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(99))
    (tmp_path / "Thumbs.db").write_bytes(b"not an image")
    raw, good, avif = classifier.predict(tmp_path)
    assert raw.error.startswith("RAW (Canon CR2) is not a supported format (BMP, GIF, JPEG, PNG, WEBP); rawpy, ")
    assert avif.error.startswith("AVIF is not a supported format (BMP, GIF, JPEG, PNG, WEBP); avifdec of libavif ")
    assert good.error is None
    with pytest.raises(UserError, match=r"a\.CR2: RAW \(Canon CR2\) is not a supported format"):
        classifier.embed(tmp_path / "a.CR2")


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
    empty = classifier.predict(b"")[0].error
    assert "empty" in empty
    assert [(answer.file, answer.error) for answer in answers] == [
        (str(missing), "No such file or directory"),
        ("<bytes>", None),
        (str(tmp_path / "nothing here"), "no files in this folder"),
        (str(folder / "a.jpg"), None),
        ("<bytes>", empty),
        (str(folder / "sub" / "日本" / "empty.gif"), empty),
        (str(folder / "sub" / "日本" / "猫.gif"), None),
    ]
    assert answers[1].probabilities == pytest.approx(answers[3].probabilities)


def test_nothing_given_nothing_answered(classifier):
    assert classifier.predict([]) == []
    with pytest.raises(UserError, match="batch_size is 0"):
        classifier.predict([], batch_size=0)


def test_a_stream_holds_two_batches(classifier, pictures):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield pictures[0]

    stream = classifier.stream(endless(), batch_size=3)
    for _ in range(4):
        assert isinstance(next(stream), Prediction)
    assert len(taken) == 9  # of three images each: answered, at work, read ahead


def test_large_files_are_fewer_a_batch(classifier, pictures, tmp_path, monkeypatch):
    for index in range(6):
        (tmp_path / f"{index}.jpg").write_bytes(pictures[5])
    monkeypatch.setattr("kcnn.serving.prediction.classifier.BATCH_BYTES", 2 * len(pictures[5]))
    batches = _batches(str(tmp_path), 32, None)
    assert [len(batch) for batch in batches] == [2, 2, 2]


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


def test_a_rollback_is_followed(export_dir, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(export_dir, folder / "1")
    shutil.copytree(export_dir, folder / "2")
    (folder / "2" / "assets" / "labels.txt").write_text("\n".join(LABELS[::-1]) + "\n", encoding="utf-8")
    assert load_classifier(folder).labels == tuple(LABELS[::-1])
    republish_version(folder, 1, "")
    classifier = load_classifier(folder)
    assert classifier.labels == tuple(LABELS)
    assert classifier.card["rollback"]["copy_of"] == 1


def test_a_damaged_card_stops_no_answer_and_damaged_labels_are_one_line(export_dir, tmp_path, pictures):
    version = shutil.copytree(export_dir, tmp_path / "1")
    (version / "assets.extra").mkdir(exist_ok=True)
    os.mkfifo(version / CARD)
    classifier = load_classifier(version)
    assert classifier.card is None
    assert classifier.predict(pictures[0])[0].error is None
    for content, message in ((b"\xff\xfe", "no UTF-8"), (b"a\nb\n", "2 lines; expected the names of 7 classes")):
        (version / "assets" / "labels.txt").write_bytes(content)
        with pytest.raises(UserError, match=rf"labels\.txt: damaged: {message}"):
            load_classifier(version)


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


def signature(classifier, name, **inputs):
    answer = classifier._served.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    return answer["probabilities"].numpy()


@pytest.mark.parametrize("top", [1, 3, 6, 7, 99])
def test_as_many_classes_as_asked(classifier, pictures, top):
    answers = classifier.predict(pictures, top=top)
    expected = signature(classifier, "serving_default", image_bytes=pictures)
    for answer, probabilities in zip(answers, expected, strict=True):
        order = np.argsort(-probabilities, kind="stable")[:top]
        assert answer.classes == tuple(LABELS[index] for index in order)
        assert answer.probabilities == tuple(probabilities[order].tolist())  # exactly
    with pytest.raises(UserError, match="top is 0: expected 1 or more"):
        classifier.predict([], top=0)


def best(probabilities):
    return [(LABELS[index], row[index]) for row in probabilities for index in [row.argmax()]]


def test_pixels_are_answered_as_by_the_signature(classifier):
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 40, 3), np.uint8)
    expected = best(signature(classifier, "images", images=images))
    answers = classifier.predict(images)
    assert [(answer.classes[0], answer.probabilities[0]) for answer in answers] == expected
    assert {answer.file for answer in answers} == {"<array>"}
    for same in (classifier.predict(images[1]), classifier.predict(list(images), batch_size=2)[1:2]):
        assert same[0].classes == answers[1].classes
        np.testing.assert_allclose(same[0].probabilities, answers[1].probabilities, atol=1e-6)
    assert classifier.predict(tf.constant(images)) == answers
    assert classifier.predict(images[:0]) == []


def test_float_pixels(classifier):
    if "images_float" not in classifier._served.signatures:
        pytest.skip("the export takes none")
    images = np.random.default_rng(0).uniform(0, 255, (2, 50, 40, 3))
    expected = best(signature(classifier, "images_float", images=images.astype(np.float32)))
    for dtype in (np.float64, np.float32):
        answers = classifier.predict(images.astype(dtype))
        assert [(answer.classes[0], answer.probabilities[0]) for answer in answers] == expected
    with pytest.warns(UserWarning, match="none above 1: expected 0 to 255"):
        classifier.predict(images / 255)


def test_mixtures_are_answered_in_order(classifier, pictures, tmp_path):
    (tmp_path / "a.png").write_bytes(pictures[1])
    decoded = Image.open(io.BytesIO(pictures[1]))
    pixels = np.asarray(decoded)
    small = np.zeros((2, 9, 9, 3), np.uint8)
    items = [pixels, pictures[1], small, decoded, tmp_path / "a.png", b"bad", bytearray(pictures[1])]
    answers = classifier.predict(iter(items), batch_size=3)
    names = ["<array>", "<bytes>", "<array>", "<array>", "<image>", str(tmp_path / "a.png"), "<bytes>", "<bytes>"]
    assert [answer.file for answer in answers] == names
    assert [answer.error is None for answer in answers] == [True] * 6 + [False, True]
    same = [answers[index] for index in (0, 1, 4, 5, 7)]
    for answer in same:
        assert answer.classes == same[0].classes
        np.testing.assert_allclose(answer.probabilities, same[0].probabilities, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_pil_images_are_what_their_files_are(classifier, mode, tmp_path):
    image = Image.open(io.BytesIO(picture("PNG", (40, 30), 9)))
    if mode == "I;16":
        values = np.random.default_rng(1).integers(0, 2**16, (30, 40), np.uint16)
        image = Image.fromarray(values)
    elif mode == "LA":
        image = image.convert("L").convert("LA")
    else:
        image = image.convert(mode)
    assert image.mode == mode
    (given,) = classifier.predict(image)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "CMYK" else "PNG")
    if mode == "CMYK":  # which no lossless format that the export reads can hold
        (stored,) = classifier.predict(np.asarray(image.convert("RGB")))
    else:
        (stored,) = classifier.predict(file.getvalue())
    assert given.classes == stored.classes
    np.testing.assert_allclose(given.probabilities, stored.probabilities, atol=1e-6)


def test_pil_images_are_upright(classifier):
    image = Image.open(io.BytesIO(picture("PNG", (40, 30), 9)))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    (given,) = classifier.predict(Image.open(file))
    (stored,) = classifier.predict(file.getvalue())
    np.testing.assert_allclose(given.probabilities, stored.probabilities, atol=1e-6)


def test_a_transparent_picture_is_answered_as_the_same_on_white(classifier, tmp_path):
    alpha = np.asarray(Image.open(io.BytesIO(picture("PNG", (40, 30), 9))).convert("L"))
    black = np.zeros((30, 40, 3), np.uint8)
    image = Image.fromarray(np.dstack([black, alpha]))
    image.save(tmp_path / "black.png")
    image.save(tmp_path / "black.webp", lossless=True, exact=True)
    white = np.repeat(255 - alpha[..., None], 3, axis=2)
    asked = [white, image, tmp_path / "black.png", tmp_path / "black.webp", (tmp_path / "black.png").read_bytes()]
    expected, *found = classifier.predict(asked)
    (opaque,) = classifier.predict(black)
    assert abs(opaque.probabilities[0] - expected.probabilities[0]) > 1e-3
    for answer in found:
        assert answer.classes == expected.classes
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)


def test_a_pil_image_that_cannot_be_read_does_not_disturb_the_others(classifier, pictures, tmp_path):
    broken = [tmp_path / f"{index}.png" for index in range(2)]
    broken[0].write_bytes(picture("PNG", (400, 300), 9)[:-500])
    # A chunk of one byte that has to have four, which Pillow meets with struct.error.
    whole = picture("PNG", (40, 30), 9)
    broken[1].write_bytes(whole[:-12] + png(0, 8, (1, 1), b"\0\0", gAMA=b"\1")[33:46] + whole[-12:])
    first, second, third = classifier.predict([Image.open(broken[0]), Image.open(broken[1]), pictures[0]])
    assert [one.file for one in (first, second)] == [str(path) for path in broken]
    assert first.error
    assert third.classes
    with pytest.raises(UserError, match=r"0\.png: "):
        classifier.embed(Image.open(broken[0]))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\): expected \[H, W, 3\] or \[N, H, W, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\): expected"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\): expected"),
        (np.zeros((4, 4, 3), np.int64), "an array of int64: expected uint8, or float, from 0 to 255"),
        (np.zeros((4, 4, 3), bool), "an array of bool: expected uint8"),
        (np.full((4, 4, 3), np.nan), "float64 with a number that is not finite"),
        (np.array(["a.jpg"]), r"shape \(1,\): expected"),
        ([["a.jpg"]], "an input of type list: expected a path, bytes, an array"),
        ([7], "an input of type int: expected a path"),
        (Image.new("F", (4, 4)), "a PIL image of mode F, whose range is unknown"),
    ],
)
def test_what_is_no_image_is_one_line(classifier, item, message):
    with pytest.raises(UserError, match=message) as caught:
        classifier.predict(item)
    assert "\n" not in str(caught.value)


def test_threads_share_it(classifier, pictures):
    alone = [classifier.predict([image]) for image in pictures]
    start = threading.Barrier(8)

    def work(seed):
        start.wait()
        order = np.random.default_rng(seed).permutation(len(pictures) * 5) % len(pictures)
        return order, classifier.predict([pictures[index] for index in order], batch_size=1 + seed % 4)

    with futures.ThreadPoolExecutor(8) as pool:
        for order, answers in pool.map(work, range(8)):
            for index, answer in zip(order, answers, strict=True):
                assert answer.classes == alone[index][0].classes
                np.testing.assert_allclose(answer.probabilities, alone[index][0].probabilities, atol=1e-6)


def test_reading_threads_end_with_the_stream(classifier, pictures):
    before = threading.active_count()
    stream = classifier.stream([pictures[0]] * 9, batch_size=2)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        threading.Event().wait(0.02)
    assert threading.active_count() <= before


def test_embeddings(classifier, pictures, tmp_path):
    if "embed" not in classifier._served.signatures:
        with pytest.raises(UserError, match="has no signature embed"):
            classifier.embed(pictures)
        return
    rows = classifier.embed(pictures, batch_size=4)
    expected = classifier._served.signatures["embed"](image_bytes=tf.constant(pictures))["embedding"].numpy()
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    png = Image.open(io.BytesIO(pictures[1]))
    for same in (png, np.asarray(png)):
        np.testing.assert_allclose(classifier.embed(same), expected[1:2], atol=1e-5)
    assert classifier.embed([]).shape == (0, expected.shape[1])
    with pytest.raises(UserError, match="<bytes>: "):
        classifier.embed([pictures[0], b"bad"])
    with pytest.raises(UserError, match=r"missing\.jpg: No such file"):
        classifier.embed(tmp_path / "missing.jpg")
    with pytest.raises(UserError, match="embed takes no float pixels"):
        classifier.embed(np.full((4, 4, 3), 2.5))


class Older(tf.Module):
    """An export of an earlier version, whose answers had no status: it fails for the whole batch."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        pixel = tf.TensorSpec([], tf.float32)
        red = tf.map_fn(lambda one: tf.cast(tf.io.decode_png(one, 3)[0, 0, 0], tf.float32), image_bytes, pixel)
        probabilities = tf.stack([red / 255, 1 - red / 255], axis=1)
        top = tf.math.top_k(probabilities, 2)
        classes = tf.gather(tf.constant(["red", "not"]), top.indices)
        return {"probabilities": probabilities, "top_classes": classes, "top_probabilities": top.values}


def test_exports_without_status_are_asked_again_in_halves(tmp_path, pictures):
    module = Older()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serving_default})
    (tmp_path / "1" / "assets" / "labels.txt").write_text("red\nnot\n")
    answers = load_classifier(tmp_path).predict([pictures[1], b"bad", pictures[2], b"", pictures[1]])
    errors = [None, "not an image that can be decoded", None, "the file is empty", None]
    assert [answer.error for answer in answers] == errors
    assert answers[0] == answers[4]
    with pytest.raises(UserError, match="takes no uint8 pixels"):
        load_classifier(tmp_path).predict(np.zeros((2, 2, 3), np.uint8))


def test_a_file_that_hides_work_is_not_decoded(classifier, pictures):
    hostile = jpeg_of_scans((64, 48), scan(3, 0, 0), scan() * 99, END)
    refused, answered = classifier.predict([hostile, pictures[0]])
    assert refused.error == "too large: more than 64 scans"
    assert answered.error is None
