"""Subsets of labelled examples: seeded, nested, whole in every part."""

from itertools import pairwise

import numpy as np
import pytest

from stages.dataset.examples import LabelledFaces


@pytest.fixture
def faces() -> LabelledFaces:
    number = np.arange(200)
    return LabelledFaces(
        np.zeros((300, 2, 2, 3), np.uint8),
        [f"{i}.jpg" for i in number],
        number + 100,
        {"gender": number % 2},
        number % 90,
    )


def test_a_smaller_share_is_part_of_a_larger_one(faces: LabelledFaces):
    names = [set(faces.subset(share, 1).names) for share in (0.05, 0.1, 0.15, 0.5, 1.0)]
    assert [len(drawn) for drawn in names] == [10, 20, 30, 100, 200]
    assert all(small < large for small, large in pairwise(names))


def test_the_whole_is_unchanged_and_a_tiny_share_is_not_empty(faces: LabelledFaces):
    whole = faces.subset(1.0, 1)
    assert whole.names == faces.names
    assert (whole.rows == faces.rows).all()
    assert len(faces.subset(1e-9, 1).names) == 1


def test_the_seed_draws_and_rows_and_labels_stay_with_their_names(faces: LabelledFaces):
    first, again, other = (faces.subset(0.2, seed) for seed in (1, 1, 2))
    assert first.names == again.names != other.names
    numbers = np.array([int(name.removesuffix(".jpg")) for name in first.names])
    assert (np.diff(numbers) > 0).all()
    assert (first.rows == numbers + 100).all()
    assert (first.labels["gender"] == numbers % 2).all()
    assert (first.ages == numbers % 90).all()
