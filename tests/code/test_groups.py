"""Splits and folds of conflicting and other groups, their promises tried on random data."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from workspace import inside

from stages import split
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.dataset.split_files import DROPPED, FOLD, read_folds, read_split
from stages.splitting.duplicates import Duplicates
from stages.splitting.stratified import (
    count_duplicates,
    divide,
    find_conflicting,
    stratified_split,
)

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SEEDS = range(40)


def random_case(seed, across):
    """Return random strata, and groups within one stratum or across several, some very large."""
    generator = np.random.default_rng(seed)
    number, cells = int(generator.integers(20, 600)), int(generator.integers(1, 30))
    weights = generator.dirichlet(np.full(cells, 0.5))
    cell = generator.choice(cells, number, p=weights)
    groups, order = np.arange(number), generator.permutation(number)
    if not across:
        order = order[np.argsort(cell[order], kind="stable")]
    largest = int(generator.integers(2, 12))
    start, end = 0, number * generator.uniform(0, 1)
    while start < end:
        size = int(generator.integers(2, largest + 1))
        members = order[start : start + size]
        start += size
        if not across:
            members = members[cell[members] == cell[members[0]]]
        groups[members] = members[0]
    return [(int(value), 0) for value in cell], groups


def largest_deviation(strata, dealt, shares):
    """Return by how many images each stratum misses its target in the worst of the splits."""
    frame = pd.crosstab(pd.Series([str(s) for s in strata]), dealt).reindex(columns=list(shares))
    frame = frame.fillna(0).to_numpy()
    target = frame.sum(axis=1, keepdims=True) * np.array(list(shares.values()))
    return np.abs(frame - target).max(axis=1), frame.sum(axis=1)


def largest_group(strata, groups):
    """Return for each stratum, in the order of its text, the size of the largest group there."""
    frame = pd.DataFrame({"stratum": [str(s) for s in strata], "group": groups})
    frame["size"] = frame.groupby("group")["group"].transform("size")
    return frame.groupby("stratum")["size"].max().to_numpy()


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("parts", [3, 5, 10])
def test_each_stratum_misses_its_target_by_less_than_an_image_or_its_largest_group(across, parts):
    for seed in SEEDS:
        strata, groups = random_case(seed, across)
        shares = SHARES if parts == 3 else {str(part): 1 / parts for part in range(parts)}
        split = stratified_split(strata, groups, shares, seed)
        deviation, _ = largest_deviation(strata, split, shares)
        # Groups of one stratum keep the bound by construction; those across several nearly do.
        assert (deviation < largest_group(strata, groups) + across).all(), seed


@pytest.mark.parametrize("policy", ["keep", "train-only", "drop"])
@pytest.mark.parametrize("across", [False, True])
def test_groups_are_not_divided_under_any_policy_for_conflicting_ones(policy, across):
    for seed in SEEDS:
        strata, groups = random_case(seed, across)
        division = divide(strata, groups, SHARES, policy, 5, seed)
        table = pd.DataFrame({"split": division.split, "fold": division.fold.fillna(-1)})
        assert (table.groupby(groups).nunique() == 1).all(axis=None)
        assert set(division.split) <= {*SHARES, DROPPED}
        assert table["fold"].between(-1, 4).all()


def test_conflicting_groups_lie_in_train_and_in_no_fold_and_nothing_is_lost():
    for seed in SEEDS:
        strata, groups = random_case(seed, across=True)
        division = divide(strata, groups, SHARES, "train-only", 4, seed)
        assert set(division.split[division.conflicting]) <= {"train"}
        np.testing.assert_array_equal(division.fold.isna(), division.conflicting)
        assert DROPPED not in division.split


def test_conflicting_groups_can_be_dropped_and_the_others_keep_their_shares():
    for seed in SEEDS:
        strata, groups = random_case(seed, across=True)
        division = divide(strata, groups, SHARES, "drop", 4, seed)
        np.testing.assert_array_equal(division.split == DROPPED, division.conflicting)
        np.testing.assert_array_equal(division.fold.isna(), division.conflicting)
        kept = np.flatnonzero(~division.conflicting)
        if len(kept):
            rest = [strata[i] for i in kept]
            deviation, _ = largest_deviation(rest, division.split[kept], SHARES)
            assert (deviation < largest_group(rest, groups[kept])).all()


def test_conflicting_groups_can_be_assigned_like_others():
    strata, groups = random_case(3, across=True)
    division = divide(strata, groups, SHARES, "keep", 0, 3)
    assert division.conflicting.any()
    np.testing.assert_array_equal(division.split, stratified_split(strata, groups, SHARES, 3))
    assert division.fold.isna().all()


def test_single_images_make_up_for_the_disputed_ones_of_their_stratum():
    strata = [("young",), ("old",)] * 500
    groups = np.arange(1000)
    groups[:200] //= 2  # a hundred pairs of young and old
    split = divide(strata, groups, SHARES, "train-only", 0, 0).split
    assert Counter(split) == {"train": 800, "val": 100, "test": 100}
    assert Counter(split[::2]) == {"train": 400, "val": 50, "test": 50}


def test_strata_keep_their_shares_unless_conflicting_images_exceed_trains():
    for seed in SEEDS:
        strata, groups = random_case(seed, across=bool(seed % 2))
        split = divide(strata, groups, SHARES, "train-only", 0, seed)
        deviation, sizes = largest_deviation(strata, split.split, SHARES)
        texts = pd.Series([str(s) for s in strata])
        conflicting = pd.Series(split.conflicting).groupby(texts).sum().to_numpy()
        too_many = np.maximum(conflicting - 0.8 * sizes, 0)
        bound = np.maximum(largest_group(strata, groups), too_many + 1)
        assert (deviation < bound).all(), seed


def test_folds_are_of_one_size_and_stratified():
    for seed in SEEDS:
        strata, groups = random_case(seed, across=False)
        fold = divide(strata, groups, SHARES, "train-only", 5, seed).fold.astype(str)
        shares = {str(number): 0.2 for number in range(5)}
        deviation, _ = largest_deviation(strata, fold.to_numpy(), shares)
        assert (deviation < largest_group(strata, groups)).all(), seed


def test_folds_do_not_follow_the_split():
    division = divide(["one"] * 1000, np.arange(1000), SHARES, "train-only", 5, 1)
    tested = division.fold[division.split == "test"].value_counts()
    assert len(tested) == 5
    assert tested.max() < 40


def test_the_number_of_folds_does_not_change_the_split_and_a_seed_repeats_both():
    strata, groups = random_case(5, across=True)
    none, some, again = (divide(strata, groups, SHARES, "drop", n, 5) for n in (0, 5, 5))
    np.testing.assert_array_equal(none.split, some.split)
    pd.testing.assert_series_equal(some.fold, again.fold)


def test_a_group_is_disputed_where_any_of_its_classes_differ():
    strata = [(1, 0, 2), (1, 0, 2), (1, 0, 2), (1, 1, 2), (3, 0, 0)]
    groups = np.array([0, 0, 1, 1, 2])
    np.testing.assert_array_equal(
        find_conflicting(strata, groups), [False, False, True, True, False]
    )


def test_no_images_are_divided_into_nothing():
    division = divide([], np.zeros(0, np.int64), SHARES, "train-only", 3, 0)
    assert len(division.split) == len(division.fold) == len(division.conflicting) == 0


def test_groups_pairs_and_disputes_are_counted():
    pairs = pd.DataFrame(
        {"first": [0, 0, 3], "second": [1, 2, 4], "mirrored": [False, True, False]}
    )
    groups, identical = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 3, 4])
    strata = ["a", "a", "b", "a", "a", "c"]
    conflicting = find_conflicting(strata, groups)
    assert count_duplicates(Duplicates(groups, identical, pairs), strata, conflicting) == {
        "groups_of_identical_images": 1,
        "groups": 2,
        "images_in_groups": 5,
        "images_in_largest_group": 3,
        "pairs": 3,
        "pairs_mirrored": 1,
        "conflicting_groups": 1,
        "conflicting_images": 3,
        "conflicting_pairs": 1,
    }


def test_dropped_images_and_folds_are_read_as_they_were_written(tmp_path):
    table = pd.DataFrame(
        {"name": ["a", "b", "NA"], "split": ["val", DROPPED, "train"], "group": [0, 1, 2]}
    )
    write_csv(tmp_path / "split.csv", table)
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.csv"), table)
    fold = pd.Series([0, pd.NA, 2], dtype="Int64", name=FOLD)
    written = table[["name"]].assign(fold=fold).dropna()
    write_csv(tmp_path / "folds.csv", written)
    pd.testing.assert_series_equal(read_folds(tmp_path / "folds.csv", table["name"]), fold)
    write_csv(tmp_path / "folds.csv", written.head(0))
    assert read_folds(tmp_path / "folds.csv", table["name"]).isna().all()


def test_a_fold_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "folds.csv").write_text("name,fold\na,first\n")
    with pytest.raises(UserError, match=r"folds\.csv: malformed"):
        read_folds(tmp_path / "folds.csv", pd.Series(["a"]))


def test_fewer_days_than_folds_are_refused(reported: Path, tmp_path: Path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(reported, folder)
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("folds_by: picture", "folds_by: date"))
    before = (folder / "data/split/folds.csv").read_bytes()
    monkeypatch.setattr(split, "date_in", lambda name: name[:1] < "5")
    with inside(folder), pytest.raises(UserError, match=r"split\.folds: 3 folds .* of 2 days"):
        split.main()
    assert (folder / "data/split/folds.csv").read_bytes() == before
