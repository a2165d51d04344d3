"""Examination of images: each is read, identified by its header, and decoded as training and serving decode it.

An image that cannot be decoded is excluded by name and with its reason, and so is one that an export or a server would
refuse. It is never replaced.
"""

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from kcnn.data import pictures
from kcnn.data.datasets import ImageSource
from kcnn.data.drivers import advance_progress
from kcnn.data.foreign_formats import explain_format
from kcnn.data.ingestion.parts import PartFiles, load_items, store_items
from kcnn.data.ingestion.tally import ReadableImage
from kcnn.data.ingestion.threads import map_in_threads
from kcnn.data.input_pipeline.decode import decode_image
from kcnn.data.input_pipeline.headers import decoding_cost, find_excess
from kcnn.data.input_pipeline.limits import MAX_PIXELS
from kcnn.data.input_pipeline.magic import find_format
from kcnn.data.input_pipeline.stored_pixels import stored_pixels

CORRUPT = "corrupt or truncated"
TOO_LARGE = f"too large: more than {MAX_PIXELS:,} pixels"
_BATCH, _BATCH_BYTES = 64, 2**20  # images that are decoded together; bytes that are collected before decoding


@dataclasses.dataclass(frozen=True)
class ExaminedImage:
    """The facts of one image.

    Attributes:
        sha256: hexadecimal digest of the file; "" where it cannot be read.
        format: "JPEG", "PNG", "GIF", "BMP" or "WEBP", from the content; "" for anything else.
        height: rows of the stored pixels.
        width: columns of the stored pixels.
        bytes: size of the file.
        reason: why the image is excluded, or None.
    """

    sha256: str = ""
    format: str = ""
    height: int = 0
    width: int = 0
    bytes: int = 0
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class ExaminedPart:
    """The outcome of a part.

    Attributes:
        given: the splits that the data set gives to readable images, None among them where it gives none.
        excluded: (filename, reason) of each excluded image.
        most: the filename that occurs most often, and how often; None where the part is empty.
    """

    given: frozenset[str | None]
    excluded: tuple[tuple[str, str], ...]
    most: tuple[str, int] | None


def examine_part(files: PartFiles, part: int) -> ExaminedPart:
    """Read and decode the images of a part; write its examined and its readable images."""
    excluded: list[tuple[str, str]] = []
    readable: list[ReadableImage] = []
    given: set[str | None] = set()
    names: Counter[str] = Counter()

    def examined() -> Iterator[ExaminedImage]:
        sources = load_items(files.sources(part))
        batches = iter(lambda: list(itertools.islice(sources, _BATCH)), [])
        found = itertools.chain.from_iterable(map_in_threads(examine_images, batches))
        for source, image in zip(load_items(files.sources(part)), found, strict=True):
            names[source.filename] += 1
            if image.reason is None:
                given.add(source.split)
                side = min(image.height, image.width)
                readable.append(ReadableImage(image.sha256, source.label, source.split or "", image.bytes, side))
            else:
                excluded.append((source.filename, image.reason))
            yield image
            advance_progress()

    store_items(files.examined(part), examined())
    store_items(files.readable(part), sorted(readable))
    return ExaminedPart(frozenset(given), tuple(excluded), next(iter(names.most_common(1)), None))


def examine_images(sources: Iterable[ImageSource]) -> list[ExaminedImage]:
    """Read and decode images; an image that fails has its reason in the result, and nothing is raised."""
    images: list[ExaminedImage] = []
    waiting: dict[int, bytes] = {}  # index of the image → bytes to decode

    def decode() -> None:
        # Pillow reads headers alone: TensorFlow notices more missing parts.
        for index, reason in zip(waiting, _decode(list(waiting.values())), strict=True):
            images[index] = dataclasses.replace(images[index], reason=reason)
        waiting.clear()

    for image, encoded in map(_read_header, sources):
        if image.reason is None:
            waiting[len(images)] = encoded
        images.append(image)
        if sum(map(len, waiting.values())) > _BATCH_BYTES:
            decode()
    decode()
    return images


def _read_header(source: ImageSource) -> tuple[ExaminedImage, bytes]:
    """Read the facts in an image's header, and the file's bytes; a failure is in the facts."""
    if source.label is None:
        return ExaminedImage(reason=source.reason), b""
    try:
        encoded = source.read()
    except OSError as error:
        return ExaminedImage(reason=f"cannot be read: {error.strerror or error}"), b""
    if not encoded:
        return ExaminedImage(reason="empty file"), b""
    facts = ExaminedImage(sha256=hashlib.sha256(encoded).hexdigest(), bytes=len(encoded))
    if reason := explain_format(encoded, source.filename):
        return dataclasses.replace(facts, reason=reason), encoded
    found = find_format(encoded)
    if found is None:
        return dataclasses.replace(facts, reason="not an image"), encoded
    cost = decoding_cost(encoded)
    if excess := find_excess(cost):
        together = ", all frames together" * (found == "GIF" and not cost.excess)
        return dataclasses.replace(facts, reason=f"too large: {excess}{together}"), encoded
    try:
        with pictures.open_picture(encoded) as image:
            width, height = image.size
    except pictures.DamagedPictureError:
        return dataclasses.replace(facts, reason=CORRUPT), encoded
    return dataclasses.replace(facts, format=found, height=height, width=width), encoded


def _decode(encoded: Sequence[bytes]) -> list[str | None]:
    """Return of each image why it cannot be decoded, or None. A batch that fails is decoded image by image."""
    if not encoded:
        return []
    try:
        return [TOO_LARGE if large else None for large in _find_large(tf.constant(encoded)).numpy()]
    except tf.errors.OpError:
        return [CORRUPT] if len(encoded) == 1 else [reason for one in encoded for reason in _decode([one])]


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _find_large(encoded: tf.Tensor) -> tf.Tensor:
    """Return which images are too large, bool [N], and decode the others one after the other.

    One call for a batch of small ones takes a fifth of the time of many calls.
    """

    def is_large(one: tf.Tensor) -> tf.Tensor:
        return tf.cond(stored_pixels(one) > MAX_PIXELS, lambda: True, lambda: tf.size(decode_image(one)) < 0)

    return tf.map_fn(is_large, encoded, fn_output_signature=tf.bool, parallel_iterations=1)
