"""Likelihood, calibration error and temperature, by hand and against scikit-learn and scipy."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from stages.evaluation.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    null_error,
    reliability,
    scaled,
)


def test_the_likelihood_is_that_of_scikit_learn_and_finite_at_a_probability_of_zero():
    generator = np.random.default_rng(0)
    probabilities, true = generator.dirichlet(np.ones(5), 300), generator.integers(5, size=300)
    probabilities[0], true[0] = [1, 0, 0, 0, 0], 3
    likelihood = negative_log_likelihood(probabilities, true)
    assert likelihood.mean() == pytest.approx(log_loss(true, probabilities, labels=range(5)))
    assert likelihood[0] == pytest.approx(52 * math.log(2))


def test_the_calibration_error_is_what_one_counts_by_hand():
    # Two bins: 0.5 lies in the first (its upper edge), the others in the second.
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [0.125, 0.875], [1, 0]])
    diagram = reliability(probabilities, np.array([True, False, True, True]), bins=2)
    assert diagram.to_dict("list") == {
        "bin": [1, 2],
        "images": [1, 3],
        "confidence": [0.5, (0.75 + 0.875 + 1) / 3],
        "accuracy": [1, pytest.approx(2 / 3)],
    }
    wanted = 1 / 4 * 0.5 + 3 / 4 * (2.625 / 3 - 2 / 3)
    assert calibration_error(diagram) == pytest.approx(wanted)


def test_of_fifteen_bins_each_edge_belongs_to_the_bin_below_it():
    tops = np.arange(8, 16) / 15
    diagram = reliability(np.column_stack([tops, 1 - tops]), np.ones(8, bool), bins=15)
    assert diagram["bin"].tolist() == list(range(8, 16))


def test_predictions_as_sure_as_they_are_right_have_no_error():
    probabilities = np.repeat([[0.75, 0.25]], 4, axis=0)
    diagram = reliability(probabilities, np.array([True, True, True, False]), bins=15)
    assert calibration_error(diagram) == 0


def test_calibrated_predictions_err_by_chance_as_much_as_said():
    chance = np.random.default_rng(2)
    few, many = chance.dirichlet(np.ones(2), 50), chance.dirichlet(np.ones(2), 20000)
    mean, low, high = null_error(few, 15, 0.95, seed=1)
    assert 0.03 < low < mean < high < 0.25
    mean, low, high = null_error(many, 15, 0.95, seed=1)
    assert high < 0.01
    within = 0
    for _ in range(40):
        right = chance.random(20000) < many.max(axis=1)
        within += low <= calibration_error(reliability(many, right, 15)) <= high
    assert within >= 34


def test_a_temperature_divides_the_logits():
    logits = np.random.default_rng(0).normal(size=(20, 5))
    assert scaled(softmax(logits, axis=1), 2.5) == pytest.approx(softmax(logits / 2.5, axis=1))
    assert scaled(np.array([[1.0, 0.0]]), 4)[0] == pytest.approx([1, 2**-13], rel=1e-3)


def test_the_temperature_by_which_logits_were_heated_is_found_again():
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=2, size=(50_000, 5))
    chances = softmax(logits, axis=1)
    true = (chances.cumsum(axis=1) < generator.random((50_000, 1))).sum(axis=1)
    assert fit_temperature(softmax(3 * logits, axis=1), true) == pytest.approx(3, rel=0.02)
    assert fit_temperature(softmax(logits / 3, axis=1), true) == pytest.approx(1 / 3, rel=0.02)


def test_the_temperature_of_two_classes_is_the_slope_of_a_logistic_regression():
    # With two classes p(T) = sigmoid(logit / T): a regression on the logit without intercept.
    generator = np.random.default_rng(1)
    logit = generator.normal(scale=3, size=2000)
    true = (generator.random(2000) < 1 / (1 + np.exp(-logit / 2))).astype(np.int64)
    first = 1 / (1 + np.exp(logit))
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    slope = regression.fit(logit[:, np.newaxis], true).coef_[0, 0]
    found = fit_temperature(np.column_stack([first, 1 - first]), true)
    assert found == pytest.approx(1 / slope, rel=1e-4)


def test_where_all_are_right_the_temperature_ends_at_its_lower_bound():
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert fit_temperature(probabilities, np.array([0, 1])) == pytest.approx(0.05, rel=1e-3)
