"""Crops that show the same picture, and so must not be in different splits.

All pairs of crops are compared, in two steps on thumbnails of 32 x 32 pixels.

1. A hash of 64 bits: which of the lowest frequencies are above their mean (pHash: C. Zauner,
   Implementation and Benchmarking of Perceptual Image Hash Functions, 2010). Pairs that differ in
   few bits are candidates: 1e9 pairs take about 2 s.
2. The correlation of the candidates' pixels, since most candidates are different people. Colour is
   more robust to small shifts, grey to changed colours; the higher correlation counts.

Not detected: copies that are rotated, cropped by more than about 2 %, or covered to a larger part.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from stages.parallel.threads import side_by_side

THUMBNAIL = 32  # pixels; PHash itself would reduce its input to this size with aliasing
TILE = (256, 4096)  # hashes compared at once: 8 MB fit in a processor's cache
BATCH = 2048  # candidates whose pixels are compared at once: 100 MB
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # grey from RGB, ITU-R BT.601, as in OpenCV

Crops = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Duplicates(NamedTuple):
    """Groups of crops that show the same picture."""

    groups: Numbers  # (N,), of each crop, numbered in the order of their first members
    identical: Numbers  # (N,), likewise for groups of equal pixels only
    pairs: pd.DataFrame  # those that connect the groups, as returned by `near_duplicates`


def group_duplicates(crops: Crops, max_bits: int, min_correlation: float) -> Duplicates:
    """Group the crops that are connected by near-duplicates; the arguments of `near_duplicates`."""
    identical = group_identical(crops)
    _, first = np.unique(identical, return_index=True)
    pairs = near_duplicates(crops, max_bits, min_correlation)
    # Identical pixels without contrast have no correlation, so they are connected separately.
    ends = np.concatenate([np.arange(len(crops)), pairs["first"]])
    others = np.concatenate([first[identical], pairs["second"]])
    graph = coo_array((np.ones(len(ends), np.int8), (ends, others)), (len(crops), len(crops)))
    _, component = connected_components(graph, directed=False)
    return Duplicates(pd.factorize(component)[0].astype(np.int64), identical, pairs)


def group_identical(crops: Crops) -> Numbers:
    """The group of identical pixels of each crop, int64 (N,), in the order of first members."""
    digests = np.array([hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops], object)
    return pd.factorize(digests)[0].astype(np.int64)


def near_duplicates(crops: Crops, max_bits: int, min_correlation: float) -> pd.DataFrame:
    """All pairs of crops that show the same picture, mirrored or not.

    Their hashes differ in at most `max_bits`, 0..64, and the Pearson correlation of their
    thumbnails is at least `min_correlation`, 0..1. `crops` are uint8 RGB (N, height, width, 3),
    height and width >= 32. Returns one row per pair, sorted: `first` (row in `crops`), `second` (a
    later row), `mirrored` (only the mirror image of the second matches), `bits`, `correlation`.
    """
    plain = thumbnails(crops)
    hashes = perceptual_hashes(plain)
    types = {"first": "i8", "second": "i8", "mirrored": "?", "bits": "i8", "correlation": "f8"}
    parts = [pd.DataFrame(columns=list(types)).astype(types)]
    for mirrored in (False, True):
        seconds = plain[:, :, ::-1] if mirrored else plain
        compared = perceptual_hashes(seconds) if mirrored else hashes
        for first, second, bits in close_hashes(hashes, compared, max_bits):
            correlation = _correlate(plain, seconds, first, second)
            columns = (first, second, mirrored, bits, correlation)
            part = pd.DataFrame(dict(zip(types, columns, strict=True)))
            parts.append(part[correlation >= min_correlation])
    pairs = pd.concat(parts)
    # A symmetric face matches its copy both ways; the plain pair comes first and is kept.
    pairs = pairs.drop_duplicates(["first", "second"])
    return pairs.sort_values(["first", "second"], ignore_index=True)


def thumbnails(crops: Crops) -> Crops:
    """Reduce crops, uint8 RGB (N, height, width, 3), to (N, 32, 32, 3) by area averaging."""
    small = np.empty((len(crops), THUMBNAIL, THUMBNAIL, 3), np.uint8)
    pairs = zip(crops, small, strict=True)
    for crop, place in tqdm(pairs, "reducing", len(crops), unit="crop", disable=None):
        cv2.resize(crop, (THUMBNAIL, THUMBNAIL), place, interpolation=cv2.INTER_AREA)
    return small


def perceptual_hashes(small: Crops) -> Hashes:
    """The pHash, uint64 (N,), of thumbnails, uint8 RGB (N, 32, 32, 3)."""
    hasher = cv2.img_hash.PHash.create()
    hashes = np.empty((len(small), 8), np.uint8)
    pairs = zip(small, hashes, strict=True)
    for thumbnail, place in tqdm(pairs, "hashing", len(small), unit="crop", disable=None):
        place[:] = hasher.compute(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY))[0]
    return hashes.view(np.uint64)[:, 0]


def close_hashes(
    hashes: Hashes, others: Hashes, max_bits: int
) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """All pairs of a hash and a later one that differ in few bits.

    `hashes` and `others`, of the same images or of their mirror images, are uint64 (N,). Yields
    index in `hashes`, index in `others` and number of different bits, int64, of <= 2048 pairs each.
    """
    height, width = TILE

    def compare(top: int) -> list[tuple[Numbers, Numbers, Numbers]]:
        matches = []
        for left in range(top, len(others), width):
            tile = hashes[top : top + height, np.newaxis] ^ others[left : left + width]
            bits = np.bitwise_count(tile)
            close = np.flatnonzero(bits <= max_bits)  # three times as fast as in two dimensions
            row, column = np.divmod(close, bits.shape[1])
            first, second, bits = row + top, column + left, bits.ravel()[close].astype(np.int64)
            later = second > first
            matches.append((first[later], second[later], bits[later]))
        return matches

    tops = range(0, len(hashes), height)
    for _, matches in side_by_side(compare, tops, os.cpu_count() or 1, lambda _: 0):
        for first, second, bits in matches:
            for start in range(0, len(first), BATCH):
                part = slice(start, start + BATCH)
                yield first[part], second[part], bits[part]


def _correlate(small: Crops, others: Crops, first: Numbers, second: Numbers) -> Floats:
    """The higher Pearson correlation of pairs, in colour or in grey; 0 without contrast."""
    left, right = small[first].astype(np.float32), others[second].astype(np.float32)
    return np.maximum(_pearson(left, right), _pearson(left @ LUMA, right @ LUMA))


def _pearson(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> Floats:
    left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    size = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    product = np.einsum("ij,ij->i", left, right)
    # Rounding leaves contrast below 1e-3 of a grey level in uniform pixels.
    contrast = size > 1e-6 * left.shape[1]
    return np.where(contrast, product / np.where(contrast, size, 1), 0).astype(np.float64)
