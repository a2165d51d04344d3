"""Fractals: a class is an iterated function system, an image its attractor.

Kataoka et al., "Pre-training without Natural Images", ACCV 2020 (FractalDB): systems accepted by filling rate;
instances from small changes of the parameters, flips and 3x3 patches in place of points. Anderson & Farrell,
"Improving Fractal Pre-training", WACV 2022, section 3: affine maps sampled by their singular values, so that every
system contracts and few are rejected; colours and backgrounds. The attractor's colours follow the orbit as in Draves &
Reckase, "The Fractal Flame Algorithm", 2003.

An affine map of the plane is z → alpha z + beta conj(z) + tau in complex numbers. Its singular values are
|alpha| + |beta| and ||alpha| - |beta||, its determinant is |alpha|² - |beta|².
"""

import dataclasses
import functools

import numpy as np

from kcnn.data.datasets import DATASETS, Dataset
from kcnn.data.datasets.formulas import CLASSES, SIZE, family, latitude, paint

SEED = 20200
MAPS = 8  # at most, and 2 at least
LARGEST = 0.95  # singular value; at 1 a map would not contract
FILLING = (0.12, 0.45)  # share of the frame's pixels that an orbit visits: no dust, no blobs
_POINTS = 4096  # followed in parallel
_SETTLING, _RECORDED = 3, 4  # steps of an instance's orbit, which starts on the class's attractor


@dataclasses.dataclass(frozen=True)
class Systems:
    """Iterated function systems.

    Attributes:
        maps: alpha, beta and tau of each map, (systems, 3, 8) complex64; zeros in place of maps that a system lacks.
        cuts: which points each map moves: map k those from cuts[k] to cuts[k+1], (systems, 9) int64.
        orbits: points on the attractors, (systems, 4096) complex64.
    """

    maps: np.ndarray
    cuts: np.ndarray
    orbits: np.ndarray


@functools.cache
def _shuffles() -> np.ndarray:
    """Return permutations, (7, 4096): points are shuffled, and each map moves a run, so chance picks a point's map."""
    rng = np.random.default_rng(SEED)
    return np.stack([rng.permutation(_POINTS) for _ in range(_SETTLING + _RECORDED)])


def filling(orbits: np.ndarray) -> np.ndarray:
    """Return the share of the pixels of its smallest square frame that each orbit visits, (n, points) → (n,).

    The frame is upright and has 64x64 pixels.
    """
    x, y = orbits.real, orbits.imag
    low_x, low_y = x.min(axis=1, keepdims=True), y.min(axis=1, keepdims=True)
    span = np.maximum(np.ptp(x, axis=1), np.ptp(y, axis=1))[:, None] + 1e-6
    column, row = ((SIZE * (v - low) / span).astype(np.int64).clip(0, SIZE - 1) for v, low in ((x, low_x), (y, low_y)))
    visited = np.zeros((len(orbits), SIZE * SIZE), bool)
    np.put_along_axis(visited, row * SIZE + column, True, axis=1)
    return visited.mean(axis=1)


def _candidates(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the maps and cuts (see `Systems`) of up to `count` random systems.

    Singular values are uniform among those whose sum, the smaller of a map counted twice, lies between (5 + N)/2 and
    (6 + N)/2 for N maps, where attractors have shape (WACV 2022, section 3).
    """
    number = rng.integers(2, MAPS + 1, (count, 1))
    used = np.arange(MAPS) < number
    pair = np.sort(rng.uniform(0, LARGEST, (count, MAPS, 2)), axis=2)
    small, large = pair[..., 0] * used, pair[..., 1] * used
    complexity = (large + 2 * small).sum(axis=1, keepdims=True)
    kept = ((complexity >= (5 + number) / 2) & (complexity <= (6 + number) / 2))[:, 0]
    small, large, used = small[kept], large[kept], used[kept]

    flipped = rng.random(small.shape) < 0.5  # a negative determinant
    angles = np.exp(2j * np.pi * rng.random((2, *small.shape)))
    alpha = (large + np.where(flipped, -small, small)) / 2 * angles[0]
    beta = (large - np.where(flipped, -small, small)) / 2 * angles[1]
    tau = (rng.uniform(-1, 1, small.shape) + 1j * rng.uniform(-1, 1, small.shape)) * used
    weight = (small * large + 0.005) * used  # the determinant, and a little for maps that flatten
    share = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    cuts = np.round(_POINTS * np.pad(share, [(0, 0), (1, 0)])).astype(np.int64)
    return np.stack([alpha, beta, tau], axis=1).astype(np.complex64), cuts


def _per_point(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Repeat each map's value for the points that it moves: (..., 8) → (..., 4096)."""
    return np.repeat(values, np.diff(cuts), axis=-1)


@functools.cache
def systems() -> Systems:
    """Return the 400 classes from a fixed seed: the first candidates whose orbits fill the frame as `FILLING` says."""
    rng = np.random.default_rng(SEED)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while sum(len(maps) for maps, _, _ in found) < CLASSES:
        maps, cuts = _candidates(rng, 2048)
        alpha, beta, tau = np.stack([_per_point(m, c) for m, c in zip(maps, cuts, strict=True)], axis=1)
        orbits = np.zeros_like(tau)
        for shuffle in np.tile(_shuffles(), (3, 1)):
            orbits = orbits[:, shuffle]
            orbits = alpha * orbits + beta * orbits.conj() + tau
        rate = filling(orbits)
        good = (rate >= FILLING[0]) & (rate <= FILLING[1])
        found.append((maps[good], cuts[good], orbits[good]))
    return Systems(*(np.concatenate(parts)[:CLASSES] for parts in zip(*found, strict=True)))


def vary(rng: np.random.Generator, maps: np.ndarray, change: float) -> np.ndarray:
    """Draw a system near `maps`, (3, 8) complex64: each parameter within `change` of its size; it still contracts."""
    factor = rng.uniform(-change, change, (2, *maps.shape)).astype(np.float32)
    maps = maps * (1 + factor[0] + 1j * factor[1])
    norm = np.abs(maps[0]) + np.abs(maps[1])
    maps[:2] *= np.minimum(1, LARGEST / np.maximum(norm, 1e-6))
    return maps


def draw(klass: int, instance: int) -> np.ndarray:
    """Draw one image of one class: (64, 64, 3) uint8 RGB."""
    rng = np.random.default_rng((SEED, klass, instance))
    cuts, points = systems().cuts[klass], systems().orbits[klass]
    apart = latitude(rng)
    alpha, beta, tau = _per_point(vary(rng, systems().maps[klass], 0.05 + 0.1 * apart), cuts)
    hue = _per_point(rng.random(MAPS, np.float32), cuts)
    hues = hue
    recorded = []
    for step, shuffle in enumerate(_shuffles()):
        points = points[shuffle]
        points = alpha * points + beta * points.conj() + tau
        hues = (hues[shuffle] + hue) / 2
        if step >= _SETTLING:
            recorded.append((points, hues))
    orbit, colour = (np.concatenate(parts) for parts in zip(*recorded, strict=True))

    angle, stretch, size, left, top = rng.random(5)
    orbit *= np.exp(1j * np.pi / 3 * apart * (angle - 0.5)).astype(np.complex64)
    x, y = orbit.real * np.float32(1 + 0.4 * apart * (stretch - 0.5)), orbit.imag
    low_x, low_y = x.min(), y.min()
    wide, high = x.max() - low_x, y.max() - low_y
    frame = SIZE - 0.01  # rounding leaves every point inside
    scale = frame * (1 - 0.5 * apart * size) / max(wide, high, 1e-6)
    x = (x - low_x) * np.float32(scale) + np.float32(left * (frame - scale * wide))
    y = (y - low_y) * np.float32(scale) + np.float32(top * (frame - scale * high))
    pixel = y.astype(np.int64) * SIZE + x.astype(np.int64)
    hits = np.bincount(pixel, minlength=SIZE * SIZE).astype(np.float32)
    paints = np.bincount(pixel, colour, minlength=SIZE * SIZE).astype(np.float32)
    density = _patch(rng, np.stack([hits, paints]).reshape(2, SIZE, SIZE))

    tone = density[1] / np.maximum(density[0], 1e-6)
    depth = np.log1p(density[0])
    depth /= depth.max()
    shade, gain = rng.random(), rng.uniform(1.5, 4)
    return paint(rng, np.minimum(gain * depth, 1), (shade * depth + (1 - shade) * tone).astype(np.float32))


def _patch(rng: np.random.Generator, density: np.ndarray) -> np.ndarray:
    """Replace each point by a random patch within 3x3 pixels that holds its centre: (2, 64, 64) → the same."""
    patch = rng.random((3, 3)) < rng.uniform(0, 0.6)
    patch[1, 1] = True
    padded = np.pad(density, [(0, 0), (1, 1), (1, 1)])
    spread = np.zeros_like(density)
    for row, column in np.argwhere(patch).tolist():
        spread += padded[:, row : row + SIZE, column : column + SIZE]
    return spread


@DATASETS.register("fractals")
def load() -> Dataset:
    """Open the attractors of 400 iterated function systems, 80 images each: classes "fractal000" to "fractal399"."""
    return family("fractals", "fractal", draw, "1")
