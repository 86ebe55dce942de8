"""MixUp: mixtures of images and labels in the same shares."""

import numpy as np
import pytest

from stages.learning.mixup import MixUp

IMAGES = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (0, 100, 200)])
LABELS = {"gender": np.eye(3, dtype=np.float32), "age_years": np.array([10.0, 20.0, 70.0])}


def test_images_and_labels_are_mixed_in_the_same_share_of_which_the_own_is_the_larger():
    images, labels = MixUp(0.4, seed=1)(IMAGES, LABELS)
    images, labels = np.asarray(images), {k: np.asarray(v) for k, v in labels.items()}
    assert images.dtype == np.uint8
    shares = labels["gender"][[0, 2], [0, 2]]
    assert (shares >= 0.5).all()
    assert labels["gender"].sum(axis=1) == pytest.approx(1)
    assert labels["gender"][1].tolist() == pytest.approx([0, 1, 0]), "with itself"
    assert images[0, 0, 0, 0] == pytest.approx(200 * (1 - shares[0]), abs=0.51)
    assert images[2, 0, 0, 0] == pytest.approx(200 * shares[1], abs=0.51)
    assert labels["age_years"][0] == pytest.approx(10 * shares[0] + 70 * (1 - shares[0]))


def test_features_stay_floats_and_shares_differ_from_batch_to_batch():
    mixup, features = MixUp(0.4, seed=1), IMAGES.astype(np.float32)
    first, second = (np.asarray(mixup(features, {})[0]) for _ in range(2))
    assert first.dtype == np.float32
    assert not np.array_equal(first, second)
    assert np.array_equal(first, MixUp(0.4, seed=1)(features, {})[0])
