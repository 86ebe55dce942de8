"""Soft labels: the mean over copies, and that losses and figures take it as labels."""

import numpy as np
import pandas as pd
import pytest

from stages.core.files import write_csv
from stages.dataset.examples import places_of_copies
from stages.learning.objective import (
    AGE_DISTRIBUTION,
    Objective,
    balanced_class_weights,
    sampling_probabilities,
)
from stages.learning.soft_labels import soft_labels
from stages.networks.heads import AGE_YEARS

CLASSES = {"age": 5, "gender": 2}
LABELS = {
    "age": np.array([0, 2, 4]),
    "gender": np.array([0, 1, 1]),
    AGE_YEARS: np.array([9, 31, 70]),
}


def objective() -> Objective:
    even = dict.fromkeys(CLASSES, 1.0)
    return Objective(CLASSES, even, dict.fromkeys(CLASSES, 0.1), None, 2.0, 0.1)


def test_copies_share_the_mean_of_their_labels_and_others_keep_theirs():
    soft = soft_labels(LABELS, CLASSES, [np.array([0, 2])], 116, 2.0)
    assert soft["age"].tolist() == [[0.5, 0, 0, 0, 0.5], [0, 0, 1, 0, 0], [0.5, 0, 0, 0, 0.5]]
    assert soft["gender"].tolist() == [[0.5, 0.5], [0, 1], [0.5, 0.5]]
    assert soft[AGE_YEARS].tolist() == [39.5, 31, 39.5]
    assert soft[AGE_DISTRIBUTION].sum(axis=1) == pytest.approx(1)
    peaks = np.argsort(soft[AGE_DISTRIBUTION][0])[-2:] + 1
    assert sorted(peaks) == [9, 70], "two ages, not one between them"


def test_without_copies_they_teach_what_class_indices_teach():
    generator = np.random.default_rng(1)
    outputs = {t: generator.dirichlet(np.ones(n), 3).astype("f4") for t, n in CLASSES.items()}
    outputs[AGE_YEARS] = generator.dirichlet(np.ones(116), 3).astype("f4")
    soft = soft_labels(LABELS, CLASSES, [], 116, 2.0)
    hard_total, _ = objective()(LABELS, outputs)
    soft_total, _ = objective()(soft, outputs)
    assert float(soft_total) == pytest.approx(float(hard_total), rel=1e-6)
    for task, weights in balanced_class_weights(LABELS, CLASSES).items():
        assert balanced_class_weights(soft, CLASSES)[task] == pytest.approx(weights)
    chances = sampling_probabilities(LABELS, CLASSES)
    assert sampling_probabilities(soft, CLASSES) == pytest.approx(chances)


def test_copies_are_found_among_the_images_that_are_learnt_from(tmp_path):
    table = {"name": ["b", "d", "a", "z", "c", "e"], "conflict": [7, 7, 3, 3, None, None]}
    write_csv(tmp_path / "list.csv", pd.DataFrame(table).astype({"conflict": "Int64"}))
    places = places_of_copies(tmp_path / "list.csv", ["a", "b", "c", "d"])
    assert [group.tolist() for group in places] == [[1, 3]]
