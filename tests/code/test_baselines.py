"""What names tell without a pixel, by hand, and folds that leave dates out."""

import numpy as np
import pandas as pd
import pytest

from stages.comparison.baselines import name_baselines
from stages.faces.labels import date_in, time_in
from stages.reporting.comparison_tables import baselines_markdown
from stages.splitting.stratified import Related, divide

BOUNDS = (14, 25, 40, 60, 116)


def test_the_commonest_class_of_a_time_is_guessed_else_that_of_all():
    train = [
        *("30_0_0_20170101010000000.jpg", "31_0_0_20170101020000000.jpg"),
        *("70_1_2_20170102030000000.jpg", "70_1_2_20170102030000001.jpg"),
        *("5_1_2_20170102040000000.jpg", "33_0_0_20170103040000000.jpg"),
    ]
    test = ["71_1_2_20170102050000000.jpg", "5_1_2_20170102040000009.jpg", "30_0_0_20180101.jpg"]
    split = pd.DataFrame({"name": train + test, "split": ["train"] * 6 + ["test"] * 3})
    found = name_baselines(split, BOUNDS).set_index("baseline")
    # Commonest: 26-40, male, White; on 2 January: 61-116, female, Asian; at 4 o'clock 1-14.
    assert found.loc["commonest class"].tolist() == pytest.approx([1 / 3] * 3)
    assert found.loc["date in the name"].tolist() == pytest.approx([2 / 3, 1, 1])
    assert found.loc["hour in the name"].tolist() == [1, 1, 1]
    text = baselines_markdown(found.reset_index())
    assert "date in the name 0.667, 1.000, 1.000; hour" in text


def test_other_names_tell_nothing():
    split = pd.DataFrame({"name": ["a.jpg", "b.jpg"], "split": ["train", "test"]})
    found = name_baselines(split, BOUNDS)
    assert found.empty
    assert baselines_markdown(found) == ""


def test_the_time_is_what_follows_the_labels():
    assert time_in("100_0_0_20170112213500903.jpg.chip.jpg") == "20170112213500903"
    assert date_in("100_0_0_20170112213500903.jpg.chip.jpg") == "20170112"
    assert (time_in("26_1_2_0001.jpg"), date_in("26_1_2_0001.jpg")) == ("", "26_1_2_0001.jpg")


@pytest.mark.parametrize("policy", ["keep", "train-only"])
def test_folds_divide_neither_a_date_nor_the_copies_of_a_picture(policy: str):
    chance = np.random.default_rng(1)
    dates = chance.integers(0, 40, 1000)
    copies = np.where(chance.random(1000) < 0.02, 7, np.arange(1000))  # some across dates
    strata = ["one"] * 1000
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    result = divide(strata, copies, shares, policy, 4, 1, Related(series=dates))
    first = pd.Series(dates).groupby(copies).transform("first")
    assert (result.fold.groupby(first.to_numpy()).nunique() == 1).all()
    assert (result.fold.groupby(copies).nunique() == 1).all()
    assert result.fold.value_counts().between(200, 300).all()
    plain = divide(strata, copies, shares, policy, 4, 1)
    assert (plain.split == result.split).all(), "the split itself does not change"
