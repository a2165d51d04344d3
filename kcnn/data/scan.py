"""What hurts image classifiers, found image by image: odd and poor pictures, and copies within and across the splits.

A shard is reduced to the facts of its images, under 2 kB each; findings follow from all facts together, and are the
same however the images are spread over shards. What cannot be decoded at all was excluded when the examples were made.
"""

import dataclasses
import hashlib
import io
import operator
import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kcnn.data import copies
from kcnn.data.records import Example, map_shards
from kcnn.data.statistics import luminance

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large photos are no attack

USUAL = 0.5  # what more than this share of the images shows is the data set's nature and nobody's finding
_SHARPNESS_SIDE = 256  # sharpness is that of the image shrunk to fit this square; half of it misses slight blurs
_RARE = 0.1  # greyscale is odd below this share of the images; so is colour
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif"),
    "AVIF": (".avif",),
}
_FORMATS = {extension: name for name, extensions in _EXTENSIONS.items() for extension in extensions}
_ORIENTATION_TAG = 0x0112  # Exif 2.32, section 4.6.5
_Transpose = Image.Transpose
_UPRIGHT = {
    2: _Transpose.FLIP_LEFT_RIGHT,
    3: _Transpose.ROTATE_180,
    4: _Transpose.FLIP_TOP_BOTTOM,
    5: _Transpose.TRANSPOSE,
    6: _Transpose.ROTATE_270,
    7: _Transpose.TRANSVERSE,
    8: _Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """The facts of one image.

    Attributes:
        filename: as in the examples, unique in the data set.
        label: the class name.
        digest: SHA-256 of the file.
        format: "JPEG", "PNG", ..., from the content.
        damage: why Pillow cannot read what TensorFlow could; then all below is empty.
        width: of the stored pixels.
        height: likewise.
        mode: "colour", "greyscale", "transparent" (some pixel is), "CMYK" or "16-bit".
        frames: of an animation; 1 for all else.
        orientation: EXIF's, 1 to 8.
        deviation: standard deviation of the luminance, the image shrunk to fit 256x256; 0 to 255.
        low: 1st percentile of the same.
        high: 99th percentile of the same.
        sharpness: mean square of its Laplacian over that of its gradient, whatever the contrast: 5 for noise, about 3
            for a photo, 0.3 for one blurred by 3 pixels of 500; None where there are no edges.
        thumbnail: 16x16 bytes of luminance, upright.
        split: "train", "val" or "test".
    """

    filename: str
    label: str
    digest: bytes
    format: str
    damage: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    frames: int = 1
    orientation: int = 1
    deviation: float = 0.0
    low: int = 0
    high: int = 0
    sharpness: float | None = None
    thumbnail: bytes = b""
    split: str = ""


def look(serialized: bytes) -> Look:
    """The facts of the image in a tf.Example, but for its split."""
    features = Example.FromString(serialized).features.feature

    def text(name: str) -> str:
        return b"".join(features[name].bytes_list.value[:1]).decode("utf-8", "surrogateescape")

    encoded = b"".join(features["image/encoded"].bytes_list.value[:1])
    facts = Look(
        text("image/filename"), text("image/class/text"), hashlib.sha256(encoded).digest(), text("image/format")
    )
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return dataclasses.replace(facts, **_pixels(image, encoded))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return dataclasses.replace(facts, damage=str(error).partition("<")[0].strip() or type(error).__name__)


def _pixels(image: Image.Image, encoded: bytes) -> dict[str, Any]:
    width, height = image.size
    frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP") else 1
    mode = _mode(image, encoded)
    orientation = _orientation(image)
    grey = luminance(image)
    if orientation in _UPRIGHT:
        grey = grey.transpose(_UPRIGHT[orientation])
    thumbnail = grey.resize((copies.SIDE, copies.SIDE), Image.Resampling.BILINEAR)
    grey.thumbnail((_SHARPNESS_SIDE, _SHARPNESS_SIDE), Image.Resampling.BOX)
    counts = np.array(grey.histogram())
    values, total = np.arange(256), counts.sum()
    mean = counts @ values / total
    low, high = np.searchsorted(np.cumsum(counts), [0.01 * total, 0.99 * total])
    return {
        "width": width,
        "height": height,
        "mode": mode,
        "frames": frames,
        "orientation": orientation,
        "deviation": round(float(np.sqrt(counts @ (values - mean) ** 2 / total)), 3),
        "low": int(low),
        "high": int(high),
        "sharpness": _sharpness(np.asarray(grey).astype(np.int32)),
        "thumbnail": thumbnail.tobytes(),
    }


def _mode(image: Image.Image, encoded: bytes) -> str:
    if encoded.startswith(b"\x89PNG") and encoded[24] == 16:  # the header's bit depth: Pillow hides that of colour
        return "16-bit"
    if image.mode == "CMYK":
        return "CMYK"
    if image.has_transparency_data and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
        return "transparent"
    return "greyscale" if image.mode in ("1", "L", "LA") else "colour"


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except (OSError, SyntaxError, ValueError, struct.error):  # malformed: as if there were none
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def _sharpness(pixels: np.ndarray) -> float | None:
    if min(pixels.shape) < 3:
        return None
    down, right = np.diff(pixels, axis=0), np.diff(pixels, axis=1)
    edges = (down**2).mean() + (right**2).mean()
    laplacian = np.diff(down, axis=0)[:, 1:-1] + np.diff(right, axis=1)[1:-1]
    return round(float((laplacian**2).mean() / edges), 4) if edges else None


def collect(records: Iterable[bytes]) -> list[Look]:
    """The facts of serialized tf.Examples."""
    return list(map(look, records))


@dataclasses.dataclass(frozen=True)
class Norms:
    """What is usual in a data set.

    Attributes:
        modes: those that are not odd.
        sharpness: below it, a picture is blurry.
    """

    modes: str
    sharpness: float

    @classmethod
    def of(cls, looks: Sequence[Look]) -> "Norms":
        """Of all images' facts."""
        count = Counter(one.mode for one in looks)
        colours = count["greyscale"] + count["colour"]
        modes = [mode for mode in ("colour", "greyscale") if count[mode] > _RARE * colours]
        logs = np.log([one.sharpness for one in looks if one.sharpness])
        if not logs.size:
            return cls(" or ".join(modes), 0.0)
        median = np.median(logs)
        deviation = max(_LEAST_DEVIATION, 1.4826 * float(np.median(np.abs(logs - median))))  # if normally distributed
        return cls(" or ".join(modes), round(min(_SOFT, float(np.exp(median - _DEVIATIONS * deviation))), 4))


_DEVIATIONS = 5.0  # of 250 photos the softest is 4.0 below the median; blurred by 2 pixels of 500, they are 9 below
_LEAST_DEVIATION = 0.15  # a factor of 2.1 below the median at least, where pictures are all alike
_SOFT = 1.0  # what is sharper is not blurry, were all the others drawings: the softest of 250 photos has 1.3

Value = float | str | None


@dataclasses.dataclass(frozen=True)
class Check:
    """What is looked for in each image.

    Attributes:
        name: of the finding.
        title: for people.
        value: what is measured; None where it does not apply.
        limit: what it is compared with.
        bad: of value and limit, whether the image has the finding.
        reason: why this matters, and why at this limit.
    """

    name: str
    title: str
    value: Callable[[Look], Value]
    limit: Callable[[Look, Norms], Value]
    bad: Callable[[Any, Any], bool]
    reason: str


BLANK = 3.0


def _unless_blank(value: Callable[[Look], Value]) -> Callable[[Look], Value]:
    return lambda one: None if one.deviation < BLANK else value(one)


def _constant(limit: Value) -> Callable[[Look, Norms], Value]:
    return lambda one, norms: limit


CHECKS = (
    Check(
        "damaged",
        "Damaged",
        lambda one: one.damage,
        _constant(""),
        operator.ne,
        "TensorFlow reads it, Pillow does not: part of the picture may be missing.",
    ),
    Check(
        "wrong_extension",
        "Wrong extension",
        lambda one: one.format,
        lambda one, norms: _FORMATS.get(PurePosixPath(one.filename).suffix.lower(), one.format),
        operator.ne,
        "The content is not what the name says; here the content decides, other programs may refuse or misread it.",
    ),
    Check(
        "animated",
        "Animated",
        lambda one: one.frames,
        _constant(1),
        operator.gt,
        "Only the first frame is used, which is often a title or empty.",
    ),
    Check(
        "odd_mode",
        "Odd mode",
        lambda one: one.mode or None,
        lambda one, norms: norms.modes,
        lambda value, limit: value not in limit,
        "Everything becomes 8-bit RGB: alpha is dropped and shows what it hid, CMYK changes colours, 16 bits lose the "
        f"lower 8. Greyscale among colour, or the reverse, in less than {_RARE:.0%} of the images, can be learned in "
        "the place of what is pictured.",
    ),
    Check(
        "exif_rotated",
        "Turned by EXIF",
        lambda one: one.orientation,
        _constant(1),
        operator.ne,
        "The pixels lie, and a tag says how to turn them; that is honoured here, other programs may show them lying.",
    ),
    Check(
        "extreme_aspect",
        "Extreme aspect",
        lambda one: round(max(one.width / one.height, one.height / one.width), 2) if one.height else None,
        _constant(3.0),
        operator.gt,
        "Of a picture three times as long as wide, the central square leaves a third at most.",
    ),
    Check(
        "tiny",
        "Tiny",
        lambda one: min(one.width, one.height) or None,
        _constant(32),
        operator.lt,
        "Pixels of the shorter side; under 32, most networks see an enlarged blur.",
    ),
    Check(
        "blank",
        "Blank",
        lambda one: None if one.damage else one.deviation,
        _constant(BLANK),
        operator.lt,
        "Standard deviation of the luminance (0 to 255); what is about 1% of the range is noise and compression.",
    ),
    Check(
        "dark",
        "Dark",
        _unless_blank(lambda one: one.high),
        _constant(64),
        operator.lt,
        "99% of the pixels are darker than the value, of 255: all but a few in the lowest quarter of the range. "
        "A night scene with lights is not.",
    ),
    Check(
        "bright",
        "Bright",
        _unless_blank(lambda one: one.low),
        _constant(224),
        operator.gt,
        "99% of the pixels are brighter than the value, of 255: all but a few in the highest eighth of the range. "
        "An object on white paper is not.",
    ),
    Check(
        "blurry",
        "Blurry",
        _unless_blank(lambda one: one.sharpness),
        lambda one, norms: norms.sharpness,
        operator.lt,
        f"Energy of the Laplacian over that of the gradient, more than {_DEVIATIONS:.0f} robust standard deviations "
        "(median and MAD of the logarithms) below the data set's own median, so that soft pictures among their like "
        "are none.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Copies:
    """A relation between copies of one picture.

    Attributes:
        name: of the finding.
        title: for people.
        reason: why it matters.
    """

    name: str
    title: str
    reason: str


COPIES = (
    Copies(
        "leak",
        "Leaks: one picture in several splits",
        "What was trained on is no test: the measured accuracy flatters.",
    ),
    Copies(
        "contradiction",
        "Contradictions: one picture under several labels",
        "One of the labels is wrong, or the picture shows both: no answer can be right for all.",
    ),
    Copies(
        "duplicate",
        "Duplicates: one picture several times in a split",
        "It counts several times in training, and in an evaluation as if it were several pieces of evidence.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found in an image, or among several.

    Attributes:
        finding: a name of `CHECKS` or `COPIES`; or "excluded", of a file that is not in the examples.
        filenames: one; or copies, of which the first two are the pair that shows the finding best.
        splits: of each; none of what is excluded.
        labels: likewise.
        value: what was measured; of copies, how their gradients correlate, 1.0 for equal files; why it is excluded.
        threshold: what it was compared with.
        how: of copies: "identical" (files), "alike" or "mirrored"; "" of one image.
    """

    finding: str
    filenames: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    value: float | str
    threshold: float | str
    how: str = ""


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        images: how many were looked at.
        findings: in the order of `COPIES` and `CHECKS`, the worst of each first; what is excluded comes last.
        usual: finding → images, of what more than `USUAL` of the images show; these are no findings.
    """

    images: int
    findings: tuple[Finding, ...]
    usual: Mapping[str, int]


def scan(
    shards: Mapping[str, Sequence[str]], total: int | None = None, excluded: Mapping[str, str] | None = None
) -> Scan:
    """Looks at every image once.

    Args:
        shards: split → its files.
        total: how many examples they hold, for the progress bar.
        excluded: filename → reason, of what could not become an example; repeated among the findings.

    Raises:
        UserError: a file is damaged.
    """
    parts = map_shards(collect, shards, total=total, description="Scanning images")
    found = judge(dataclasses.replace(one, split=split) for split, looks in parts for one in looks)
    more = (Finding("excluded", (name,), (), (), reason, "") for name, reason in sorted((excluded or {}).items()))
    return dataclasses.replace(found, findings=(*found.findings, *more))


def judge(looks: Iterable[Look]) -> Scan:
    """The findings in images whose facts these are, in any order."""
    ordered = sorted(looks, key=lambda one: (_ORDER.get(one.split, 3), one.split, one.filename))
    norms = Norms.of(ordered)
    findings, usual = list(groups(ordered)), {}
    for check in CHECKS:
        found = list(_check(check, ordered, norms))
        if len(found) > USUAL * len(ordered):
            usual[check.name] = len(found)
        else:
            findings += found
    return Scan(len(ordered), tuple(findings), usual)


_ORDER = {"train": 0, "val": 1, "test": 2}


def _check(check: Check, looks: Sequence[Look], norms: Norms) -> list[Finding]:
    found = []
    for one in looks:
        value, limit = check.value(one), check.limit(one, norms)
        if value is not None and limit is not None and check.bad(value, limit):
            found.append(Finding(check.name, (one.filename,), (one.split,), (one.label,), value, limit))
    if check.bad is operator.gt:
        found.sort(key=lambda finding: finding.value, reverse=True)
    elif check.bad is operator.lt:
        found.sort(key=lambda finding: finding.value)
    return found


def groups(looks: Sequence[Look]) -> Iterator[Finding]:
    """Groups of images that are copies of one another: leaks, contradictions and plain duplicates.

    Args:
        looks: of all images, in the order in which groups name theirs.
    """
    first: dict[bytes, int] = {}
    links: list[tuple[int, int, float, str]] = []
    same: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(looks):
        same[first.setdefault(one.digest, index)].append(index)
    for members in same.values():
        links += [(members[0], other, 1.0, "identical") for other in members[1:]]
    candidates = [i for i in first.values() if looks[i].thumbnail and looks[i].deviation >= BLANK]
    thumbnails = np.frombuffer(b"".join(looks[i].thumbnail for i in candidates), np.uint8)
    pairs, scores, mirrored, threshold = copies.near(thumbnails.reshape(-1, copies.SIDE, copies.SIDE))
    for (a, b), score, turned in zip(pairs.tolist(), scores.tolist(), mirrored.tolist(), strict=True):
        how = "mirrored" if turned else "alike"
        # All files equal to the one are copies of all that equal the other; one of each split and label will do.
        for left in _various(same[candidates[a]], looks):
            links += [(left, right, score, how) for right in _various(same[candidates[b]], looks)]
    if not links:
        return
    ends = np.array([link[:2] for link in links]).T
    graph = coo_array((np.ones(len(links), bool), (ends[0], ends[1])), shape=(len(looks), len(looks)))
    component = connected_components(graph, directed=False)[1]
    members_of, links_of = defaultdict(list), defaultdict(list)
    for index in np.unique(ends).tolist():
        members_of[component[index]].append(index)
    for link in links:
        links_of[component[link[0]]].append(link)
    found: dict[str, list[tuple[Any, Finding]]] = {kind.name: [] for kind in COPIES}
    for key, members in members_of.items():
        for name, kept in (
            ("leak", [link for link in links_of[key] if looks[link[0]].split != looks[link[1]].split]),
            ("contradiction", [link for link in links_of[key] if looks[link[0]].label != looks[link[1]].label]),
            ("duplicate", links_of[key] if len({(looks[i].split, looks[i].label) for i in members}) == 1 else []),
        ):
            if kept:
                found[name].append(_group(name, members, kept, looks, threshold))
    for ranked in found.values():
        yield from (finding for _, finding in sorted(ranked, key=lambda group: group[0]))


def _various(members: Sequence[int], looks: Sequence[Look]) -> list[int]:
    """One of each split and label."""
    return list({(looks[i].split, looks[i].label): i for i in reversed(members)}.values())


def _group(
    name: str,
    members: Sequence[int],
    links: Sequence[tuple[int, int, float, str]],
    looks: Sequence[Look],
    threshold: float,
) -> tuple[Any, Finding]:
    """The finding, behind what it is sorted by: what train shares with test first, equal files before similar ones."""

    def badness(link: tuple[int, int, float, str]) -> Any:
        splits = {looks[i].split for i in link[:2]}
        return (splits != {"train", "test"}, splits != {"train", "val"}, -link[2], *link[:2])

    best = min(links, key=badness)
    order = [*best[:2], *(i for i in members if i not in best[:2])]
    finding = Finding(
        name,
        tuple(looks[i].filename for i in order),
        tuple(looks[i].split for i in order),
        tuple(looks[i].label for i in order),
        best[2],
        threshold,
        best[3],
    )
    return badness(best), finding
