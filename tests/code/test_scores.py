"""Scores from prediction files, against figures worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.reporting.scores import (
    confusion,
    per_class,
    prediction_table,
    read_predictions,
    summarise,
)
from stages.workspace.errors import UserError
from stages.workspace.files import write_csv

CLASSES = {
    "gender": ["male", "female"],
    "race": ["White", "Black", "Asian", "Indian", "Others"],
}


@pytest.fixture
def four() -> pd.DataFrame:
    """Four test images: no Asian, Indian or Others among them, one taken for Asian."""
    return pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "gender_true": ["male", "male", "male", "female"],
            "gender_predicted": ["male", "male", "female", "female"],
            "race_true": ["White", "White", "Black", "Black"],
            "race_predicted": ["White", "Asian", "Black", "Black"],
            "gender_p_male": [0.5, 0.5, 0.25, 0.25],
            "gender_p_female": [0.5, 0.5, 0.75, 0.75],
            "race_p_White": [1, 0.5, 0, 0],
            "race_p_Black": [0, 0, 0.5, 1],
            "race_p_Asian": [0, 0.5, 0.5, 0],
            "race_p_Indian": [0.0] * 4,
            "race_p_Others": [0.0] * 4,
        }
    )


def test_the_summary_is_what_one_counts_by_hand(four: pd.DataFrame):
    # gender: F1 of male 2*1*(2/3)/(5/3) = 4/5, of female 2*(1/2)*1/(3/2) = 2/3.
    # race: White 2*1*(1/2)/(3/2) = 2/3, Black 1, Asian (predicted, none there) 0; the two
    # that are neither there nor predicted say nothing.
    # NLL: the true classes have 1/2, 1/2, 1/4, 3/4 (gender) and 1, 1/2, 1/2, 1 (race).
    gender = {"accuracy": 0.75, "macro_f1": round((4 / 5 + 2 / 3) / 2, 6)}
    race = {"accuracy": 0.75, "macro_f1": round((2 / 3 + 1 + 0) / 3, 6)}
    assert summarise(four, CLASSES) == {
        "images": 4,
        "gender": gender | {"nll": round(math.log(2 * 2 * 4 * 4 / 3) / 4, 6)},
        "race": race | {"nll": round(math.log(2 * 2) / 4, 6)},
    }


def test_every_class_has_its_row_absent_ones_included(four: pd.DataFrame):
    table = per_class(four, CLASSES).set_index(["task", "class"])
    assert list(table.index) == [(task, name) for task, names in CLASSES.items() for name in names]
    assert table.loc[("gender", "male")].tolist() == pytest.approx([1, 2 / 3, 4 / 5, 3])
    assert table.loc[("gender", "female")].tolist() == pytest.approx([1 / 2, 1, 2 / 3, 1])
    assert table.loc[("race", "White")].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2])
    assert table.loc[("race", "Asian")].tolist() == [0, 0, 0, 0]
    assert table.loc[("race", "Others")].tolist() == [0, 0, 0, 0]


def test_the_confusion_counts_pairs_and_shares_of_the_actual_class(four: pd.DataFrame):
    table = confusion(four, CLASSES).set_index(["task", "actual", "predicted"])
    assert len(table) == 2 * 2 + 5 * 5
    assert table["images"].groupby("task").sum().tolist() == [4, 4]
    assert table.loc[("gender", "male", "female")].tolist() == pytest.approx([1, 1 / 3])
    assert table.loc[("gender", "female", "male")].tolist() == [0, 0]
    assert table.loc[("race", "White", "Asian")].tolist() == [1, 0.5]
    assert table.loc[("race", "Asian", "Asian")].tolist() == [0, 0], "0 of 0 is shown as 0"


def test_the_prediction_table_names_the_class_of_highest_probability():
    table = prediction_table(
        ["x", "y"],
        {"gender": np.array([0, 1])},
        {"gender": np.array([[0.25, 0.75], [0.125, 0.875]], np.float32)},
        {"gender": ["male", "female"]},
        np.array([30, 40]),
    )
    assert table.to_dict("list") == {
        "name": ["x", "y"],
        "gender_true": ["male", "female"],
        "gender_predicted": ["female", "female"],
        "gender_p_male": [0.25, 0.125],
        "gender_p_female": [0.75, 0.875],
    }


def test_the_age_in_years_is_the_expected_one_and_its_error_is_told():
    years = np.zeros((2, 116), np.float32)
    years[0, [29, 31]] = 0.5  # 30 and 32 years
    years[1, 49] = 1
    classes = {"age": ["young", "old"]}
    table = prediction_table(
        ["x", "y"],
        {"age": np.array([0, 1])},
        {"age": np.array([[0.75, 0.25], [0.5, 0.5]], np.float32), "age_years": years},
        classes,
        np.array([30, 47]),
    )
    assert table["years_true"].tolist() == [30, 47]
    assert table["years_predicted"].tolist() == pytest.approx([31, 50])
    assert summarise(table, classes)["age"]["mae"] == pytest.approx((1 + 3) / 2)


AGES = np.arange(1, 21)

# Names that a CSV reader would like to take for numbers, gaps or several fields.
AWKWARD = {"gender": ["0", "1"], "race": ["NA", "007", "a, b", 'the "rest"', "null"]}


def test_predictions_come_back_as_they_were_written(tmp_path: Path):
    generator = np.random.default_rng(3)
    labels = {task: generator.integers(len(names), size=20) for task, names in AWKWARD.items()}
    chances = {
        task: generator.dirichlet(np.ones(len(names)), 20).astype(np.float32)
        for task, names in AWKWARD.items()
    }
    table = prediction_table([f"{i:03}" for i in range(20)], labels, chances, AWKWARD, AGES)
    write_csv(tmp_path / "v.csv", table)
    again = read_predictions(tmp_path / "v.csv", AWKWARD)
    texts = ["name", *(f"{task}_{side}" for task in AWKWARD for side in ("true", "predicted"))]
    assert again[texts].to_dict("list") == table[texts].to_dict("list")
    for task, names in AWKWARD.items():
        columns = [f"{task}_p_{name}" for name in names]
        assert again[columns].to_numpy() == pytest.approx(table[columns].to_numpy(), rel=1e-5)
    for task in AWKWARD:
        written = pytest.approx(summarise(table, AWKWARD)[task], abs=2e-6)  # six digits each
        assert summarise(again, AWKWARD)[task] == written


def test_missing_columns_are_named(tmp_path: Path, four: pd.DataFrame):
    four.drop(columns=["name", "race_true"]).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(UserError, match=r"v\.csv: lacks the columns \['name', 'race_true'\]"):
        read_predictions(tmp_path / "v.csv", CLASSES)


def test_a_file_without_images_says_so(tmp_path: Path, four: pd.DataFrame):
    four.head(0).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(UserError, match=r"v\.csv: lacks any image"):
        read_predictions(tmp_path / "v.csv", CLASSES)


def test_a_missing_file_says_what_to_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"v\.csv: missing; run `dvc repro -f evaluate`"):
        read_predictions(tmp_path / "v.csv", CLASSES)
