"""Visual atoms: a class is a closed wave, an image its contours.

Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves", CVPR 2023, section 3: an atom
is a nest of orbits, on each of which runs the wave Φ(θ) = λ1 sin(n1 θ) + λ2 sin(n2 θ) + η, quantised to q vertices
joined by straight lines. Here the frequencies n1 and n2, the amplitudes λ1 and λ2, and q make the class; the number of
orbits, their spacing and ellipticity, the noise η, lines or filled areas, place and size make the instance. The ranges
are this file's: those in which 64 pixels tell two classes apart.
"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from kcnn.data.datasets import DATASETS, Dataset
from kcnn.data.datasets.formulas import CLASSES, SIZE, family, latitude, paint

SEED = 20230
FREQUENCIES = range(1, 15)
AMPLITUDES = ((0.3, 0.1), (0.2, 0.2), (0.1, 0.3))
SMOOTH = 200  # vertices; the other choice is 2 n2 + 1, the fewest that carry the wave (Nyquist)
ORBITS = 5  # at most
_CENTRES = np.stack(np.meshgrid(*[np.arange(SIZE, dtype=np.float32) + 0.5] * 2)).reshape(2, -1)  # x, y of the pixels

Parameters = tuple[tuple[int, int], tuple[float, float], int]  # (n1, n2), (λ1, λ2), q


@functools.cache
def parameters() -> tuple[Parameters, ...]:
    """Return the 400 classes: a fixed choice among pairs of frequencies, pairs of amplitudes, coarse or smooth."""
    pairs = itertools.combinations(FREQUENCIES, 2)
    every = [(n, level, q) for n in pairs for level in AMPLITUDES for q in (2 * max(n) + 1, SMOOTH)]
    return tuple(every[index] for index in np.random.default_rng(SEED).permutation(len(every))[:CLASSES])


def radii(frequencies: Sequence[int], amplitudes: Sequence[float] | np.ndarray, vertices: int) -> np.ndarray:
    """Return 1 + Φ at q equal steps of θ from 0, without noise: (q,) float64."""
    theta = 2 * np.pi * np.arange(vertices) / vertices
    return 1 + np.asarray(amplitudes) @ np.sin(np.outer(frequencies, theta))


def distances(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure how far points lie from polygons around the origin.

    Args:
        corners: distances of the vertices, at equal steps of θ from 0, (orbits, q) float32.
        x: the points' first coordinates, (n,) float32.
        y: their second coordinates, (n,) float32.

    Returns:
        The signed distance to the line of the edge that a point's direction meets, negative inside; and about the
        distance to the contour where that is small. Both (orbits, n) float32.
    """
    vertices = corners.shape[1]
    theta = 2 * np.pi * np.arange(vertices) / vertices
    start = corners * np.exp(1j * theta).astype(np.complex64)
    along = np.roll(start, -1, axis=1) - start
    normal = along * np.complex64(-1j) / np.abs(along)
    offset = normal.real * start.real + normal.imag * start.imag
    # The line of a steep edge goes on where its contour has turned: not beyond the radii of the contour around it.
    around = range(-1 - vertices // 60, 1 + vertices // 60)
    nearby = np.stack([np.roll(corners, shift, axis=1) for shift in around])
    edges = np.stack([normal.real, normal.imag, offset, nearby.min(axis=0), nearby.max(axis=0)])

    turn = np.arctan2(y, x) * np.float32(vertices / (2 * np.pi))
    sector = np.floor(turn).astype(np.int64) % vertices
    across, up, offset, nearest, farthest = np.take(
        edges, sector, axis=2
    )  # laid out as the orbits are, unlike indexing
    signed = across * x + up * y - offset
    radius = np.hypot(x, y)
    return signed, np.maximum(np.abs(signed), np.maximum(radius - farthest, nearest - radius))


def draw(klass: int, instance: int) -> np.ndarray:
    """Draw one image of one class: (64, 64, 3) uint8 RGB."""
    rng = np.random.default_rng((SEED, klass, instance))
    frequencies, amplitudes, vertices = parameters()[klass]
    apart = latitude(rng)
    orbits = 1 + int(ORBITS * apart * rng.random())
    angle, tilt, squeeze, size, left, top, depth, width, noise, style = rng.random(10)

    reach = SIZE / 2 * (1 - 0.45 * apart * size)
    nest = np.linspace(1, 1 - (0.3 + 0.5 * depth), orbits + 1)[:-1, None]
    noises = 0.08 * apart * noise * rng.uniform(-1, 1, (orbits, vertices))
    corners = nest * (radii(frequencies, rng.uniform(0.9, 1.1, 2) * amplitudes, vertices) + noises)
    corners *= reach / corners.max()

    middle = SIZE / 2 + (SIZE / 2 - reach) * np.array([[2 * left - 1], [2 * top - 1]])
    turn, axis = _rotation(2 * np.pi * apart * angle), _rotation(2 * np.pi * tilt)
    squash = axis.T @ np.diag([1, 1 / (1 - 0.3 * apart * squeeze)]) @ axis
    x, y = (turn @ squash).astype(np.float32) @ (_CENTRES - middle.astype(np.float32))
    signed, away = distances(corners.astype(np.float32), x, y)

    thickness = 0.8 + 3 * width / np.sqrt(orbits)
    lines = np.clip(thickness / 2 + 0.5 - away, 0, 1) if style < 0.5 else np.zeros_like(away)
    areas = np.clip(0.5 - signed, 0, 1) if style > 0.2 else np.zeros_like(away)
    line, area = lines.max(axis=0), areas[0]
    ramp = np.linspace(0, 1, orbits, dtype=np.float32)
    line_tone = ramp @ lines / np.maximum(lines.sum(axis=0), 1e-6)
    cover = line + (1 - line) * area  # the line over the area, whose tone is the share of orbits around a pixel
    tone = (line * line_tone + (1 - line) * np.minimum(areas.mean(axis=0), area)) / np.maximum(cover, 1e-6)
    return paint(rng, cover.reshape(SIZE, SIZE), tone.reshape(SIZE, SIZE))


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@DATASETS.register("atoms")
def load() -> Dataset:
    """Open the contours of 400 closed waves, 80 images each: classes "atom000" to "atom399"."""
    return family("atoms", "atom", draw, "1")
