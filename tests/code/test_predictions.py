"""Prediction files: what is written comes back, and what is wrong in one is told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.paths import RunPaths
from stages.evaluation.predictions import (
    count_splits,
    groups_of,
    prediction_table,
    read_predictions,
)

AGES = np.arange(1, 21)
# Names that a CSV reader would like to take for numbers, gaps or several fields.
AWKWARD = {"gender": ["0", "1"], "race": ["NA", "007", "a, b", 'the "rest"', "null"]}
GENDER = {"gender": ["male", "female"]}


def two(**changed: object) -> pd.DataFrame:
    columns: dict[str, object] = {
        "name": ["a", "b"],
        "gender_true": ["male", "female"],
        "gender_predicted": ["male", "male"],
        "gender_p_male": [0.9, 0.6],
        "gender_p_female": [0.1, 0.4],
    }
    return pd.DataFrame({k: v for k, v in (columns | changed).items() if v is not None})


def test_the_table_names_the_class_of_highest_probability_and_the_truth_of_every_task():
    table = prediction_table(
        ["x", "y"],
        {"gender": np.array([0, 1]), "race": np.array([1, 0])},
        {"gender": np.array([[0.25, 0.75], [0.125, 0.875]], np.float32)},
        {"gender": ["male", "female"], "race": ["White", "Black"]},
        np.array([30, 40]),
    )
    assert table.to_dict("list") == {
        "name": ["x", "y"],
        "gender_true": ["male", "female"],
        "gender_predicted": ["female", "female"],
        "gender_p_male": [0.25, 0.125],
        "gender_p_female": [0.75, 0.875],
        "race_true": ["Black", "White"],
    }


def test_the_age_in_years_is_the_median_of_its_distribution(tmp_path: Path):
    years = np.zeros((2, 116), np.float32)
    years[0, [29, 30, 89]] = 0.2, 0.4, 0.4  # 30, 31 and 90 years
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
    write_csv(tmp_path / "v.csv", table)
    errors = read_predictions(tmp_path / "v.csv", classes).year_errors
    assert errors is not None
    assert errors.tolist() == pytest.approx([1, 3])


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
    assert again.names == [f"{i:03}" for i in range(20)]
    assert again.year_errors is None
    for task in AWKWARD:
        assert again.true[task].tolist() == labels[task].tolist()
        assert again.predicted[task].tolist() == chances[task].argmax(axis=1).tolist()
        assert again.probabilities[task] == pytest.approx(chances[task], abs=1e-5)
        assert again.probabilities[task].sum(axis=1) == pytest.approx(1, abs=1e-15)


def test_a_run_of_one_task_has_that_task_only_and_the_truth_of_all(tmp_path: Path):
    write_csv(tmp_path / "v.csv", two(race_true=["White", "Black"]))
    read = read_predictions(tmp_path / "v.csv", GENDER | {"race": ["White", "Black"]})
    assert read.tasks == ["gender"]
    assert read.true["race"].tolist() == [0, 1]
    assert read.right("gender").tolist() == [True, False]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": None, "gender_true": None}, r"lacks the columns \['name', 'gender_true'\]"),
        ({"gender_p_male": None}, r"lacks the columns \['gender_p_male'\]"),
        ({"gender_predicted": None}, r"lacks the columns \['gender_predicted'\]"),
        (
            dict.fromkeys(("gender_predicted", "gender_p_male", "gender_p_female")),
            "lacks the predictions of any task",
        ),
        ({"name": ["a", "a"]}, "'a' stands there twice"),
        ({"gender_true": ["man", "female"]}, "gender_true 'man' is not one of"),
        ({"gender_predicted": ["male", ""]}, "gender_predicted '' is not one of"),
        ({"gender_p_male": [0.9, 0.1]}, "gender are negative or do not sum to 1"),
        ({"gender_p_male": [1.1, 0.6], "gender_p_female": [-0.1, 0.4]}, "are negative"),
        ({"gender_p_male": ["much", 0.6]}, "not a number"),
        ({"gender_p_male": ["", 0.6]}, "not a number"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path: Path, changed: dict[str, object], told: str):
    write_csv(tmp_path / "v.csv", two(**changed))
    with pytest.raises(UserError, match=rf"v\.csv: .*{told}"):
        read_predictions(tmp_path / "v.csv", GENDER)


def test_a_file_without_images_says_so(tmp_path: Path):
    write_csv(tmp_path / "v.csv", two().head(0))
    with pytest.raises(UserError, match=r"v\.csv: lacks any image"):
        read_predictions(tmp_path / "v.csv", GENDER)


def test_a_missing_file_says_what_to_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"v\.csv: missing; run `dvc repro -f evaluate`"):
        read_predictions(tmp_path / "v.csv", GENDER)


def test_groups_are_found_by_name_in_the_order_of_the_predictions(tmp_path: Path):
    write_csv(tmp_path / "v.csv", two())
    read = read_predictions(tmp_path / "v.csv", GENDER)
    split = pd.DataFrame(
        {"name": ["b", "c", "a"], "split": ["test", "val", "train"], "group": [7, 8, 9]}
    )
    assert groups_of(read, split).tolist() == [9, 7]
    assert count_splits(read, split) == {"train": 1, "test": 1}
    with pytest.raises(UserError, match=r"split\.csv: lacks the predicted image 'a'"):
        groups_of(read, split.head(2))


def test_the_file_of_the_test_split_has_the_name_of_the_run():
    assert RunPaths("v+native").predictions("test") == Path("data/predictions/v+native.csv")
    assert RunPaths("v+native").predictions("val") == Path("data/predictions/v+native.val.csv")
