"""The bootstrap over duplicate groups, against scipy's and against what must hold."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from stages.evaluation.bootstrap import interval, p_value, resampled_sums

RIGHT = np.random.default_rng(0).random(400) < 0.8
ALONE = np.arange(400)


def test_without_copies_the_interval_is_that_of_scipy():
    sums = resampled_sums(RIGHT[:, np.newaxis], ALONE, 20_000, seed=1)
    low, high = interval(sums[:, 0] / 400, 0.95)
    theirs = bootstrap(
        (RIGHT,), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert [float(low), float(high)] == pytest.approx(theirs, abs=0.003)


def test_every_resample_has_whole_groups_as_many_as_there_are():
    groups = np.array([5, 5, 5, 2, 9])
    members = np.eye(3)[[0, 0, 0, 1, 2]]  # images of groups 5, 2 and 9
    sums = resampled_sums(members, groups, 500, seed=0)
    drawn = sums / [3, 1, 1]
    assert (drawn == np.round(drawn)).all()
    assert (drawn.sum(axis=1) == 3).all()
    assert drawn.mean(axis=0) == pytest.approx(1, abs=0.15)


def test_each_image_four_times_gives_no_narrower_interval_than_once():
    once = resampled_sums(RIGHT[:, np.newaxis], ALONE, 2000, seed=1) / 400
    copied = resampled_sums(np.repeat(RIGHT, 4)[:, np.newaxis], np.repeat(ALONE, 4), 2000, 1)
    assert copied / 1600 == pytest.approx(once)
    as_if_alone = resampled_sums(np.repeat(RIGHT, 4)[:, np.newaxis], np.arange(1600), 2000, 1)
    assert (as_if_alone / 1600).std() == pytest.approx(once.std() / 2, rel=0.1)


def test_the_same_seed_gives_the_same_resamples_and_another_others():
    values = np.random.default_rng(1).normal(size=(400, 2))
    first = resampled_sums(values, ALONE, 600, seed=1)
    assert (resampled_sums(values, ALONE, 600, seed=1) == first).all()
    alone = resampled_sums(values[:, :1], ALONE, 600, seed=1)
    assert alone[:, 0] == pytest.approx(first[:, 0])
    assert (resampled_sums(values, ALONE, 600, seed=2) != first).any()


def test_the_p_value_counts_resamples_beyond_zero_on_both_sides():
    assert p_value(np.array([-1.0, 1, 2, 3, 4, 5, 6, 7, 8])) == pytest.approx(2 * (1 + 1) / 10)
    assert p_value(np.arange(1.0, 20)) == pytest.approx(2 / 20), "never 0"
    assert p_value(np.zeros(9)) == 1
    assert p_value(np.array([[-1.0, 1], [1, 1], [0, 1]])).tolist() == [1, 0.5]
