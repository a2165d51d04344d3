"""The scan: every defect planted in a folder is found in its file alone, and copies wherever and however they are."""

import collections
import dataclasses
import hashlib
import io
import random
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.sparse
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from kcnn.data import examples
from kcnn.data.ingestion.summary import Summary
from kcnn.data.scan import copies, scan
from kcnn.data.scan import page as report
from kcnn.data.scan.looks import look
from kcnn.data.validation.statistics import collect, to_proto
from kcnn.errors import UserError
from tests.shards import write

SPLITS = ("train", "val", "test")


def picture(seed, size=(160, 120)):
    """Sharp-edged shapes in many colours, like no other seed's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 220, (7, 9, 3), np.uint8)).resize(size, Image.Resampling.NEAREST)
    noise = rng.normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def encoded(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def example(name, data, label="cat", format="JPEG"):
    digest = hashlib.sha256(data).hexdigest()
    return examples.encode_example(examples.Example(data, name, 0, label, format, 0, 0, digest))


def looks(files, split="train"):
    """Of name → (bytes, format)."""
    return [
        dataclasses.replace(look(example(name, data, format=format)), split=split)
        for name, (data, format) in files.items()
    ]


def found(result):
    """Finding → names."""
    by_name = collections.defaultdict(set)
    for finding in result.findings:
        by_name[finding.finding].update(finding.filenames)
    return by_name


@pytest.fixture(scope="module")
def ordinary():
    """The facts of sixty pictures with nothing wrong."""
    return looks({f"{seed}.jpg": (encoded(picture(seed)), "JPEG") for seed in range(60)})


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.rotate(90, expand=True), exif=exif)


def translucent(image, alpha):
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return encoded(image, "PNG")


def defects():
    """Name → bytes, content, the finding; None for what is in order."""
    photo = [picture(1000 + index) for index in range(40)]
    film = [photo[0], photo[1]]
    half = Image.linear_gradient("L").resize(photo[0].size)
    night = photo[17].point(lambda value: value // 20)
    night.paste((255, 250, 200), (70, 50, 100, 80))
    sheet = Image.new("RGB", (160, 120), "white")
    sheet.paste(photo[18].resize((60, 40)), (50, 40))
    palette = photo[14].convert("P")
    paper = Image.fromarray(np.random.default_rng(0).normal(240, 2, (60, 90)).astype(np.uint8)).convert("RGB")
    sixteen = np.random.default_rng(0).integers(0, 2**16, (40, 50), np.uint16)
    return {
        "png.jpg": (encoded(photo[2], "PNG"), "PNG", "wrong_extension"),
        "jpeg.PNG": (encoded(photo[3]), "JPEG", "wrong_extension"),
        "good.JPEG": (encoded(photo[4]), "JPEG", None),
        "no_extension": (encoded(photo[5], "PNG"), "PNG", None),
        "film.gif": (encoded(film[0], "GIF", save_all=True, append_images=film[1:]), "GIF", "animated"),
        "film.webp": (encoded(photo[6], "WEBP", save_all=True, append_images=film), "WEBP", "animated"),
        "film.png": (encoded(photo[7], "PNG", save_all=True, append_images=film), "PNG", "animated"),
        "still.gif": (encoded(photo[8], "GIF"), "GIF", None),
        "two.jpg": (encoded(photo[9], "MPO", save_all=True, append_images=film), "JPEG", None),
        "cmyk.jpg": (encoded(photo[10].convert("CMYK")), "JPEG", "odd_mode"),
        "alpha.png": (translucent(photo[11], half), "PNG", "odd_mode"),
        "opaque.png": (translucent(photo[12], 255), "PNG", None),
        "palette.png": (encoded(photo[13].convert("P"), "PNG"), "PNG", None),
        "palette_alpha.png": (encoded(palette, "PNG", transparency=palette.getpixel((0, 0))), "PNG", "odd_mode"),
        "sixteen.png": (encoded(Image.fromarray(sixteen), "PNG"), "PNG", "odd_mode"),
        "grey.jpg": (encoded(photo[15].convert("L")), "JPEG", "odd_mode"),
        "turned.jpg": (turned(photo[16]), "JPEG", "exif_rotated"),
        "wide.jpg": (encoded(picture(2000, (400, 100))), "JPEG", "extreme_aspect"),
        "high.jpg": (encoded(picture(2001, (100, 310))), "JPEG", "extreme_aspect"),
        "panorama.jpg": (encoded(picture(2002, (280, 100))), "JPEG", None),
        "tiny.png": (encoded(picture(2003, (40, 31)), "PNG"), "PNG", "tiny"),
        "small.png": (encoded(picture(2004, (40, 32)), "PNG"), "PNG", None),
        "black.png": (encoded(Image.new("RGB", (90, 60)), "PNG"), "PNG", "blank"),
        "paper.jpg": (
            encoded(paper),
            "JPEG",
            "blank",
        ),
        "dark.jpg": (encoded(photo[19].point(lambda value: value // 6)), "JPEG", "dark"),
        "night.jpg": (encoded(night), "JPEG", None),
        "bright.jpg": (encoded(photo[20].point(lambda value: 230 + value // 12)), "JPEG", "bright"),
        "sheet.jpg": (encoded(sheet), "JPEG", None),
        "blurry.jpg": (encoded(photo[21].filter(ImageFilter.GaussianBlur(4))), "JPEG", "blurry"),
    }


def test_each_defect_is_found_under_its_name_and_nothing_else_is(ordinary):
    planted = defects()
    files = {name: (data, format) for name, (data, format, _) in planted.items()}
    result = scan.judge(ordinary + looks(files))
    expected = collections.defaultdict(set)
    for name, (_, _, finding) in planted.items():
        if finding:
            expected[finding].add(name)
    assert found(result) == expected
    assert not result.usual
    values = {finding.filenames[0]: (finding.value, finding.threshold) for finding in result.findings}
    assert values["png.jpg"] == ("PNG", "JPEG")
    assert values["film.webp"] == (3, 1)
    assert values["turned.jpg"] == (6, 1)
    assert values["wide.jpg"] == (4.0, 3.0)
    assert values["tiny.png"] == (31, 32)
    assert values["alpha.png"] == ("transparent", "colour")
    assert values["sixteen.png"][0] == "16-bit"


def test_what_is_worst_comes_first(ordinary):
    files = {f"{side}.png": (encoded(picture(500 + side, (side, side)), "PNG"), "PNG") for side in (20, 9, 31, 14)}
    result = scan.judge(ordinary + looks(files))
    assert [finding.value for finding in result.findings] == [9, 14, 20, 31]


def test_soft_pictures_among_their_like_raise_no_alarm(ordinary):
    soft = [picture(seed).filter(ImageFilter.GaussianBlur(3)) for seed in range(60)]
    result = scan.judge(looks({f"{index}.jpg": (encoded(image), "JPEG") for index, image in enumerate(soft)}))
    assert not result.findings
    one = looks({"soft.jpg": (encoded(soft[0].filter(ImageFilter.GaussianBlur(1))), "JPEG")})
    assert found(scan.judge(ordinary[1:] + one)) == {"blurry": {"soft.jpg"}}


def test_what_most_images_show_is_usual():
    files = {f"{seed}.png": (encoded(picture(seed, (16, 16)), "PNG"), "PNG") for seed in range(30)}
    result = scan.judge(looks(files))
    assert (result.images, result.usual, result.findings) == (30, {"tiny": 30}, ())


def test_greyscale_is_odd_only_among_colour():
    grey = {f"{seed}.jpg": (encoded(picture(seed).convert("L")), "JPEG") for seed in range(30)}
    assert not scan.judge(looks(grey)).findings
    colour = {"colour.jpg": (encoded(picture(100)), "JPEG")}
    assert found(scan.judge(looks(grey | colour))) == {"odd_mode": {"colour.jpg"}}


def test_what_pillow_cannot_read_is_damaged(ordinary):
    broken = {"broken.png": (encoded(picture(99), "PNG")[:-500], "PNG")}
    (finding,) = scan.judge(ordinary + looks(broken)).findings
    assert (finding.finding, finding.filenames) == ("damaged", ("broken.png",))
    assert finding.value


def test_a_malformed_exif_is_as_none(ordinary):
    data = encoded(picture(99), exif=b"Exif\0\0rubbish that is no TIFF")
    assert not scan.judge(ordinary + looks({"99.jpg": (data, "JPEG")})).findings


def halved(image):
    return image.resize((image.width // 2, image.height // 2))


def cropped(left, top, right, bottom):
    """By these parts of its width and height."""
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
    changed = looks({f"{seed}.copy.jpg": (encoded(function(picture(seed)), **options), "JPEG") for seed in range(30)})
    result = scan.judge(ordinary + [dataclasses.replace(copy, split="test") for copy in changed])
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
    (one,) = looks({"copy.jpg": (turned(picture(5)), "JPEG")})
    assert found(scan.judge([*ordinary, one]))["duplicate"] == {"5.jpg", "copy.jpg"}


def test_where_copies_are_decides_what_they_are_called(ordinary):
    def copy(index, name, split, label):
        return dataclasses.replace(ordinary[index], filename=name, split=split, label=label)

    planted = [
        copy(0, "a.jpg", "train", "cat"),
        copy(1, "b.jpg", "train", "dog"),
        copy(2, "c.jpg", "val", "cat"),
        copy(3, "d.jpg", "test", "dog"),
        copy(3, "e.jpg", "train", "cat"),
        *looks({"f.jpg": (encoded(picture(3), quality=50), "JPEG")}, "val"),
    ]
    result = scan.judge(ordinary + planted)
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
    for index, sky in enumerate(skies):  # the same plain ground, each with a thing of its own in it
        sky.paste(picture(index).resize((24, 24)), (rng.integers(0, 36), rng.integers(0, 36)))
    files = {f"{kind}{i}.png": (encoded(image, "PNG"), "PNG") for kind, images in (("plain", plain), ("sky", skies))
             for i, image in enumerate(images)}  # fmt: skip
    assert set(found(scan.judge(looks(files)))) <= {"blank", "bright", "dark"}


def test_pictures_of_one_kind_are_no_copies():
    digits = pytest.importorskip("sklearn.datasets").load_digits().images[:600]
    images = [Image.fromarray((digit * 255 / 16).astype(np.uint8)) for digit in digits]
    result = scan.judge(looks({f"{i}.png": (encoded(image, "PNG"), "PNG") for i, image in enumerate(images)}))
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
    _, _, thresholds, _ = copies.near(np.stack(thumbnails))
    assert (thresholds > copies.ALIKE).sum() < 20  # of 20,000 pairs


def test_pairs_are_those_of_an_exhaustive_search():
    rng = np.random.default_rng(0)
    base = np.stack([np.asarray(picture(seed).convert("L").resize((16, 16))) for seed in range(400)])
    changed = (base[:100] * 0.9 + rng.normal(0, 2, (100, 16, 16))).clip(0, 255).astype(np.uint8)
    thumbnails = np.concatenate([base, changed[:40], changed[40:70, :, ::-1], changed[70:].swapaxes(1, 2)])
    pairs, scores, thresholds, turns = copies.near(thumbnails)

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
    pairs, *_ = copies.near(np.stack([*noisy, *others]))
    assert len(pairs) < 300 * 299 / 2
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(300, 300))
    assert scipy.sparse.csgraph.connected_components(graph, directed=False)[0] == 1


def test_the_same_findings_for_any_order_and_any_shards(tmp_path):
    planted = defects()
    rows = [(name, data, format) for name, (data, format, _) in planted.items()]
    rows += [(f"{seed}.jpg", encoded(picture(seed)), "JPEG") for seed in range(20)]
    rows += [(f"{seed}.copy.jpg", encoded(picture(seed), quality=50), "JPEG") for seed in range(6)]
    results, in_one = [], {}
    for run in range(2):
        random.Random(run).shuffle(rows)
        items = {split: [] for split in SPLITS}
        for name, data, format in rows:
            items[SPLITS[len(name) % 3]].append(examples.Example(data, name, 0, "cat", format, 0, 0, ""))
        shards = {split: write(tmp_path / str(run), split, items[split], run + 1) for split in SPLITS}
        in_one = in_one or shards
        results.append(scan.scan(shards))
    assert results[0] == results[1]
    assert results[0] == scan.scan(dict(reversed(in_one.items())))
    assert found(results[0])["leak"]


def test_a_worker_loads_no_tensorflow():
    code = "import sys, kcnn.data.scan.scan, kcnn.data.scan.page; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_images():
    assert scan.scan({"train": []}) == scan.Scan(0, (), {})


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "data_tfrecord-00000-of-00001.gz").write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"data_tfrecord-00000-of-00001\.gz: damaged examples"):
        scan.scan({"train": [str(tmp_path / "data_tfrecord-00000-of-00001.gz")]})


class Page(HTMLParser):
    """What a browser makes of it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.links, self.ids = collections.Counter(), [], set(), set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        attributes = dict(attrs)
        assert not [name for name in attributes if name.startswith("on")]
        self.links |= {attributes[name] for name in ("href", "src") if name in attributes}
        self.ids |= {attributes["id"]} if "id" in attributes else set()

    def handle_data(self, data):
        self.text.append(data)


EVIL = ["<script>alert(1)<b>.jpg", "'\"><img src=x onerror=alert(1)>.jpg", "&lt;i&gt;.jpg", "b\udcff.jpg"]


def test_names_do_nothing_on_the_page(tmp_path):
    label = "<b onclick='x'>cat</b>"
    rows = [
        examples.Example(encoded(picture(50 + i, (20, 20)), "PNG"), name, 0, label, "PNG", 20, 20, f"{i:064x}")
        for i, name in enumerate(EVIL)
    ]
    rows.append(examples.Example(encoded(picture(3)), "copy.jpg", 0, label, "JPEG", 120, 160, f"{103:064x}"))
    others = [
        examples.Example(encoded(picture(i)), f"{i}.jpg", 0, "dog", "JPEG", 120, 160, f"{i + 100:064x}")
        for i in range(10)
    ]
    placed = {"train": rows, "test": others}
    shards = {split: write(tmp_path, split, some) for split, some in placed.items()}
    result = scan.scan(shards)
    paths = [path for group in shards.values() for path in group]
    pictures = report.thumbnails(paths, report.shown(result))
    assert pictures.keys() == {*EVIL, "copy.jpg", "3.jpg"}
    for data in pictures.values():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, max(image.size) <= 96) == ("WEBP", True)
    counts = {"train": {label: 5, "dog": 0}, "test": {label: 0, "dog": 10}}
    summary = Summary((label, "dog"), counts, {EVIL[0]: "<i>none</i>"}, (), 1, 1, True)
    parts = {
        split: to_proto(collect(map(examples.encode_example, some)), split).datasets[0]
        for split, some in placed.items()
    }
    html = report.page("<title>", summary, parts, [f"train: {EVIL[1]}"], result, pictures)
    assert html == report.page("<title>", summary, parts, [f"train: {EVIL[1]}"], result, pictures)
    html.encode()
    page = Page(html)
    assert not {"script", "i", "iframe", "link"} & set(page.tags)
    assert page.tags["img"] == page.tags["figure"] == 4 + 4 + 2 + 2  # tiny, wrong extension, leak, contradiction
    text = "".join(page.text)
    for name in [*EVIL[:3], label, "b\\udcff.jpg", "<i>none</i>"]:
        assert name in text
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} == page.ids
    assert not re.search(r"https?:", html)


def test_a_sheet_has_so_many_pictures_and_says_of_how_many():
    images = {f"{seed:03}.png": (encoded(picture(seed, (16, 16)), "PNG"), "PNG") for seed in range(60)}
    many = {f"big{seed}.jpg": (encoded(picture(seed)), "JPEG") for seed in range(100, 170)}
    result = scan.judge(looks(images | many))
    assert len(report.shown(result)) == report.PICTURES == 48
