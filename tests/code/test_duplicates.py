"""Near-duplicates: planted copies are found, different portraits are not, no pair is left out."""

import itertools

import cv2
import numpy as np
import pytest

from stages.acquisition.portraits import draw_portrait
from stages.splitting import duplicates as module
from stages.splitting.duplicates import (
    TILE,
    close_hashes,
    group_duplicates,
    near_duplicates,
    perceptual_hashes,
    thumbnails,
)

BITS, CORRELATION = 8, 0.95  # as params.yaml has them
SIZE = 100


def portraits(number, seed):
    """Return crops of different drawn people, uint8 (number, 100, 100, 3)."""
    generator = np.random.default_rng(seed)
    return np.stack(
        [
            draw_portrait(
                int(generator.integers(1, 117)), i % 2, i % 5, generator, SIZE + 2 * (i % 3)
            )[:SIZE, :SIZE]
            for i in range(number)
        ]
    )


@pytest.fixture(scope="module")
def people():
    return portraits(60, 0)


def compressed(crop):
    return cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)


def brighter(crop, by):
    return np.clip(crop.astype(int) + by, 0, 255).astype(np.uint8)


def cut(crop, pixels):
    return cv2.resize(crop[pixels:, pixels:], (SIZE, SIZE))


def grey(crop):
    return np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., np.newaxis], 3, 2)


def smaller(crop):
    return cv2.resize(cv2.resize(crop, (50, 50), interpolation=cv2.INTER_AREA), (SIZE, SIZE))


COPIES = {
    "of the same bytes": (lambda crop: crop, 1.0),
    "compressed anew": (compressed, 1.0),
    "20 levels brighter": (lambda crop: brighter(crop, 20), 1.0),
    "20 levels darker": (lambda crop: brighter(crop, -20), 1.0),
    "in grey": (grey, 1.0),
    "at half the resolution": (smaller, 1.0),
    "cut by 1 pixel": (lambda crop: cut(crop, 1), 1.0),
    "cut by 2 pixels": (lambda crop: cut(crop, 2), 0.9),
    "mirrored": (lambda crop: crop[:, ::-1], 1.0),
    "mirrored, brighter and compressed": (
        lambda crop: compressed(brighter(crop[:, ::-1], 20).copy()),
        1.0,
    ),
}


@pytest.mark.parametrize(("change", "found"), COPIES.values(), ids=COPIES)
def test_planted_copies_are_found(people, change, found):
    copies = np.stack([change(crop) for crop in people])
    pairs = near_duplicates(np.concatenate([people, copies]), BITS, CORRELATION)
    own = (pairs["second"] - pairs["first"] == len(people)).sum()
    assert own >= found * len(people)
    assert own == len(pairs), "different portraits were taken for one"


@pytest.mark.parametrize(("change", "found"), COPIES.values(), ids=COPIES)
def test_planted_copies_share_the_group_of_their_original(people, change, found):
    crops = np.concatenate([people, np.stack([change(crop) for crop in people[:20]])])
    groups = group_duplicates(crops, BITS, CORRELATION).groups
    assert (groups[60:] == groups[:20]).mean() >= found
    assert len(set(groups[:60])) == 60


def test_mirrored_copies_are_distinguished_from_plain_ones(people):
    crops = np.concatenate([people[:3], people[:2], people[2:3, :, ::-1]])
    pairs = near_duplicates(crops, BITS, CORRELATION)
    assert pairs[["first", "second"]].to_numpy().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert pairs["mirrored"].tolist() == [False, False, True]
    assert pairs["bits"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(pairs["correlation"], 1, atol=1e-5)


def test_different_portraits_are_not_grouped():
    duplicates = group_duplicates(portraits(250, 1), BITS, CORRELATION)
    np.testing.assert_array_equal(duplicates.groups, np.arange(250))
    np.testing.assert_array_equal(duplicates.identical, np.arange(250))
    assert duplicates.pairs.empty


def test_copies_of_copies_form_one_group_numbered_by_its_first_member(people):
    crops = np.stack(
        [people[5], people[0], people[1], cut(people[0], 1), compressed(cut(people[0], 1))]
    )
    groups = group_duplicates(crops, BITS, CORRELATION).groups
    np.testing.assert_array_equal(groups, [0, 1, 2, 1, 1])
    assert groups.dtype == np.int64


def test_the_pixels_part_what_the_hash_takes_for_one():
    small = np.zeros((2, 32, 32, 3), np.uint8)
    ramp = np.linspace(0, 200, 32).astype(np.uint8)
    small[0] = ramp[:, np.newaxis, np.newaxis]
    small[1] = np.where(ramp > 100, 200, 0).astype(np.uint8)[:, np.newaxis, np.newaxis]
    crops = np.stack([cv2.resize(crop, (SIZE, SIZE)) for crop in small])
    near = near_duplicates(crops, 64, 0.5)
    assert len(near) == 1
    assert near["correlation"].between(0.8, 0.95).all()
    assert near_duplicates(crops, 64, CORRELATION).empty


@pytest.mark.parametrize("level", [0, 37, 255])
def test_crops_without_contrast_belong_together_only_if_they_are_equal(level):
    crops = np.full((4, SIZE, SIZE, 3), level, np.uint8)
    crops[3] += 1
    duplicates = group_duplicates(crops, BITS, CORRELATION)
    np.testing.assert_array_equal(duplicates.groups, [0, 0, 0, 1])
    assert duplicates.pairs.empty


def test_duplicates_are_found_in_mapped_files_and_among_none(people, tmp_path):
    np.save(tmp_path / "crops.npy", np.concatenate([people[:2], people[:1]]))
    mapped = np.load(tmp_path / "crops.npy", mmap_mode="r")
    np.testing.assert_array_equal(group_duplicates(mapped, BITS, CORRELATION).groups, [0, 1, 0])
    none = group_duplicates(mapped[:0], BITS, CORRELATION)
    assert none.groups.shape == (0,)
    assert list(none.pairs) == ["first", "second", "mirrored", "bits", "correlation"]


@pytest.mark.parametrize("side", [32, 260])
def test_crops_of_any_size_are_compared(people, side):
    resized = np.stack(
        [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in people[:10]]
    )
    assert perceptual_hashes(thumbnails(resized)).dtype == np.uint64
    pairs = near_duplicates(np.concatenate([resized, resized]), BITS, CORRELATION)
    assert (pairs["second"] - pairs["first"]).tolist() == [10] * 10


# --- all pairs, none left out -----------------------------------------------------------


def brute_force(hashes, others, max_bits):
    return {
        (i, j, bin(int(a) ^ int(b)).count("1"))
        for (i, a), (j, b) in itertools.product(enumerate(hashes), enumerate(others))
        if i < j and bin(int(a) ^ int(b)).count("1") <= max_bits
    }


def listed(found):
    """Return the pairs as a set, after seeing that none comes twice."""
    pairs = [tuple(row) for part in found for row in np.column_stack(part).tolist()]
    assert len(pairs) == len(set(pairs))
    return set(pairs)


@pytest.mark.parametrize("max_bits", [0, 4, 8, 26, 64])
def test_all_pairs_of_random_hashes_are_found_as_by_brute_force(max_bits):
    generator = np.random.default_rng(max_bits)
    hashes = generator.integers(0, 2**64, 120, np.uint64)
    flips = generator.integers(0, 64, (80, 5)).astype(np.uint64)
    near = hashes[:80] ^ np.bitwise_or.reduce(np.uint64(1) << flips, axis=1)
    hashes = np.concatenate([hashes, near])
    for others in (hashes, generator.permutation(hashes)):  # as those of mirrored images are
        expected = brute_force(hashes, others, max_bits)
        assert listed(close_hashes(hashes, others, max_bits)) == expected


def test_pairs_are_found_across_the_edges_of_tiles():
    generator = np.random.default_rng(0)
    number = TILE[1] + 3 * TILE[0] + 5
    hashes = generator.integers(0, 2**64, number, np.uint64)
    planted = []
    for first in (0, TILE[0] - 1, TILE[0], 2 * TILE[0] - 1, TILE[1] - 1, TILE[1]):
        for second in (first + 1, TILE[1] + 2 * TILE[0] + first % 7, number - 1 - first % 11):
            hashes[second] = hashes[first]
            planted.append((first, second))
    expected = {
        (int(i), int(j))
        for value in set(hashes[[first for first, _ in planted]].tolist())
        for i, j in itertools.combinations(np.flatnonzero(hashes == value), 2)
    }
    found = listed(close_hashes(hashes, hashes, 4))
    assert {(i, j) for i, j, _ in found} == expected


def test_many_equal_hashes_come_in_small_batches():
    parts = list(close_hashes(np.zeros(300, np.uint64), np.zeros(300, np.uint64), 0))
    assert max(len(first) for first, _, _ in parts) <= 2048
    assert sum(len(first) for first, _, _ in parts) == 300 * 299 // 2


@pytest.mark.parametrize(("tile", "batch"), [((1, 1), 1), ((7, 13), 3), ((1000, 1000), 10**6)])
@pytest.mark.parametrize("threads", [1, 4])
def test_neither_batches_nor_threads_change_the_groups(people, tile, batch, threads, monkeypatch):
    crops = np.concatenate([people, people[::3], people[::5, :, ::-1]])
    expected = group_duplicates(crops, max_bits=8, min_correlation=0.95)
    monkeypatch.setattr(module, "TILE", tile)
    monkeypatch.setattr(module, "BATCH", batch)
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        found = group_duplicates(crops, max_bits=8, min_correlation=0.95)
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(found.groups, expected.groups)
    assert found.pairs.equals(expected.pairs)
    assert len(set(expected.groups)) < len(crops)
