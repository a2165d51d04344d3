"""Images drawn by formulas, for pre-training without photos: the common part of the families, and their union.

Formula-driven supervised learning: Kataoka et al., "Pre-training without Natural Images", ACCV 2020; Kataoka et al.,
"Replacing Labeled Real-image Datasets with Auto-generated Contours", CVPR 2022. A class is a set of parameters of a
formula, so labels cost nothing. Its instances differ in place, size, colours and background, some little, some much: if
all differed much, a network from scratch would learn nothing.

Every image is a function of (family, class, instance) alone. It is drawn when it is read.
"""

import functools
import io
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from kcnn.data.datasets import DATASETS, Dataset, ImageSource

SIZE = 64  # pixels, height and width
CLASSES = 400  # of each family
INSTANCES = 80  # of each class: the last for test, the four before it for val
SPLIT = ["train"] * (INSTANCES - 5) + ["val"] * 4 + ["test"]

_TEXTURES, _TEXTURE_SIZE = 48, 128
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@functools.cache
def _textures() -> np.ndarray:
    """Return noise of zero mean and unit deviation, (48, 128, 128) float32: grain, clouds and fibres.

    The amplitude falls as a power of frequency between 0 (white) and 2.5 (smooth; photos have about 1), at different
    rates along and across a random direction.
    """
    rng = np.random.default_rng(0)
    x, y = np.fft.fftfreq(_TEXTURE_SIZE)[:, None], np.fft.rfftfreq(_TEXTURE_SIZE)[None]
    fields = []
    for power in np.linspace(0, 2.5, _TEXTURES):
        angle, stretch = rng.uniform(0, np.pi), 2 ** rng.normal(0, 1.5)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        frequency = np.maximum(np.hypot(along * stretch, across / stretch), 1 / _TEXTURE_SIZE)
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(_TEXTURE_SIZE,) * 2)) / frequency**power)
        fields.append((noise - noise.mean()) / noise.std())
    return np.stack(fields).astype(np.float32)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Return a random window, (64, 64) float32, of a random texture."""
    which, top, left = rng.random(3) * (_TEXTURES, _TEXTURE_SIZE - SIZE, _TEXTURE_SIZE - SIZE)
    return _textures()[int(which), int(top) : int(top) + SIZE, int(left) : int(left) + SIZE]


def latitude(rng: np.random.Generator) -> float:
    """Draw how far an instance departs from its class's plainest, 0 to 1: the square of a uniform number."""
    return rng.random() ** 2


def paint(rng: np.random.Generator, cover: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """Colour a shape and put it on a background.

    Two images in five are of one colour on black. The others have three colours on a plain or textured background; one
    in four of these is grey.

    Args:
        rng: draws the colours and textures.
        cover: how much of a pixel the shape covers, (64, 64) float32, 0 to 1.
        tone: where a pixel stands in the shape's palette, (64, 64) float32, 0 to 1.

    Returns:
        (64, 64, 3) uint8 RGB.
    """
    simple, plain_back, plain_shape, grey = rng.random(4) < (0.4, 0.5, 0.5, 0.25)
    if simple:
        colour = rng.uniform(0.4, 1, 3).astype(np.float32)
        return (cover[..., None] * colour * 255 + 0.5).astype(np.uint8)
    # Of six random palettes of three colours, the one whose luminance stands out most from the background's.
    colours = 1.5 * rng.random((19, 3), np.float32) - 0.25 + rng.uniform(-0.5, 0.5, (19, 1)).astype(np.float32)
    greys = (colours @ _LUMINANCE)[:, None]
    colours = np.clip(greys + np.float32(rng.uniform(0.2, 1)) * (colours - greys), 0, 1)
    contrast = np.abs((colours[1:] - colours[0]) @ _LUMINANCE).reshape(6, 3).min(axis=1)
    back, palette = colours[0], colours[1:].reshape(6, 3, 3)[contrast.argmax()]

    background = back[:, None, None]
    if not plain_back:
        for _ in range(2):
            background = background + rng.uniform(-0.2, 0.2, 3).astype(np.float32)[:, None, None] * _texture(rng)
    position = 2 * tone
    upper = np.maximum(position - 1, 0)
    weights = np.stack([np.maximum(1 - position, 0), np.minimum(position, 1) - upper, upper])
    shape = np.einsum("kc,khw->chw", palette, weights)
    if not plain_shape:
        shape += rng.uniform(-0.2, 0.2, 3).astype(np.float32)[:, None, None] * _texture(rng)
    image = background + cover * (shape - background)
    if grey:
        image = np.broadcast_to(np.einsum("c,chw->hw", _LUMINANCE, image), image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def _encode(draw: Callable[[int, int], np.ndarray], klass: int, instance: int) -> bytes:
    """Encode the image as BMP: compressing it would take longer than drawing it."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(draw(klass, instance))).save(buffer, "BMP")
    return buffer.getvalue()


def family(name: str, label: str, draw: Callable[[int, int], np.ndarray], version: str) -> Dataset:
    """Return the data set of one formula: 400 classes of 80 images.

    Args:
        name: the data set's name.
        label: a class name without its number.
        draw: (class, instance) → (64, 64, 3) uint8 RGB.
        version: part of the fingerprint; change it whenever `draw` draws something else.
    """
    labels = tuple(f"{label}{klass:03d}" for klass in range(CLASSES))

    def sources() -> Iterator[ImageSource]:
        for klass, instance in itertools.product(range(CLASSES), range(INSTANCES)):
            filename = f"{name}/{labels[klass]}/{instance:02d}.bmp"
            yield ImageSource(
                filename, labels[klass], SPLIT[instance], functools.partial(_encode, draw, klass, instance)
            )

    return Dataset(
        name=name,
        labels=labels,
        sources=sources,
        count=CLASSES * INSTANCES,
        fingerprint=f"{name} {version}: {CLASSES} classes of {INSTANCES} images of {SIZE}x{SIZE}",
    )


@DATASETS.register("formulas")
def load() -> Dataset:
    """Open fractals and visual atoms, for textures and strokes: 800 classes, one of each family in turn."""
    parts = [DATASETS.get(name)() for name in ("fractals", "atoms")]

    def classes(part: Dataset) -> Iterator[list[ImageSource]]:
        return (list(group) for _, group in itertools.groupby(part.sources(), lambda source: source.label))

    def sources() -> Iterator[ImageSource]:
        for turn in zip(*map(classes, parts), strict=True):
            yield from itertools.chain(*turn)

    return Dataset(
        name="formulas",
        labels=tuple(itertools.chain(*zip(*(part.labels for part in parts), strict=True))),
        sources=sources,
        count=sum(part.count for part in parts),
        fingerprint="; ".join(part.fingerprint for part in parts),
    )
