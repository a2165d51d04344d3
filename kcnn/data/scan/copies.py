"""Copies of one picture among many, changed a little (near-duplicates), found from thumbnails, 16x16 luminances.

The signs of a thumbnail's lowest frequencies are its hash (a perceptual hash; Zauner, "Implementation and benchmarking
of perceptual image hash functions", 2010). Each picture is entered in all eight ways to turn and mirror it, and looked
up as it is and with edges cut off, so that turned and cropped copies meet it. Hashes that differ in few bits are found
by sorting them several times, the bits in another order each time, and looking at neighbours (Charikar, "Similarity
estimation techniques from rounding algorithms", 2002). The pairs found so are compared by the correlation of their
gradients, in which plain pictures differ that otherwise resemble one another. Where the correlation is not enough, one
of the two is cropped to fit the other.
"""

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
from scipy.fft import dct

SIDE = 16  # of thumbnails, pixels
# Copies that were re-encoded, halved in size, changed in brightness by 10% or mirrored correlate above 0.93; of 1500
# other pictures no pair reaches 0.75.
ALIKE = 0.9
# Of copies that were cropped by up to 8% on any sides, 98 in 100 correlate above this once the other is cropped to fit;
# of 250 other photos no pair reaches 0.9.
_FITTING = 0.95
# Where gradients are in few pixels, as of a bird in the sky, chance fits easily. So by Fisher's transform this many
# standard deviations are required, for as many pixels as would share the gradients evenly.
_CLEAR = 12.0
_FREEDOM = 7  # of these pixels do not count: Fisher's three, and one for each side that may be cut
# Pictures of one kind (digits, scans, a camera that stands still) are alike anyway: by the same transform, copies
# correlate this many standard deviations better than pairs taken at random.
_STANDING_OUT = 10.0
_TURNED = 12.0  # the same for turned copies: there are six ways to turn, which helps chance, and few copies are turned
_PAIRS = 4096  # pairs that are taken at random
_FEW = 16  # images, below which random pairs tell nothing

_LOW = 8  # frequencies in each direction; all but the mean are looked at
_BASIS = np.rint(dct(np.eye(SIDE), axis=0, norm="ortho")[:_LOW] * 2**10)  # integers, whose sums are exact
# Each is a bit of the hash; the first bits are those that cropping changes least.
_VERTICAL, _HORIZONTAL = np.array(sorted(itertools.product(range(_LOW), repeat=2), key=sum)[1:]).T
_SWAPPED = np.lexsort((_HORIZONTAL, _VERTICAL + _HORIZONTAL))  # the bits of a picture whose rows become columns
_TURNS = 8  # 1 mirrors, after 2 turned upside down, after 4 made columns of rows
_EDGE = 9 / 128  # part of a side that is cut off to look up; over a power of 2, so that sums stay exact
_STEADY = 27  # bits that are sorted by
_SORTS = 12
_REACH = 12  # neighbours on each side that are compared, so that time is bounded whatever the data
_DIFFERING = 11  # bits, which few copies exceed; of 20,000 other pairs of photos none differs in less than 17
_ENTRY = np.uint64(2**32 - 1)  # the lower half of a key

_CUTS = (0, 0.025, 0.05, 0.075, 0.1)  # parts of a side that are cut off to fit
_PROMISING = 0.75  # correlation where the edge of the lookup is cut off, below which few copies fit
_MARGIN = 1  # outermost gradients that need not fit: they are partly extrapolated, or a frame
_CHUNK = 512


def _enlarging(start: float, end: float) -> np.ndarray:
    """Return the matrix, [16, 16], that enlarges what is left of a row after these parts of it are cut off."""
    places = ((np.arange(SIDE) + 0.5) * (1 - start - end) + start * SIDE - 0.5)[:, None]
    return np.maximum(0, 1 - np.abs(places - np.arange(SIDE)))


# A window is one of these for its rows, times their number, plus one for its columns.
_WINDOWS = np.stack([_enlarging(*cuts) for cuts in itertools.product((0, _EDGE), repeat=2)])
# Enlarging softens an image. After this softening both images are about equally soft.
_SOFTENING = sum(np.eye(SIDE)[(np.arange(SIDE) + step).clip(0, SIDE - 1)] / 4 for step in (-1, 0, 0, 1))
_SOFTENING = np.asarray(_SOFTENING, np.float32)
_SOFT_WINDOWS = _SOFTENING @ _WINDOWS.astype(np.float32)
_SOFT_FITS = np.stack([_SOFTENING @ _enlarging(*cuts) for cuts in itertools.product(_CUTS, repeat=2)])
_SOFT_FITS = _SOFT_FITS.astype(np.float32)


def find_copies(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the pairs of thumbnails that show one picture, in O(n log n) time and O(n) memory.

    Args:
        thumbnails: uint8 [N, 16, 16].

    Returns:
        pairs, int [P, 2], the smaller index first, in ascending order; the correlation of their gradients, float [P];
        the threshold of each, float [P]; and the turn that makes them alike, int [P]: 0 none, 1 the mirror.
    """
    (alike,) = _thresholds(thumbnails, _gradients, ALIKE, _STANDING_OUT)
    fitting, fitting_turned = _thresholds(thumbnails, _soft_gradients, _FITTING, _STANDING_OUT, _TURNED)
    candidates = _candidates(thumbnails)
    found = [(np.empty((0, 2), int), np.empty(0), np.empty(0), np.empty(0, int))]
    for start in range(0, len(candidates), _CHUNK):
        one, window, other, turns = candidates[start : start + _CHUNK].T
        left, right = thumbnails[one].astype(np.float32), _turned(thumbnails[other].astype(np.float32), turns)
        scores, limits = (_gradients(left) * _gradients(right)).sum(axis=-1), np.full(len(one), alike)
        rest = np.flatnonzero((scores < alike) | (turns > 1))
        least = np.where(turns[rest] > 1, fitting_turned, fitting)
        scores[rest], limits[rest] = _fit(left[rest], right[rest], window[rest], least)
        kept = scores >= limits
        pairs = np.sort(np.stack([one, other], axis=1), axis=1)
        found.append((pairs[kept], scores[kept].astype(float).round(3), limits[kept].round(3), turns[kept]))
    pairs, scores, limits, turns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((turns, -scores, pairs[:, 1], pairs[:, 0]))
    best = order[np.unique(pairs[order], axis=0, return_index=True)[1]]
    return pairs[best], scores[best], limits[best], turns[best]


def _turned(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Turn each image, float32 [N, 16, 16], by its turn, int [N]."""
    images = np.where((turns & 4 > 0)[:, None, None], images.swapaxes(1, 2), images)
    images = np.where((turns & 2 > 0)[:, None, None], images[:, ::-1], images)
    return np.where((turns & 1 > 0)[:, None, None], images[:, :, ::-1], images)


def _hashes(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash windows and turns of thumbnails.

    Returns:
        the hashes of the windows, uint64 [16, N], of which the first is the whole, and of the turns, uint64 [N, 8].
    """
    sides = len(_WINDOWS)
    windows = np.empty((sides**2, len(thumbnails)), np.uint64)
    turned = np.empty((len(thumbnails), _TURNS), np.uint64)
    bases = (_BASIS @ _WINDOWS).reshape(-1, SIDE)
    for start in range(0, len(thumbnails), _CHUNK):
        part = slice(start, start + _CHUNK)
        spectra = (bases @ thumbnails[part].astype(float) @ bases.T).reshape(-1, sides, _LOW, sides, _LOW)
        signs = spectra[:, :, _VERTICAL, :, _HORIZONTAL] > 0
        windows[:, part] = _packed(signs).reshape(-1, sides**2).T
        for turn in range(_TURNS):
            # Mirroring changes the signs of the odd frequencies.
            changed = (_VERTICAL * (turn >> 1 & 1) + _HORIZONTAL * (turn & 1)) % 2 == 1
            whole = signs[_SWAPPED if turn & 4 else slice(None), :, 0, 0]
            turned[part, turn] = _packed(whole ^ changed[:, None])
    return windows, turned


def _packed(bits: np.ndarray) -> np.ndarray:
    """Pack bits, bool [63, ...] → uint64 [...], the first bit the lowest."""
    packed = np.moveaxis(np.packbits(bits, axis=0, bitorder="little"), 0, -1)
    return np.ascontiguousarray(packed).view("<u8")[..., 0]


def _candidates(thumbnails: np.ndarray) -> np.ndarray:
    """Find pairs that may be copies.

    Returns:
        int [P, 4]: an image, a window of it, another image, and the turn that makes the other like the window; where
        several windows match, the one that differs least.
    """
    windows, turned = _hashes(thumbnails)
    draw = random.Random(0)
    found = np.empty(0, np.int64)
    for _ in range(_SORTS):
        tables = _tables(draw.sample(range(_STEADY), _STEADY))
        ordered = np.sort(_keys(turned, tables) | np.arange(turned.size, dtype=np.uint64))
        entries = (ordered & _ENTRY).astype(np.int64)
        hashes = turned.ravel()[entries]
        parts = [found]
        for number, looked_up in enumerate(windows):
            keys = _keys(looked_up, tables) | np.arange(0, turned.size, _TURNS, dtype=np.uint64)
            images = np.argsort(keys)  # all keys differ; in this order memory is read from end to end
            sought, places = looked_up[images], np.searchsorted(ordered, keys[images])
            for step in range(-_REACH, _REACH):
                differing = np.bitwise_count(sought ^ hashes.take(places + step, mode="clip"))
                alike = np.flatnonzero(differing <= _DIFFERING)
                image, entry = images[alike], entries.take(places[alike] + step, mode="clip")
                others = image != entry // _TURNS
                pairs = image[others] * turned.size + entry[others]
                parts.append(pairs << 8 | differing[alike[others]].astype(np.int64) << 4 | number)
        found = np.unique(np.concatenate(parts))
        found = found[np.unique(found >> 8, return_index=True)[1]]  # the window that differs in the fewest bits
    image, entry = np.divmod(found >> 8, max(1, turned.size))
    return np.stack([image, found & 15, entry // _TURNS, entry % _TURNS], axis=1)


def _tables(order: Sequence[int]) -> np.ndarray:
    """Return what each of a hash's four bytes with steady bits adds to a key with these bits in another order."""
    tables, values = np.zeros((4, 256), np.uint64), np.arange(256, dtype=np.uint64)
    for place, bit in enumerate(order, start=64 - len(order)):
        tables[bit // 8] |= (values >> np.uint64(bit % 8) & np.uint64(1)) << np.uint64(place)
    return tables


def _keys(hashes: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Return the keys by which hashes are sorted, uint64 [N], with the lower half free."""
    parts = hashes.reshape(-1, 1).view(np.uint8).T
    keys = tables[0][parts[0]]
    for table, part in zip(tables[1:], parts[1:4], strict=True):
        keys |= table[part]
    return keys


def _fit(one: np.ndarray, other: np.ndarray, window: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of each pair with the best window near a given one, and its threshold, float [N] both."""
    aim = _soft_gradients(other)
    rows, columns = (_SOFT_WINDOWS[side] for side in np.divmod(window, len(_WINDOWS)))
    first = _gradients(rows @ one @ columns.swapaxes(1, 2), _MARGIN)
    scores = (first * aim).sum(axis=-1)
    limits = np.maximum(np.maximum(_clear(first), _clear(aim)), least)
    rest = np.flatnonzero(scores >= _PROMISING)
    one, rows, aim = one[rest], rows[rest], aim[rest, None]
    # First the best columns for these rows, then the best rows for those columns.
    fits = (_gradients((rows @ one)[:, None] @ _SOFT_FITS.swapaxes(1, 2), _MARGIN) * aim).sum(axis=-1)
    columns = _SOFT_FITS[fits.argmax(axis=1)]
    fits = (_gradients(_SOFT_FITS @ (one @ columns.swapaxes(1, 2))[:, None], _MARGIN) * aim).sum(axis=-1)
    scores[rest] = np.maximum(scores[rest], fits.max(axis=1))
    return scores, limits


def _clear(gradients: np.ndarray) -> np.ndarray:
    """Return the correlation that chance does not reach for gradients in as few pixels as these, float [N]."""
    shares = (gradients**2).reshape(len(gradients), 2, gradients.shape[1] // 2).sum(axis=1)
    pixels = 1 / np.maximum((shares**2).sum(axis=1), 1e-9)
    return np.tanh(_CLEAR / np.sqrt(np.maximum(pixels - _FREEDOM, 1e-9)))


def _gradients(thumbnails: np.ndarray, margin: int = 0) -> np.ndarray:
    """Return the gradients of thumbnails as vectors of length 1, without the margin: [..., 450] where it is 0."""
    here, next_one = slice(margin, SIDE - 1 - margin), slice(margin + 1, SIDE - margin)
    corner = thumbnails[..., here, here]
    both = np.stack([thumbnails[..., next_one, here] - corner, thumbnails[..., here, next_one] - corner], axis=-3)
    flat = both.reshape(*thumbnails.shape[:-2], 2 * (SIDE - 1 - 2 * margin) ** 2)
    return flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9)


def _soft_gradients(thumbnails: np.ndarray) -> np.ndarray:
    return _gradients(_SOFTENING @ thumbnails @ _SOFTENING.T, _MARGIN)


def _thresholds(
    thumbnails: np.ndarray, gradients: Callable[[np.ndarray], np.ndarray], least: float, *deviations: float
) -> list[float]:
    """Return a threshold for each number of standard deviations beyond random pairs, at least `least`."""
    count = len(thumbnails)
    if count < _FEW:
        return [least for _ in deviations]
    draw = random.Random(0)
    pairs = np.array([draw.sample(range(count), 2) for _ in range(_PAIRS)])
    one, other = (gradients(thumbnails[side].astype(np.float32)) for side in pairs.T)
    transformed = np.arctanh((one * other).sum(axis=1).clip(-0.999, 0.999))
    median = float(np.median(transformed))
    deviation = 1.4826 * float(np.median(np.abs(transformed - median)))
    return [max(least, round(float(np.tanh(median + many * deviation)), 3)) for many in deviations]
