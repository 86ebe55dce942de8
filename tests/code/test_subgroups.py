"""Subgroups against counts by hand, statsmodels and fairlearn."""

import numpy as np
import pandas as pd
import pytest
from drawn import CLASSES, Draw
from fairlearn.metrics import MetricFrame, equalized_odds_difference
from sklearn.metrics import accuracy_score
from statsmodels.stats.proportion import proportion_confint

from stages.evaluation.predictions import Predictions
from stages.evaluation.subgroups import GROUPINGS, TRAITS, fairness_table, subgroup_table

CELLS = 2 + 5 + 5 + 10 + 10 + 25 + 50


def cells_of(predictions: Predictions, trait: str) -> pd.Series:
    return pd.Series(np.array(CLASSES[trait])[predictions.true[trait]])


def test_every_cell_has_a_row_and_the_accuracy_of_fairlearn(draw: Draw):
    drawn = draw(600, seed=1)
    table = subgroup_table(drawn, np.arange(600), 0.95, 30)
    assert len(table) == 3 * CELLS
    traits = pd.DataFrame({trait: cells_of(drawn, trait) for trait in TRAITS})
    for task in CLASSES:
        for by in GROUPINGS:
            chosen = table[(table["task"] == task) & (table["by"] == " ".join(by))]
            frame = MetricFrame(
                metrics=accuracy_score,
                y_true=drawn.true[task],
                y_pred=drawn.predicted[task],
                sensitive_features=traits[list(by)],
            )
            ours = chosen.set_index(list(by))["accuracy"]
            for cell, wanted in frame.by_group.items():
                assert ours[cell] == pytest.approx(wanted, nan_ok=True)
            assert chosen["images"].sum() == 600
            assert (chosen[[t for t in TRAITS if t not in by]] == "").all(axis=None)


def test_the_interval_is_wilsons_and_copies_count_as_one_picture(draw: Draw):
    drawn = draw(100, seed=1)
    men = drawn.true["gender"] == 0
    right = int(drawn.right("race")[men].sum())

    def interval(groups: np.ndarray) -> list[float]:
        table = subgroup_table(drawn, groups, 0.9, 30)
        rows = table[(table["task"] == "race") & (table["gender"] == "male")]
        return rows.iloc[0][["low", "high"]].tolist()

    wanted = proportion_confint(right, men.sum(), alpha=0.1, method="wilson")
    assert interval(np.arange(100)) == pytest.approx(wanted)
    # Two halves of the men, each one picture: as if there were two images.
    halves = np.where(np.cumsum(men) <= men.sum() // 2, 0, 1)
    sizes = np.bincount(halves[men])
    effective = men.sum() ** 2 / (sizes**2).sum()
    share = right / men.sum()
    wanted = proportion_confint(share * effective, effective, alpha=0.1, method="wilson")
    assert interval(halves) == pytest.approx(wanted)


def test_small_and_empty_cells_are_shown_and_marked_but_are_never_the_worst(draw: Draw):
    drawn = draw(90, seed=1)
    drawn.true["race"][drawn.true["race"] == 4] = 0  # nobody is of race Others
    drawn.predicted["gender"][:] = drawn.true["gender"]
    few = np.flatnonzero(drawn.true["race"] == 3)
    drawn.predicted["gender"][few] = 1 - drawn.true["gender"][few]  # all Indians wrong
    table = subgroup_table(drawn, np.arange(90), 0.95, min_subgroup_size=len(few) + 1)
    rows = table[(table["task"] == "gender") & (table["by"] == "race")].set_index("race")
    assert rows.loc["Indian", ["images", "accuracy", "small"]].tolist() == [len(few), 0, True]
    assert rows.loc["Others", ["images", "small"]].tolist() == [0, True]
    assert rows.loc["Others", ["accuracy", "low", "high"]].isna().all()
    fair = fairness_table(drawn, table, len(few) + 1).set_index(["task", "by"])
    enough = int((~rows["small"]).sum())
    assert fair.loc[("gender", "race"), "groups"] == enough
    assert fair.loc[("gender", "race"), "gap"] == 0 if enough > 1 else True
    everyone = subgroup_table(drawn, np.arange(90), 0.95, min_subgroup_size=1)
    fair = fairness_table(drawn, everyone, 1).set_index(["task", "by"])
    row = fair.loc[("gender", "race")]
    assert row[["worst", "worst_accuracy", "best_accuracy", "gap"]].tolist() == ["Indian", 0, 1, 1]


def test_the_odds_are_the_largest_of_fairlearn_over_the_classes(draw: Draw):
    drawn = draw(2000, seed=1)
    table = subgroup_table(drawn, np.arange(2000), 0.95, 30)
    fair = fairness_table(drawn, table, 30).set_index(["task", "by"])
    for task, trait in (("age", "gender"), ("race", "gender"), ("race", "age"), ("gender", "race")):
        wanted = {
            name: equalized_odds_difference(
                drawn.true[task] == code,
                drawn.predicted[task] == code,
                sensitive_features=cells_of(drawn, trait),
            )
            for code, name in enumerate(CLASSES[task])
        }
        row = fair.loc[(task, trait)]
        assert row["odds_difference"] == pytest.approx(max(wanted.values()), abs=1e-9)
        assert row["odds_difference"] == pytest.approx(wanted[row["odds_class"]], abs=1e-9)


def test_there_are_no_odds_for_groups_made_by_the_task_itself(draw: Draw):
    drawn = draw(2000, seed=1)
    fair = fairness_table(drawn, subgroup_table(drawn, np.arange(2000), 0.95, 30), 30)
    own = [task in by.split() for task, by in zip(fair["task"], fair["by"], strict=True)]
    assert fair["odds_difference"][own].isna().all()
    assert fair["odds_difference"][~np.array(own)].notna().any()


def test_a_group_with_few_images_of_a_class_does_not_decide_the_odds(draw: Draw):
    drawn = draw(400, seed=1)
    women = drawn.true["gender"] == 1
    drawn.true["race"][women] = 0
    drawn.true["race"][np.flatnonzero(women)[:5]] = 1  # five Black women, all recognised
    drawn.predicted["race"][:] = drawn.true["race"]
    drawn.predicted["race"][(drawn.true["race"] == 1) & ~women] = 0  # no Black man is
    table = subgroup_table(drawn, np.arange(400), 0.95, 6)
    fair = fairness_table(drawn, table, 6).set_index(["task", "by"])
    assert pd.isna(fair.loc[("race", "gender"), "odds_difference"])
    fair = fairness_table(drawn, table, 5).set_index(["task", "by"])
    assert fair.loc[("race", "gender"), "odds_difference"] == 1
    assert fair.loc[("race", "gender"), "odds_class"] == "Black"


def test_a_run_of_one_task_is_told_by_race_and_age_too(draw: Draw):
    table = subgroup_table(draw(300, seed=1, tasks=["gender"]), np.arange(300), 0.95, 30)
    assert set(table["task"]) == {"gender"}
    assert len(table) == CELLS
