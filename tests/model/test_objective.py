"""The objective, against figures worked out by hand and scikit-learn's weights."""

import math

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from stages.learning.objective import (
    Objective,
    balanced_class_weights,
    expected_years,
    sampling_probabilities,
)
from stages.networks.heads import AGE_YEARS

CLASSES = {"age": 5, "gender": 2}
ALIKE = {"age": 1.0, "gender": 1.0}
SHARP = {"age": 0.0, "gender": 0.0}
LABELS = {"age": np.array([0, 4]), "gender": np.array([0, 1])}
OUTPUTS = {
    "age": np.array([[0.5, 0.2, 0.1, 0.1, 0.1], [0.1, 0.2, 0.2, 0.25, 0.25]], np.float32),
    "gender": np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
}


def objective(**changes: object) -> Objective:
    settings = {
        "classes": CLASSES,
        "loss_weights": ALIKE,
        "label_smoothing": SHARP,
        "class_weights": None,
        "age_sigma": 2.0,
    }
    return Objective(**settings | changes)


def test_the_loss_is_the_weighted_sum_of_the_mean_cross_entropies():
    total, losses = objective(loss_weights={"age": 0.4, "gender": 2.0})(LABELS, OUTPUTS)
    age, gender = -math.log(0.5 * 0.25) / 2, -math.log(0.75 * 0.5) / 2
    assert float(losses["age"]) == pytest.approx(age)
    assert float(losses["gender"]) == pytest.approx(gender)
    assert float(total) == pytest.approx(0.4 * age + 2 * gender)


def test_smoothing_spreads_a_share_of_the_label_as_keras_does():
    _, losses = objective(label_smoothing={"age": 0.1, "gender": 0.0})(LABELS, OUTPUTS)
    wanted = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(
        np.eye(5, dtype=np.float32)[LABELS["age"]], OUTPUTS["age"]
    )
    assert float(losses["age"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(losses["gender"]) == pytest.approx(-math.log(0.75 * 0.5) / 2)


def test_a_class_counts_by_its_weight():
    weights = {"age": np.array([3.0, 1, 1, 1, 0.5]), "gender": np.ones(2)}
    _, losses = objective(class_weights=weights)(LABELS, OUTPUTS)
    assert float(losses["age"]) == pytest.approx(-(3 * math.log(0.5) + math.log(0.25) / 2) / 2)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = {"age": np.array([0] * 7 + [1] * 2 + [4]), "gender": np.array([0] * 5 + [1] * 5)}
    weights = balanced_class_weights(labels, CLASSES)
    present = np.array([0, 1, 4])
    wanted = compute_class_weight("balanced", classes=present, y=labels["age"])
    assert weights["age"][present] == pytest.approx(wanted)
    assert weights["age"][[2, 3]].tolist() == [0, 0]
    assert weights["gender"] == pytest.approx([1, 1])
    assert weights["age"][labels["age"]].mean() == pytest.approx(1)


def test_chances_make_the_classes_of_a_task_equally_frequent():
    labels = {"gender": np.array([0] * 9 + [1])}
    chances = sampling_probabilities(labels, {"gender": 2})
    assert chances.sum() == pytest.approx(1)
    assert chances[labels["gender"] == 1].sum() == pytest.approx(0.5)


def test_the_error_of_the_expected_age_counts_by_its_weight():
    years = np.zeros((2, 116), np.float32)
    years[0, 19], years[1, [29, 39]] = 1, 0.5  # 20 years; 30 or 40 years
    labels = LABELS | {AGE_YEARS: np.array([20, 38])}
    plain = objective()(labels, OUTPUTS | {AGE_YEARS: years})[1]["age"]
    counted = objective(age_error_weight=0.1)(labels, OUTPUTS | {AGE_YEARS: years})[1]["age"]
    assert float(counted - plain) == pytest.approx(0.1 * (0 + 3) / 2, rel=1e-4)


def test_years_add_a_divergence_that_is_0_for_the_label_distribution_itself():
    ages = np.array([30, 71])
    years = np.arange(1, 117)
    around = np.exp(-(((years - ages[:, None]) / 2.0) ** 2) / 2)
    around /= around.sum(axis=1, keepdims=True)
    labels = LABELS | {AGE_YEARS: ages}
    _, right = objective()(labels, OUTPUTS | {AGE_YEARS: around.astype(np.float32)})
    _, groups = objective()(LABELS, OUTPUTS)
    assert float(right["age"]) == pytest.approx(float(groups["age"]), abs=1e-5)
    uniform = np.full((2, 116), 1 / 116, np.float32)
    _, wrong = objective()(labels, OUTPUTS | {AGE_YEARS: uniform})
    entropy = -(around * np.log(np.clip(around, 1e-30, None))).sum(axis=1).mean()
    wanted = float(groups["age"]) + math.log(116) - entropy
    assert float(wrong["age"]) == pytest.approx(wanted, abs=1e-3)


def test_the_expected_year_is_the_mean_of_the_distribution():
    years = np.zeros((1, 116), np.float32)
    years[0, [19, 39]] = 0.25, 0.75  # 20 and 40 years
    assert float(expected_years(years)[0]) == pytest.approx(35)
