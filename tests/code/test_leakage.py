"""The gap between the published protocol and the honest figures adds up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.comparison.leakage import explain_leakage
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.reporting.comparison_tables import describe_leakage, leakage_markdown

OWN = "mtl-cnn"


@pytest.fixture
def comparison() -> pd.DataFrame:
    """Two variants, one of which was rerun; it has no race head."""
    return pd.DataFrame(
        {
            "variant": [OWN, "other"],
            "age_accuracy": [0.5, 0.4],
            "gender_accuracy": [0.8, 0.7],
            "race_accuracy": [np.nan, 0.6],
            "rerun_age_accuracy": [0.82, np.nan],
            "rerun_gender_accuracy": [0.86, np.nan],
            "rerun_race_accuracy": [np.nan, np.nan],
        }
    )


def predictions(folder: Path, seen: list[int], age: list[int], gender: list[int]):
    """Write predictions, given as 1 for a right one and 0 for a wrong one."""
    table = {"name": [f"{i}.jpg" for i in range(len(seen))], "trained_on": seen}
    for task, right in (("age", age), ("gender", gender)):
        table |= {f"{task}_true": "a", f"{task}_predicted": ["ba"[i] for i in right]}
    write_csv(folder / f"{OWN}+published-split.csv", pd.DataFrame(table))


def test_the_accuracy_is_what_seen_and_unseen_images_give(comparison, tmp_path):
    predictions(tmp_path, [1] * 8 + [0] * 2, [1] * 8 + [1, 0], [1] * 7 + [0] + [1, 0])
    gap = explain_leakage(tmp_path, comparison).set_index("task")
    assert list(gap.index) == ["age", "gender"]
    assert set(gap["variant"]) == {OWN}
    age, gender = gap.loc["age"], gap.loc["gender"]
    assert (age["images"], age["seen_share"]) == (10, 0.8)
    assert (age["seen_accuracy"], age["unseen_accuracy"], age["rerun_accuracy"]) == (1, 0.5, 0.9)
    assert gender["seen_accuracy"] == 0.875
    assert gender["rerun_accuracy"] == pytest.approx(0.8 * 0.875 + 0.2 * 0.5)
    assert gender["expected_accuracy"] == pytest.approx(0.8 * 0.875 + 0.2 * 0.8)
    assert gender["honest_accuracy"] == 0.8


def test_the_sentences_have_the_numbers_of_the_largest_gap(comparison, tmp_path):
    predictions(tmp_path, [1] * 8 + [0] * 2, [1] * 8 + [1, 0], [1] * 7 + [0] + [1, 0])
    text = describe_leakage(explain_leakage(tmp_path, comparison))
    assert f"`{OWN}` in age" in text
    assert "trained on 80.0% of its 10 test images: 0.800 × 1.000 + 0.200 × 0.500 = 0.900." in text
    assert "its honest accuracy, 0.500, for the others" in text
    assert "0.800 × 1.000 + 0.200 × 0.500 = 0.900: what the honest" in text
    assert text.count(". ") == 1


def test_the_table_has_the_arithmetic_of_every_task(comparison, tmp_path):
    predictions(tmp_path, [1] * 8 + [0] * 2, [1] * 8 + [1, 0], [1] * 7 + [0] + [1, 0])
    lines = leakage_markdown(explain_leakage(tmp_path, comparison)).splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    assert rows[2:] == [
        [f"`{OWN}`", "age", "0.800", "1.000", "0.500", "0.900", "0.900", "0.500"],
        [f"`{OWN}`", "gender", "0.800", "0.875", "0.500", "0.800", "0.860", "0.800"],
    ]


@pytest.mark.parametrize("seen", [1, 0])
def test_the_sum_has_one_term_where_all_or_no_images_were_seen(comparison, tmp_path, seen):
    predictions(tmp_path, [seen] * 4, [1, 1, 1, 0], [1] * 4)
    gap = explain_leakage(tmp_path, comparison)
    assert "test images: 1.000 × 0.750 = 0.750." in describe_leakage(gap)
    assert gap["expected_accuracy"].iloc[0] == pytest.approx(0.75 if seen else 0.5)
    assert [row.count(" - ") for row in leakage_markdown(gap).splitlines()[-2:]] == [1, 1]


def test_without_a_rerun_there_is_nothing_to_explain(comparison, tmp_path):
    gap = explain_leakage(tmp_path, comparison.iloc[1:])
    assert gap.empty
    assert leakage_markdown(gap) == ""


def test_predictions_that_do_not_tell_what_was_trained_on_are_refused(comparison, tmp_path):
    predictions(tmp_path, [1], [1], [1])
    file = tmp_path / f"{OWN}+published-split.csv"
    write_csv(file, pd.read_csv(file).drop(columns="trained_on"))
    with pytest.raises(UserError, match=r"lacks the columns \['trained_on'\]"):
        explain_leakage(tmp_path, comparison)
