"""Scores against figures worked out by hand and against scikit-learn's."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import CLASSES, Draw, draw_table
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from stages.core.files import write_csv
from stages.core.params import load_params
from stages.evaluation.evaluate import evaluate
from stages.evaluation.predictions import Predictions, read_predictions
from stages.evaluation.scores import confusion, coverage, per_class, rates, score_table

WEIGHTS = {"age": 0.4, "gender": 0.2, "race": 0.4}
COMMITTED = load_params(Path(__file__).parents[2] / "params.yaml")
SETTINGS = COMMITTED.evaluate.model_copy(update={"resamples": 300})
PARAMS = COMMITTED.model_copy(update={"evaluate": SETTINGS})


@pytest.fixture
def four(tmp_path: Path) -> Predictions:
    """Four test images: no Asian, Indian or Others among them, one taken for Asian."""
    table = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "age_true": ["1-14", "26-40", "61-116", "61-116"],
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
    write_csv(tmp_path / "four.csv", table)
    return read_predictions(tmp_path / "four.csv", CLASSES)


def test_the_summary_is_what_one_counts_by_hand(four: Predictions):
    # gender: F1 of male 2*1*(2/3)/(5/3) = 4/5, of female 2*(1/2)*1/(3/2) = 2/3.
    # race: White 2*1*(1/2)/(3/2) = 2/3, Black 1, Asian (predicted, none there) 0; the two
    # that are neither there nor predicted say nothing.
    # NLL: the true classes have 1/2, 1/2, 1/4, 3/4 (gender) and 1, 1/2, 1/2, 1 (race).
    # ECE: gender: confidence 1/2 where 2 of 2 are right, 3/4 where 1 of 2 is. race: 1/2 where
    # 1 of 2 is right, 1 where 2 of 2 are.
    # The combined score is of these two tasks: (0.2 * 3/4 + 0.4 * 3/4) / 0.6.
    # AUC of gender: of the three pairs of a man and the woman two are ordered, one is a tie.
    gender = {"accuracy": 0.75, "macro_f1": round((4 / 5 + 2 / 3) / 2, 6)}
    race = {"accuracy": 0.75, "macro_f1": round((2 / 3 + 1 + 0) / 3, 6)}
    assert evaluate(four, np.arange(4), None, PARAMS).summary == {
        "images": 4,
        "gender": gender
        | {"nll": round(math.log(2 * 2 * 4 * 4 / 3) / 4, 6), "ece": 0.375}
        | {"roc_auc": round(2.5 / 3, 6)},
        "race": race | {"nll": round(math.log(2 * 2) / 4, 6), "ece": 0},
        "score": 0.75,
    }


def test_every_class_has_its_row_absent_ones_included(four: Predictions):
    table = per_class(four).set_index(["task", "class"])
    assert list(table.index) == [(t, name) for t in ("gender", "race") for name in CLASSES[t]]
    assert table.loc[("gender", "male")].tolist() == pytest.approx([1, 2 / 3, 4 / 5, 3])
    assert table.loc[("gender", "female")].tolist() == pytest.approx([1 / 2, 1, 2 / 3, 1])
    assert table.loc[("race", "White")].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2])
    assert table.loc[("race", "Asian")].tolist() == [0, 0, 0, 0]
    assert table.loc[("race", "Others")].tolist() == [0, 0, 0, 0]


def test_the_confusion_counts_pairs_and_shares_of_the_actual_class(four: Predictions):
    table = confusion(four).set_index(["task", "actual", "predicted"])
    assert len(table) == 2 * 2 + 5 * 5
    assert table["images"].groupby("task").sum().tolist() == [4, 4]
    assert table.loc[("gender", "male", "female")].tolist() == pytest.approx([1, 1 / 3])
    assert table.loc[("gender", "female", "male")].tolist() == [0, 0]
    assert table.loc[("race", "White", "Asian")].tolist() == [1, 0.5]
    assert table.loc[("race", "Asian", "Asian")].tolist() == [0, 0], "0 of 0 is shown as 0"


def test_the_scores_are_those_of_scikit_learn(draw: Draw):
    drawn = draw(400, seed=5)
    table = score_table(drawn, np.arange(400), {}, WEIGHTS, 0.95, 100, 1)
    value = table.set_index(["task", "metric"])["value"]
    for task in CLASSES:
        true, predicted = drawn.true[task], drawn.predicted[task]
        wanted = {
            "accuracy": accuracy_score(true, predicted),
            "balanced_accuracy": balanced_accuracy_score(true, predicted),
            "macro_f1": f1_score(true, predicted, average="macro"),
            "weighted_f1": f1_score(true, predicted, average="weighted"),
            "nll": log_loss(true, drawn.probabilities[task]),
        }
        assert value[task][list(wanted)].to_dict() == pytest.approx(wanted)
    near = abs(drawn.true["age"] - drawn.predicted["age"]) <= 1
    assert value["age", "one_off"] == pytest.approx(near.mean())
    assert "one_off" not in value["race"]
    combined = sum(WEIGHTS[task] * value[task, "accuracy"] for task in CLASSES)
    assert value["all", "score"] == pytest.approx(combined)


def test_an_absent_class_counts_as_in_scikit_learn():
    true, predicted = [0, 0, 1, 1, 1], [0, 3, 1, 1, 0]  # of four classes, 2 is nowhere
    counts = np.zeros((4, 4))
    np.add.at(counts, (true, predicted), 1)
    found = {name: float(value) for name, value in rates(counts).items()}
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = balanced_accuracy_score(true, predicted)
    assert found == pytest.approx(
        {
            "accuracy": 3 / 5,
            "balanced_accuracy": balanced,
            "macro_f1": f1_score(true, predicted, average="macro", zero_division=0),
            "weighted_f1": f1_score(true, predicted, average="weighted", zero_division=0),
        }
    )


def test_a_score_of_many_resamples_is_that_of_each_alone():
    counts = np.random.default_rng(0).integers(0, 9, size=(20, 5, 5)).astype(float)
    together = rates(counts, ordered=True)
    for i in range(20):
        alone = {name: float(v) for name, v in rates(counts[i], ordered=True).items()}
        assert alone == {name: values[i] for name, values in together.items()}


def test_the_intervals_hold_the_figures_and_copies_of_pictures_widen_them(draw: Draw):
    drawn = draw(400, seed=2)
    alone = score_table(drawn, np.arange(400), {}, WEIGHTS, 0.95, 500, 1)
    copies = score_table(drawn, np.arange(400) // 40, {}, WEIGHTS, 0.95, 500, 1)
    for table in (alone, copies):
        assert (table["low"] < table["value"]).all()
        assert (table["value"] < table["high"]).all()
    width = (alone["high"] - alone["low"]).mean()
    narrower = score_table(drawn, np.arange(400), {}, WEIGHTS, 0.5, 500, 1)
    assert (narrower["high"] - narrower["low"]).mean() < width
    # The binomial interval of an accuracy is 2 * 1.96 * sqrt(a (1 - a) / n) wide.
    row = alone.set_index(["task", "metric"]).loc[("race", "accuracy")]
    wanted = 2 * 1.96 * math.sqrt(row["value"] * (1 - row["value"]) / 400)
    assert row["high"] - row["low"] == pytest.approx(wanted, rel=0.12)


@pytest.mark.parametrize("right", [True, False])
def test_an_interval_has_a_width_where_all_images_are_right_or_none(right: bool, draw: Draw):
    drawn = draw(40, seed=2, skill=50.0, tasks=["gender"])
    if not right:
        drawn = replace(drawn, predicted={"gender": 1 - drawn.predicted["gender"]})
    groups = np.arange(40) // 2
    table = score_table(drawn, groups, {}, WEIGHTS, 0.95, 200, 1).set_index("metric")
    found = table.loc["accuracy", ["value", "low", "high"]].tolist()
    far = 1.96**2 / (20 + 1.96**2)  # Wilson's, of twenty pictures of two images each
    wanted = [1.0, 1 - far, 1.0] if right else [0.0, 0.0, far]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_the_mean_error_in_years_is_told_where_years_are_predicted(tmp_path: Path):
    table = draw_table(2, seed=1, tasks=["age"])
    table["years_true"], table["years_predicted"] = [30, 47], [31, 53]
    write_csv(tmp_path / "years.csv", table)
    read = read_predictions(tmp_path / "years.csv", CLASSES)
    age = evaluate(read, np.arange(2), None, PARAMS).summary["age"]
    assert isinstance(age, dict)
    assert (age["mae"], age["cs5"]) == ((1 + 6) / 2, 0.5)
    assert list(age) == ["accuracy", "macro_f1", "one_off", "nll", "mae", "cs5", "ece"]


def test_scores_of_some_images_are_those_of_these_images(tmp_path: Path):
    table = draw_table(90, seed=1)
    chance = np.random.default_rng(1)
    table["years_true"] = chance.integers(1, 90, 90)
    table["years_predicted"] = table["years_true"] + chance.integers(-9, 10, 90)
    write_csv(tmp_path / "some.csv", table)
    read = read_predictions(tmp_path / "some.csv", CLASSES)
    found = evaluate(read, np.arange(90), None, PARAMS)
    value = found.tables["scores"].set_index(["task", "metric"])
    middle = table[table["years_true"].between(21, 60)]
    errors = (middle["years_predicted"] - middle["years_true"]).abs()
    assert value.loc[("age", "mae_21_60"), "value"] == pytest.approx(errors.mean())
    assert value.loc[("age", "cs5_21_60"), "value"] == pytest.approx((errors <= 5).mean())
    adult = table[table["age_true"] != CLASSES["age"][0]]
    right = (adult["gender_true"] == adult["gender_predicted"]).mean()
    low, accuracy, high = value.loc[("gender", "accuracy_adult"), ["low", "value", "high"]]
    assert accuracy == pytest.approx(right)
    assert low < accuracy < high
    decade = found.tables["decades"].set_index("decade")
    assert decade["images"].sum() == 90
    fifties = table[table["years_true"].between(50, 59)]
    error = fifties["years_predicted"] - fifties["years_true"]
    wanted = [len(fifties), error.abs().mean(), error.mean(), (error.abs() <= 5).mean()]
    assert decade.loc[50].tolist() == pytest.approx(wanted)


def test_the_area_under_the_curve_is_that_of_all_pairs(draw: Draw):
    drawn = draw(200, seed=3)
    value = evaluate(drawn, np.arange(200), None, PARAMS).summary["gender"]["roc_auc"]
    female = drawn.probabilities["gender"][:, 1]
    women, men = female[drawn.true["gender"] == 1], female[drawn.true["gender"] == 0]
    assert value == pytest.approx((women[:, None] > men).mean(), abs=1e-3)


def test_the_most_confident_images_are_answered_first(four: Predictions):
    table = coverage(four).set_index(["task", "coverage"])
    assert table.loc[("race", 1.0)].tolist() == [0.5, 0.75]
    assert table.loc[("race", 0.5)].tolist() == [1.0, 1.0]
    # Gender: the two of confidence 3/4 come first; one is wrong.
    assert table.loc[("gender", 0.5)].tolist() == [0.75, 0.5]


@pytest.mark.parametrize(("images", "skill"), [(199, 4.0), (500, 50.0)], ids=["few", "all right"])
def test_a_temperature_that_rests_on_too_little_is_none(draw: Draw, images: int, skill: float):
    val = draw(images, seed=4, skill=skill)
    found = evaluate(draw(300, seed=3), np.arange(300), val, PARAMS)
    assert found.temperatures == {}
    assert "nll_scaled" not in set(found.tables["scores"]["metric"])


def test_scaling_is_fitted_on_validation_images_and_told_beside_the_unscaled(draw: Draw):
    test, val = draw(500, seed=3), draw(500, seed=4)
    found = evaluate(test, np.arange(500), val, PARAMS)
    value = found.tables["scores"].set_index(["task", "metric"])["value"]
    assert list(found.temperatures) == list(CLASSES)
    for task, temperature in found.temperatures.items():
        # Where the scaled likelihood of the validation images is best: no neighbour is better.
        losses = [
            log_loss(val.true[task], normalised(val.probabilities[task] ** (1 / t)))
            for t in (temperature * 0.99, temperature, temperature * 1.01)
        ]
        assert losses[1] < min(losses[0], losses[2])
        warmed = normalised(test.probabilities[task] ** (1 / temperature))
        assert value[task, "nll_scaled"] == pytest.approx(log_loss(test.true[task], warmed))
        assert value[task, "nll"] == pytest.approx(
            log_loss(test.true[task], test.probabilities[task])
        )
    sides = found.tables["reliability"].groupby(["task", "scaling"])["images"].sum()
    assert (sides == 500).all()
    assert len(sides) == 6


def normalised(values: np.ndarray) -> np.ndarray:
    return values / values.sum(axis=1, keepdims=True)
