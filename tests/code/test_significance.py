"""Paired tests against counts by hand, scipy and statsmodels."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from drawn import Draw
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from stages.comparison.significance import COLUMNS, describe, pairwise_tests
from stages.evaluation.predictions import Predictions

ALONE = np.arange(500)


def compared(runs: dict[str, Predictions], groups: np.ndarray, *options: float) -> pd.DataFrame:
    return pairwise_tests(runs, dict.fromkeys(runs, groups), *options)  # type: ignore


def test_each_pair_is_tested_on_each_task_that_both_have(draw: Draw):
    runs = {
        "mtl": draw(500, seed=1),
        "stl": draw(500, seed=1, skill=1.0, tasks=["gender"]),
        "age": draw(500, seed=1, tasks=["age"]),
    }
    table = compared(runs, ALONE, 0.95, 200, 1)
    pairs = table[["variant_a", "variant_b", "task"]].to_numpy().tolist()
    assert pairs == [["mtl", "stl", "gender"], ["mtl", "age", "age"]]
    assert list(table.columns) == COLUMNS
    assert compared({"stl": runs["stl"], "age": runs["age"]}, ALONE, 0.95, 200, 1).empty
    assert compared({"mtl": runs["mtl"]}, ALONE, 0.95, 200, 1).empty


def test_without_copies_the_tests_are_the_usual_ones(draw: Draw):
    a, b = draw(500, seed=1), draw(500, seed=1, skill=1.3)
    table = compared({"a": a, "b": b}, ALONE, 0.95, 5000, 1).set_index("task")
    for task in table.index:
        x, y = a.right(task), b.right(task)
        row = table.loc[task]
        assert row["difference"] == pytest.approx(x.mean() - y.mean())
        wins, losses = int((x & ~y).sum()), int((~x & y).sum())
        square = [[int((x & y).sum()), wins], [losses, int((~x & ~y).sum())]]
        assert row["p_mcnemar"] == pytest.approx(mcnemar(square, exact=True).pvalue)
        assert row["p_mcnemar"] == pytest.approx(binomtest(wins, wins + losses).pvalue)
        theirs = bootstrap(
            (x.astype(float) - y,), np.mean, n_resamples=5000, method="percentile", rng=2
        ).confidence_interval
        assert row[["low", "high"]].tolist() == pytest.approx(theirs, abs=0.005)
        # Both ask the same question, so they nearly agree.
        assert row["p_bootstrap"] == pytest.approx(row["p_mcnemar"], abs=0.08)
    assert table["p_holm"].tolist() == pytest.approx(
        multipletests(table["p_mcnemar"], method="holm")[1]
    )


def test_a_picture_that_stands_there_many_times_is_one_piece_of_evidence(draw: Draw):
    a = draw(60, seed=1, tasks=["gender"])
    a.predicted["gender"][:] = a.true["gender"]
    b = dataclasses.replace(a, predicted={"gender": a.true["gender"].copy()})
    b.predicted["gender"][:20] = 1 - a.true["gender"][:20]
    alone = compared({"a": a, "b": b}, np.arange(60), 0.95, 500, 1).iloc[0]
    assert alone["p_mcnemar"] == pytest.approx(2 * 0.5**20)
    assert alone["p_bootstrap"] == pytest.approx(2 / 501)
    copies = np.r_[np.zeros(20, int), np.arange(1, 41)]  # the twenty are one picture
    one = compared({"a": a, "b": b}, copies, 0.95, 500, 1).iloc[0]
    assert one["difference"] == alone["difference"] == pytest.approx(1 / 3)
    assert one["p_mcnemar"] == 1, "2 * 0.5 ** 1"
    assert one["p_bootstrap"] > 0.5, "a third of the resamples lack the picture"


def test_a_run_does_not_differ_from_itself(draw: Draw):
    table = compared({"a": draw(50, seed=1), "b": draw(50, seed=1)}, ALONE[:50], 0.95, 200, 1)
    assert (table[["p_bootstrap", "p_mcnemar", "p_holm"]] == 1).all(axis=None)
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)


def test_runs_of_other_images_are_paired_among_themselves(draw: Draw):
    runs = {
        "a": draw(50, seed=1),
        "a+fold-0": draw(50, seed=2),
        "b": draw(50, seed=1, skill=1.0),
        "b+fold-0": draw(50, seed=2, skill=1.0),
    }
    table = compared(runs, ALONE[:50], 0.95, 200, 1)
    pairs = table[["variant_a", "variant_b"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["a", "b"], ["a+fold-0", "b+fold-0"]]
    raw = table["p_mcnemar"].to_numpy()
    wanted = [p for part in (raw[:3], raw[3:]) for p in multipletests(part, method="holm")[1]]
    assert table["p_holm"].tolist() == pytest.approx(wanted), "a family for each set of images"
    assert all("fold" not in line for line in describe(table, runs, 0.05))


def test_a_sentence_tells_the_best_run_and_what_it_beats(draw: Draw):
    runs = {
        "weak": draw(500, seed=1, skill=0.1, tasks=["race"]),
        "good": draw(500, seed=1, skill=2.0, tasks=["race"]),
        "twin": draw(500, seed=1, skill=2.0, tasks=["race"]),
    }
    tests = compared(runs, ALONE, 0.95, 200, 1)
    (line,) = describe(tests, runs, 0.05)
    accuracy = runs["good"].right("race").mean()
    assert line == (
        f"race: good is most often right ({accuracy:.3f}), as often as twin; "
        "significantly more often than weak"
    )
    (line,) = describe(tests.head(1), {name: runs[name] for name in ("weak", "good")}, 0.05)
    assert line.endswith("; significantly more often than weak")
