"""Copies: found in any split and after any change, and other pictures are none."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
from PIL import Image, ImageEnhance, ImageOps

from kcnn.data.scan import copies
from kcnn.data.scan.scan import judge_images
from tests.data.scan.scan_pictures import encode, facts_of, findings_of, picture, turned


def halved(image):
    return image.resize((image.width // 2, image.height // 2))


def cropped(left, top, right, bottom):
    """Return a function that crops an image by these parts of its width and height."""
    return lambda image: image.crop(
        tuple(round(side * part) for side, part in zip(image.size * 2, (left, top, 1 - right, 1 - bottom), strict=True))
    )


CHANGES = {
    "re-encoded": (lambda image: image, {"quality": 50}),
    "halved": (halved, {}),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.1), {}),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.9), {}),
    "mirrored": (ImageOps.mirror, {}),
    "cropped": (cropped(0.025, 0.025, 0.025, 0.025), {}),
    "cropped much": (cropped(0.08, 0.08, 0.08, 0.08), {}),
    "cropped left": (cropped(0.1, 0, 0, 0), {}),
    "cropped at a corner": (cropped(0, 0, 0.07, 0.05), {}),
    "framed": (lambda image: ImageOps.expand(image, 6), {}),
    "upside down": (ImageOps.flip, {}),
    "turned by a quarter": (lambda image: image.transpose(Image.Transpose.ROTATE_90), {}),
    "turned by a half": (lambda image: image.transpose(Image.Transpose.ROTATE_180), {}),
    "turned by three quarters": (lambda image: image.transpose(Image.Transpose.ROTATE_270), {}),
    "turned and cropped": (lambda image: cropped(0.03, 0, 0.05, 0)(image.transpose(Image.Transpose.ROTATE_90)), {}),
}

HOW = {"mirrored": "mirrored"} | {name: "turned" for name in CHANGES if "turned" in name or "upside" in name}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_other_pictures_are_not(ordinary, change):
    function, options = CHANGES[change]
    changed = facts_of({f"{seed}.copy.jpg": (encode(function(picture(seed)), **options), "JPEG") for seed in range(30)})
    result = judge_images(ordinary + [dataclasses.replace(copy, split="test") for copy in changed])
    leaks = [finding for finding in result.findings if finding.finding == "leak"]
    assert leaks == list(result.findings)
    assert len(leaks) >= 27
    for finding in leaks:
        one, other = finding.filenames
        assert other == one.replace(".jpg", ".copy.jpg")
        assert finding.splits == ("train", "test")
        assert finding.how == HOW.get(change, "alike")
        assert finding.threshold <= finding.value <= 1


def test_a_turned_copy_is_found_upright(ordinary):
    (one,) = facts_of({"copy.jpg": (turned(picture(5)), "JPEG")})
    assert findings_of(judge_images([*ordinary, one]))["duplicate"] == {"5.jpg", "copy.jpg"}


def test_where_copies_are_decides_what_they_are_called(ordinary):
    def copy(index, name, split, label):
        return dataclasses.replace(ordinary[index], filename=name, split=split, label=label)

    planted = [
        copy(0, "a.jpg", "train", "cat"),
        copy(1, "b.jpg", "train", "dog"),
        copy(2, "c.jpg", "val", "cat"),
        copy(3, "d.jpg", "test", "dog"),
        copy(3, "e.jpg", "train", "cat"),
        *facts_of({"f.jpg": (encode(picture(3), quality=50), "JPEG")}, "val"),
    ]
    result = judge_images(ordinary + planted)
    assert {finding.how for finding in result.findings} == {"identical"}
    groups = [(finding.finding, finding.filenames) for finding in result.findings]
    assert groups == [
        ("leak", ("3.jpg", "d.jpg", "e.jpg", "f.jpg")),  # train and test before train and val
        ("leak", ("2.jpg", "c.jpg")),
        ("contradiction", ("3.jpg", "d.jpg", "e.jpg", "f.jpg")),
        ("contradiction", ("1.jpg", "b.jpg")),
        ("duplicate", ("0.jpg", "a.jpg")),
    ]
    assert result.findings[0].splits == ("train", "test", "train", "val")
    assert result.findings[0].labels == ("cat", "dog", "cat", "cat")


def test_equal_files_below_different_ones_are_no_copies():
    rng = np.random.default_rng(0)
    plain = [Image.new("RGB", (60, 60), tuple(colour)) for colour in rng.integers(0, 256, (20, 3)).tolist()]
    skies = [Image.fromarray(np.tile(np.linspace(top, 250, 60)[:, None, None], (1, 60, 3)).astype(np.uint8))
             for top in range(40, 200, 8)]  # fmt: skip
    for index, sky in enumerate(skies):  # the same plain ground with another object in each
        sky.paste(picture(index).resize((24, 24)), (rng.integers(0, 36), rng.integers(0, 36)))
    files = {f"{kind}{i}.png": (encode(image, "PNG"), "PNG") for kind, images in (("plain", plain), ("sky", skies))
             for i, image in enumerate(images)}  # fmt: skip
    assert set(findings_of(judge_images(facts_of(files)))) <= {"blank", "bright", "dark"}


def test_pictures_of_one_kind_are_no_copies():
    digits = pytest.importorskip("sklearn.datasets").load_digits().images[:600]
    images = [Image.fromarray((digit * 255 / 16).astype(np.uint8)) for digit in digits]
    result = judge_images(facts_of({f"{i}.png": (encode(image, "PNG"), "PNG") for i, image in enumerate(images)}))
    assert result.usual == {"tiny": 600}
    assert len(result.findings) <= 3


def test_small_things_in_the_sky_are_no_copies_for_fitting_somehow():
    rng = np.random.default_rng(0)
    thumbnails = []
    for seed in range(200):
        sky = Image.new("L", (64, 64), 220)
        thing = picture(seed, (6, 6)).convert("L").point(lambda value: value // 2)
        sky.paste(thing, tuple(rng.integers(8, 50, 2).tolist()))
        thumbnails.append(np.asarray(sky.resize((16, 16))))
    _, _, thresholds, _ = copies.find_copies(np.stack(thumbnails))
    assert (thresholds > copies.ALIKE).sum() < 20  # of 20,000 pairs


def test_pairs_are_those_of_an_exhaustive_search():
    rng = np.random.default_rng(0)
    base = np.stack([np.asarray(picture(seed).convert("L").resize((16, 16))) for seed in range(400)])
    changed = (base[:100] * 0.9 + rng.normal(0, 2, (100, 16, 16))).clip(0, 255).astype(np.uint8)
    thumbnails = np.concatenate([base, changed[:40], changed[40:70, :, ::-1], changed[70:].swapaxes(1, 2)])
    pairs, scores, thresholds, turns = copies.find_copies(thumbnails)

    def unit(images):
        gradients = np.stack([np.diff(images[:, :, :-1], axis=1), np.diff(images[:, :-1], axis=2)], axis=1)
        flat = gradients.reshape(len(images), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    exact = thumbnails.astype(float)
    turned = [exact, exact[:, ::-1], exact.swapaxes(1, 2), exact[:, ::-1].swapaxes(1, 2)]
    turned += [images[:, :, ::-1] for images in turned]
    best = np.max([unit(exact) @ unit(images).T for images in turned], axis=0)
    expected = np.argwhere(np.triu(best >= copies.ALIKE, 1))
    assert expected.tolist() == pairs.tolist() == [[i, 400 + i] for i in range(100)]
    assert (scores[:70] >= best[tuple(pairs.T)][:70].round(3)).all()
    assert (scores >= thresholds).all()
    assert turns.tolist() == [0] * 40 + [1] * 30 + [4] * 30


def test_many_copies_of_one_picture_are_not_all_compared_and_yet_one_group():
    thumbnail = np.asarray(picture(0).convert("L").resize((16, 16)))
    noise = np.random.default_rng(0).normal(0, 1, (300, 16, 16))
    noisy = (thumbnail + noise).clip(0, 255).astype(np.uint8)
    others = [np.asarray(picture(seed).convert("L").resize((16, 16))) for seed in range(1, 400)]
    pairs, *_ = copies.find_copies(np.stack([*noisy, *others]))
    assert len(pairs) < 300 * 299 / 2
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(300, 300))
    assert scipy.sparse.csgraph.connected_components(graph, directed=False)[0] == 1
