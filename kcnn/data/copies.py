"""Copies of one picture among many, changed a little: found from thumbnails, 16x16 luminances.

The signs of a thumbnail's lowest frequencies (a perceptual hash; Zauner, "Implementation and benchmarking of perceptual
image hash functions", 2010) are hashed several times, by another selection of them each time (Indyk and Motwani,
"Approximate nearest neighbors", 1998). That makes pairs to compare, by the correlation of their gradients: plain
pictures, which resemble one another, differ in these. A mirror changes the signs of the odd horizontal frequencies
alone, so that mirrored copies are found with the others.
"""

import random

import numpy as np
from scipy.fft import dct

SIDE = 16  # of thumbnails, pixels
# Copies that were re-encoded, halved in size, changed in brightness by 10% or mirrored correlate above 0.93, those
# cropped by 2.5% on every side above 0.85 and mostly above 0.9; of 1500 other pictures no pair reaches 0.75.
ALIKE = 0.9
# Pictures of one kind (digits, scans, a camera that stands still) are alike anyway: copies correlate, by Fisher's
# transform, this many standard deviations better than pairs taken at random.
_STANDING_OUT = 10.0
_PAIRS = 4096  # taken at random for that
_FEW = 16  # images, below which chance pairs tell nothing

_LOW = 8  # frequencies in each direction; all but the mean are looked at
_BASIS = np.rint(dct(np.eye(SIDE), axis=0, norm="ortho")[:_LOW] * 2**10)  # integers, whose sums are exact
_VERTICAL, _HORIZONTAL = np.divmod(np.arange(1, _LOW**2), _LOW)
_STEADY = np.flatnonzero(_VERTICAL + _HORIZONTAL <= 6)  # those that cropping changes least
_ODD = _HORIZONTAL % 2 == 1  # a mirror changes their signs
_KEYS = 12  # selections of steady signs: copies agree in one of them at least
_LEAST_BITS = 14  # of a selection; with the images they become more, so that equal keys stay rare
_PROMISING = 0.6  # correlation of spectra, below which few copies are, and nearly all of the other pairs
_REACH = 64  # pictures of one key that each is compared with, so that time is bounded whatever the data
_CHUNK = 1024
_CROPS = (0.025, 0.05)  # of each side


def near(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Pairs of thumbnails that show one picture, in O(n log n) time and O(n) memory.

    Args:
        thumbnails: uint8 [N, 16, 16].

    Returns:
        pairs, int [P, 2], the smaller index first, in ascending order; how their gradients correlate, float [P];
        whether it is the second one mirrored that does, bool [P]; and the threshold.
    """
    threshold = _threshold(thumbnails)
    pairs = _candidates(thumbnails)
    found: list[tuple[np.ndarray, ...]] = [(np.empty((0, 2), int), np.empty(0), np.empty(0, bool))]
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        scores = _alike(thumbnails[chunk[:, 0]], thumbnails[chunk[:, 1]], threshold)
        best, kept = scores.max(axis=0), scores.max(axis=0) >= threshold
        found.append((chunk[kept], best[kept], scores.argmax(axis=0)[kept] == 1))
    joined = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return joined[0], joined[1].astype(float).round(3), joined[2], threshold


def _spectra(thumbnails: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Of the gradients, but for the highest frequencies: float32 [N, 63] of length 1."""
    spectra = np.empty((len(thumbnails), _LOW**2 - 1), np.float32)
    for start in range(0, len(thumbnails), _CHUNK):
        chunk = thumbnails[start : start + _CHUNK].astype(float)
        spectra[start : start + _CHUNK] = (basis @ chunk @ basis.T).reshape(len(chunk), -1)[:, 1:]
    spectra *= np.hypot(_VERTICAL, _HORIZONTAL)
    return spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-9)


def _candidates(thumbnails: np.ndarray) -> np.ndarray:
    """Pairs that may be copies, int [P, 2]."""
    count = len(thumbnails)
    # Each picture is entered whole and cropped, so that a copy that was cropped meets one that was not.
    spectra = np.concatenate([_spectra(thumbnails, basis) for basis in (_BASIS, _BASIS @ _enlarging(_CROPS[-1]))])
    signs = spectra > 0
    bits = min(len(_STEADY), max(_LEAST_BITS, count.bit_length()))
    powers = 1 << np.arange(bits)
    draw = random.Random(0)
    found = np.empty(0, np.int64)
    for _ in range(_KEYS):
        selection = np.array(draw.sample(_STEADY.tolist(), bits))
        keys = signs[:, selection] @ powers
        keys = np.minimum(keys, keys ^ int(_ODD[selection] @ powers))  # mirrored copies have one key
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts, parts = np.arange(len(order)), [found]
        for distance in range(1, _REACH + 1):
            starts = starts[starts + distance < len(order)]
            starts = starts[ordered[starts] == ordered[starts + distance]]
            if not len(starts):
                break
            one, other = order[starts], order[starts + distance]
            promising = _resemble(spectra, one, other)
            one, other = one[promising] % count, other[promising] % count
            pairs = np.minimum(one, other) * count + np.maximum(one, other)
            parts.append(np.unique(pairs[one != other]))
        found = np.unique(np.concatenate(parts))
    return np.stack(np.divmod(found, max(1, count)), axis=1)


def _resemble(spectra: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether these pairs, or their mirror images, are worth a closer look, bool [P]."""
    resemble = np.empty(len(one), bool)
    for start in range(0, len(one), _CHUNK):
        part = slice(start, start + _CHUNK)
        products = spectra[one[part]] * spectra[other[part]]
        odd = products[:, _ODD].sum(axis=1)
        resemble[part] = products[:, ~_ODD].sum(axis=1) + np.abs(odd) > _PROMISING
    return resemble


def _gradients(thumbnails: np.ndarray) -> np.ndarray:
    """Of length 1, [N, 450]."""
    corner = thumbnails[:, :-1, :-1]
    both = np.stack([thumbnails[:, 1:, :-1] - corner, thumbnails[:, :-1, 1:] - corner], axis=1)
    flat = both.reshape(len(both), 2 * (SIDE - 1) ** 2)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _enlarging(crop: float) -> np.ndarray:
    """The matrix that enlarges what is left of a row when `crop` of it is cut off at both ends."""
    places = ((np.arange(SIDE) + 0.5) * (1 - 2 * crop) + crop * SIDE - 0.5)[:, None]
    return np.maximum(0, 1 - np.abs(places - np.arange(SIDE))).astype(np.float32)


def _correlate(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (_gradients(one) * _gradients(other)).sum(axis=1)


def _alike(one: np.ndarray, other: np.ndarray, enough: float) -> np.ndarray:
    """How gradients correlate, the others as they are and mirrored, float [2, N]; where neither is `enough`, with one
    of the two cropped.
    """
    one, other = one.astype(np.float32), other.astype(np.float32)
    sides = (other, other[:, :, ::-1])
    scores = np.stack([_correlate(one, side) for side in sides])
    rest = np.flatnonzero(scores.max(axis=0) < enough)
    for crop in _CROPS:
        enlarge = _enlarging(crop)
        for score, side in zip(scores, sides, strict=True):
            left, right = one[rest], side[rest]
            cropped = _correlate(enlarge @ left @ enlarge.T, right), _correlate(left, enlarge @ right @ enlarge.T)
            score[rest] = np.maximum(score[rest], np.maximum(*cropped))
    return scores


def _threshold(thumbnails: np.ndarray) -> float:
    """How well copies correlate at least: `ALIKE`, and well beyond what pairs taken at random do."""
    count = len(thumbnails)
    if count < _FEW:
        return ALIKE
    draw = random.Random(0)
    pairs = np.array([draw.sample(range(count), 2) for _ in range(_PAIRS)])
    one, other = (thumbnails[side].astype(np.float32) for side in pairs.T)
    transformed = np.arctanh(_correlate(one, other).clip(-0.999, 0.999))
    median = float(np.median(transformed))
    deviation = 1.4826 * float(np.median(np.abs(transformed - median)))
    return max(ALIKE, round(float(np.tanh(median + _STANDING_OUT * deviation)), 3))
