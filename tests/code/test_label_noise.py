"""The share of wrong labels by copies, and the ceiling that it sets, against counts by hand."""

import numpy as np
import pandas as pd
import pytest

from stages.comparison.label_noise import label_noise
from stages.core.sections import TASKS
from stages.reporting.comparison_tables import noise_markdown

BOUNDS = (14, 25, 40, 60, 116)


def tables(pairs: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of copies, a triple and singles; pair 0 disagrees in race, the triple in all."""
    groups = [*np.repeat(np.arange(pairs), 2), *[pairs] * 3, *range(pairs + 1, pairs + 50)]
    names = [f"{i}.jpg" for i in range(len(groups))]
    split = pd.DataFrame({"name": names, "group": groups})
    conflicting = pd.DataFrame(
        [
            *((0, 30, 1, 2), (0, 26, 1, 4)),  # 26 and 30 are one age group
            *((pairs, 30, 0, 0), (pairs, 33, 0, 1), (pairs, 70, 1, 2)),
        ],
        columns=["group", "age", "gender", "race"],
    )
    return split, conflicting


def test_all_labels_of_a_picture_but_the_commonest_are_wrong():
    split, conflicting = tables(40)
    found = label_noise(split, conflicting, BOUNDS, 0.95, 500, 1).set_index("task")
    assert (found["groups"] == 41).all()
    assert (found["images"] == 83).all()
    # Age: 70 among 30 and 33. Gender: one of three. Race: one of two, and two of three.
    assert found["wrong"].to_dict() == pytest.approx(
        {"age": 1 / 83, "gender": 1 / 83, "race": 3 / 83}
    )
    assert found["disagreeing"].tolist() == pytest.approx([1 / 41, 1 / 41, 2 / 41])
    assert (found["low"] < found["wrong"]).all()
    assert (found["wrong"] < found["high"]).all()


def test_a_few_copies_tell_nothing():
    noise = label_noise(*tables(20), BOUNDS, 0.95, 500, 1)
    assert noise.empty
    assert noise_markdown(noise, pd.DataFrame()) == ""


def test_published_accuracies_above_the_ceiling_are_counted():
    noise = label_noise(*tables(40), BOUNDS, 0.95, 500, 1)
    published = pd.DataFrame({f"{task}_accuracy": [0.97, 0.99, None] for task in TASKS})
    text = noise_markdown(noise, published)
    assert "age group 1.2% [0.0%, " in text
    assert "above 0.988, 0.988, 0.964 is not" in text
    assert "1 (0) of 2 in age group; 1 (0) of 2 in gender; 2 (0) of 2 in race." in text
