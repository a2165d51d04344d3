"""Examination of images: each is read, identified by its header, and decoded as training and serving decode it.

An image that cannot be decoded is excluded by name and with its reason. It is never replaced.
"""

import dataclasses
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from kcnn.data.datasets import ImageSource
from kcnn.data.drivers import advance_progress
from kcnn.data.foreign_formats import SUPPORTED, explain_format
from kcnn.data.ingestion.parts import PartFiles, load_items, store_items
from kcnn.data.ingestion.tally import ReadableImage
from kcnn.data.ingestion.threads import map_in_threads
from kcnn.data.input_pipeline.decode import decode_image
from kcnn.data.pictures import DAMAGE

FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "GIF": "GIF", "BMP": "BMP", "DIB": "BMP", "WEBP": "WEBP"}
CORRUPT = "corrupt or truncated"
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
        if waiting and not _can_decode(list(waiting.values())):
            for index, encoded in waiting.items():
                if not _can_decode([encoded]):
                    images[index] = dataclasses.replace(images[index], reason=CORRUPT)
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
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            found, (width, height) = str(image.format), image.size
    except UnidentifiedImageError:
        return dataclasses.replace(facts, reason="not an image"), encoded
    except Image.DecompressionBombError:
        return dataclasses.replace(facts, reason="too many pixels"), encoded
    except DAMAGE:
        return dataclasses.replace(facts, reason=CORRUPT), encoded
    if found not in FORMATS:
        reason = f"{found} is not a supported format ({', '.join(SUPPORTED)}); Pillow reads it"
        return dataclasses.replace(facts, reason=reason), encoded
    return dataclasses.replace(facts, format=FORMATS[found], height=height, width=width), encoded


def _can_decode(encoded: Sequence[bytes]) -> bool:
    try:
        _count_samples(tf.constant(encoded))
    except tf.errors.InvalidArgumentError:
        return False
    return True


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _count_samples(encoded: tf.Tensor) -> tf.Tensor:
    """Decode images one after the other; one call for a batch of small ones takes a fifth of the time of many calls."""
    return tf.reduce_sum(
        tf.map_fn(lambda one: tf.size(decode_image(one)), encoded, fn_output_signature=tf.int32, parallel_iterations=1)
    )
