"""The scan: every defect planted in a folder is found in its file alone."""

import collections
import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFilter

from kcnn.data.examples import Example
from kcnn.data.records import SPLITS
from kcnn.data.scan.checks import CHECKS
from kcnn.data.scan.findings import Scan, scan_warnings
from kcnn.data.scan.scan import judge_images, scan_shards
from kcnn.errors import UserError
from tests.data.input_pipeline.image_files import png
from tests.data.scan.scan_pictures import encode, facts_of, findings_of, picture, turned
from tests.shards import write


def translucent(image, alpha):
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return encode(image, "PNG")


def defects():
    """Return name → bytes, format, and the finding; None for a file in order."""
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
        "png.jpg": (encode(photo[2], "PNG"), "PNG", "wrong_extension"),
        "jpeg.PNG": (encode(photo[3]), "JPEG", "wrong_extension"),
        "good.JPEG": (encode(photo[4]), "JPEG", None),
        "no_extension": (encode(photo[5], "PNG"), "PNG", None),
        "film.gif": (encode(film[0], "GIF", save_all=True, append_images=film[1:]), "GIF", "animated"),
        "film.webp": (encode(photo[6], "WEBP", save_all=True, append_images=film), "WEBP", "animated"),
        "film.png": (encode(photo[7], "PNG", save_all=True, append_images=film), "PNG", "animated"),
        "still.gif": (encode(photo[8], "GIF"), "GIF", None),
        "two.jpg": (encode(photo[9], "MPO", save_all=True, append_images=film), "JPEG", None),
        "cmyk.jpg": (encode(photo[10].convert("CMYK")), "JPEG", "odd_mode"),
        "alpha.png": (translucent(photo[11], half), "PNG", "transparent"),
        "opaque.png": (translucent(photo[12], 255), "PNG", None),
        "palette.png": (encode(photo[13].convert("P"), "PNG"), "PNG", None),
        "palette_alpha.png": (encode(palette, "PNG", transparency=palette.getpixel((0, 0))), "PNG", "transparent"),
        "sixteen.png": (encode(Image.fromarray(sixteen), "PNG"), "PNG", "odd_mode"),
        "grey.jpg": (encode(photo[15].convert("L")), "JPEG", "odd_mode"),
        "turned.jpg": (turned(photo[16]), "JPEG", "exif_rotated"),
        "wide.jpg": (encode(picture(2000, (400, 100))), "JPEG", "extreme_aspect"),
        "high.jpg": (encode(picture(2001, (100, 310))), "JPEG", "extreme_aspect"),
        "panorama.jpg": (encode(picture(2002, (280, 100))), "JPEG", None),
        "tiny.png": (encode(picture(2003, (40, 31)), "PNG"), "PNG", "tiny"),
        "small.png": (encode(picture(2004, (40, 32)), "PNG"), "PNG", None),
        "black.png": (encode(Image.new("RGB", (90, 60)), "PNG"), "PNG", "blank"),
        "paper.jpg": (
            encode(paper),
            "JPEG",
            "blank",
        ),
        "dark.jpg": (encode(photo[19].point(lambda value: value // 6)), "JPEG", "dark"),
        "night.jpg": (encode(night), "JPEG", None),
        "bright.jpg": (encode(photo[20].point(lambda value: 230 + value // 12)), "JPEG", "bright"),
        "sheet.jpg": (encode(sheet), "JPEG", None),
        "blurry.jpg": (encode(photo[21].filter(ImageFilter.GaussianBlur(4))), "JPEG", "blurry"),
    }


def test_each_defect_is_found_under_its_name_and_nothing_else_is(ordinary):
    planted = defects()
    files = {name: (data, format) for name, (data, format, _) in planted.items()}
    result = judge_images(ordinary + facts_of(files))
    expected = collections.defaultdict(set)
    for name, (_, _, finding) in planted.items():
        if finding:
            expected[finding].add(name)
    assert findings_of(result) == expected
    assert not result.usual
    values = {finding.filenames[0]: (finding.value, finding.threshold) for finding in result.findings}
    assert values["png.jpg"] == ("PNG", "JPEG")
    assert values["film.webp"] == (3, 1)
    assert values["turned.jpg"] == (6, 1)
    assert values["wide.jpg"] == (4.0, 3.0)
    assert values["tiny.png"] == (31, 32)
    assert values["alpha.png"] == (pytest.approx(1, abs=0.02), 0.0)
    assert values["sixteen.png"][0] == "16-bit"


def test_what_is_worst_comes_first(ordinary):
    files = {f"{side}.png": (encode(picture(500 + side, (side, side)), "PNG"), "PNG") for side in (20, 9, 31, 14)}
    result = judge_images(ordinary + facts_of(files))
    assert [finding.value for finding in result.findings] == [9, 14, 20, 31]


def test_soft_pictures_among_their_like_raise_no_alarm(ordinary):
    soft = [picture(seed).filter(ImageFilter.GaussianBlur(3)) for seed in range(60)]
    result = judge_images(facts_of({f"{index}.jpg": (encode(image), "JPEG") for index, image in enumerate(soft)}))
    assert not result.findings
    one = facts_of({"soft.jpg": (encode(soft[0].filter(ImageFilter.GaussianBlur(1))), "JPEG")})
    assert findings_of(judge_images(ordinary[1:] + one)) == {"blurry": {"soft.jpg"}}


def test_what_most_images_show_is_usual():
    files = {f"{seed}.png": (encode(picture(seed, (16, 16)), "PNG"), "PNG") for seed in range(30)}
    result = judge_images(facts_of(files))
    assert (result.images, result.usual, result.findings) == (30, {"tiny": 30}, ())


def icon(seed, shade):
    """Return a PNG whose shape is in the alpha channel alone."""
    shape = picture(seed).convert("L").point(lambda value: 255 * (value > 120))
    return translucent(Image.new("RGB", shape.size, (shade,) * 3), shape)


def test_a_shape_in_the_alpha_channel_is_seen_on_white_and_that_is_told_once():
    files = {f"{seed}.png": (icon(seed, 0), "PNG") for seed in range(30)}
    result = judge_images(facts_of(files))
    assert (result.usual, result.findings) == ({"transparent": 30}, ())
    assert scan_warnings(result, "page") == ["Transparent, shown on white: 30 of 30 images"]
    (fact,) = facts_of({"icon.png": (icon(3, 0), "PNG")})
    assert fact.deviation > 100
    assert 0.2 < fact.transparent < 0.8


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("blank", lambda seed: icon(seed, 255)),  # white on white
        ("blank", lambda seed: encode(Image.new("RGB", (90, 60), (seed, 9, 9)), "PNG")),
        ("damaged", lambda seed: encode(picture(seed), "PNG")[:-500]),
        ("dark", lambda seed: encode(picture(seed).point(lambda value: value // 6), "PNG")),
        ("narrow_range", lambda seed: encode(sixteen_bits(seed, 4095), "PNG")),
        ("narrow_range", lambda seed: encode(sixteen_bits(seed, 1023), "PNG")),
        ("narrow_range", lambda seed: encode(sixteen_bits(seed, 4095, 40_000), "PNG")),
    ],
)
def test_what_leaves_nothing_to_learn_is_never_usual(name, draw):
    result = judge_images(facts_of({f"{seed}.png": (draw(seed), "PNG") for seed in range(30)}))
    assert name not in result.usual
    assert len(findings_of(result)[name]) == 30
    title = {check.name: check.title for check in CHECKS}[name]
    assert f"{title}: 30 images, see page#{name}" in scan_warnings(result, "page")


def sixteen_bits(seed, greatest, least=0):
    """Return a grey picture of 16 bits, from `least` to the sum of both."""
    grey = np.asarray(picture(seed).convert("L")).astype(float)
    grey = (grey - grey.min()) / np.ptp(grey)
    return Image.fromarray((least + greatest * grey).astype(np.uint16))


@pytest.mark.parametrize(("greatest", "bits"), [(255, 8), (4095, 12), (4096, 13), (65535, 16)])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_the_bits_that_the_range_of_16_takes(greatest, bits, colour, alpha):
    grey = np.asarray(sixteen_bits(1, greatest))
    channels = [grey] * (3 if colour else 1) + [np.full_like(grey, 65535)] * alpha
    samples = np.dstack(channels).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    data = png(2 * colour + 4 * alpha, 16, grey.shape[::-1], rows)
    (fact,) = facts_of({"16.png": (data, "PNG")})
    assert (fact.mode, fact.bits, fact.transparent) == ("16-bit", bits, 0)


def test_greyscale_is_odd_only_among_colour():
    grey = {f"{seed}.jpg": (encode(picture(seed).convert("L")), "JPEG") for seed in range(30)}
    assert not judge_images(facts_of(grey)).findings
    colour = {"colour.jpg": (encode(picture(100)), "JPEG")}
    assert findings_of(judge_images(facts_of(grey | colour))) == {"odd_mode": {"colour.jpg"}}


def test_what_pillow_cannot_read_is_damaged(ordinary):
    broken = {"broken.png": (encode(picture(99), "PNG")[:-500], "PNG")}
    (finding,) = judge_images(ordinary + facts_of(broken)).findings
    assert (finding.finding, finding.filenames) == ("damaged", ("broken.png",))
    assert finding.value


def test_a_malformed_exif_is_as_none(ordinary):
    data = encode(picture(99), exif=b"Exif\0\0rubbish that is no TIFF")
    assert not judge_images(ordinary + facts_of({"99.jpg": (data, "JPEG")})).findings


def test_the_same_findings_for_any_order_and_any_shards(tmp_path):
    planted = defects()
    rows = [(name, data, format) for name, (data, format, _) in planted.items()]
    rows += [(f"{seed}.jpg", encode(picture(seed)), "JPEG") for seed in range(20)]
    rows += [(f"{seed}.copy.jpg", encode(picture(seed), quality=50), "JPEG") for seed in range(6)]
    results, in_one = [], {}
    for run in range(2):
        random.Random(run).shuffle(rows)
        items = {split: [] for split in SPLITS}
        for name, data, format in rows:
            items[SPLITS[len(name) % 3]].append(Example(data, name, 0, "cat", format, 0, 0, ""))
        shards = {split: write(tmp_path / str(run), split, items[split], run + 1) for split in SPLITS}
        in_one = in_one or shards
        results.append(scan_shards(shards))
    assert results[0] == results[1]
    assert results[0] == scan_shards(dict(reversed(in_one.items())))
    assert findings_of(results[0])["leak"]


def test_a_worker_loads_no_tensorflow():
    code = "import sys, kcnn.data.scan.scan, kcnn.data.scan.page; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_images():
    assert scan_shards({"train": []}) == Scan(0, (), {})


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "data_tfrecord-00000-of-00001.gz").write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"data_tfrecord-00000-of-00001\.gz: damaged examples"):
        scan_shards({"train": [str(tmp_path / "data_tfrecord-00000-of-00001.gz")]})
