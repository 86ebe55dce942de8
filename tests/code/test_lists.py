"""The lists of each run: honest, of a fold, of the published protocol."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.run_names import RunName
from stages.dataset.split_files import read_lists
from stages.splitting.lists import lists_of, published_lists

NAMES = pd.Series([f"{number}.jpg" for number in range(5005)])


@pytest.fixture(scope="module")
def published():
    return published_lists(NAMES, seed=1)


@pytest.fixture
def split():
    return pd.DataFrame(
        {
            "name": list("abcdefgh"),
            "split": ["train", "val", "test", "train", "test", "val", "train", "dropped"],
            "group": range(8),
            "fold": pd.array([0, 0, 1, 1, 2, 2, None, None], "Int64"),
        }
    )


def chosen(lists, side):
    return "".join(lists["name"][lists[side] == 1])


def test_the_honest_lists_are_the_splits(split, published):
    for run in ("v", "v+native", "v+seed-7"):
        lists = lists_of(RunName.parse(run), split, published)
        assert [chosen(lists, side) for side in ("train", "val", "test")] == ["adg", "bf", "ce"]


@pytest.mark.parametrize(
    ("fold", "train", "val", "test"),
    [(0, "efg", "cd", "ab"), (1, "abg", "ef", "cd"), (2, "cdg", "ab", "ef")],
)
def test_a_fold_is_tested_the_next_validates_and_the_rest_trains_except_dropped_images(
    split, published, fold, train, val, test
):
    lists = lists_of(RunName.parse(f"v+fold-{fold}"), split, published)
    assert [chosen(lists, side) for side in ("train", "val", "test")] == [train, val, test]


def test_a_fold_that_is_not_there_is_refused(split, published):
    with pytest.raises(UserError, match=r"fold-3: folds\.csv has 3 folds; set split\.folds"):
        lists_of(RunName.parse("v+fold-3"), split, published)
    with pytest.raises(UserError, match=r"fold-0: .* has 0 folds"):
        lists_of(
            RunName.parse("v+fold-0"), split.assign(fold=pd.array([None] * 8, "Int64")), published
        )


def test_the_published_lists_have_the_sizes_of_take_and_skip(published):
    assert published[["train", "val", "test"]].sum().tolist() == [4004, 500, 501]
    assert published["name"].tolist() == NAMES.tolist()


def test_the_published_lists_are_independent_of_each_other(published):
    test = published[published["test"] == 1]
    assert test["train"].mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 501))
    assert test["val"].mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 501))
    shares = [published_lists(NAMES, seed).query("test == 1")["train"].mean() for seed in range(50)]
    assert np.mean(shares) == pytest.approx(0.8, abs=0.01)


def test_the_published_lists_are_those_that_tensorflow_draws_in_three_passes():
    """Overlaps of take and skip of a reshuffled dataset are those of independent orders."""
    tf = pytest.importorskip("tensorflow")
    files = tf.data.Dataset.range(1000).shuffle(1000, seed=3)
    train = set(files.take(800).as_numpy_iterator())
    test = list(files.skip(800).skip(100).as_numpy_iterator())
    assert len(test) == 100
    assert 0.65 < np.isin(test, list(train)).mean() < 0.95


def test_the_published_lists_depend_on_the_seed_alone(published):
    assert published_lists(NAMES, 1).equals(published)
    assert not published_lists(NAMES, 2).equals(published)


def test_the_published_lists_are_taken_as_they_are(split, published):
    assert lists_of(RunName.parse("v+published-split"), split, published) is published


def test_lists_survive_their_file_and_broken_ones_are_refused(tmp_path: Path, published):
    file = tmp_path / "lists" / "published-split.csv"
    write_csv(file, published)
    assert read_lists(file).astype({"train": int, "val": int, "test": int}).equals(published)
    write_csv(file, pd.concat([published, published.head(1)]))
    with pytest.raises(UserError, match=r"duplicate name '0\.jpg'"):
        read_lists(file)
    write_csv(file, published.assign(val=2))
    with pytest.raises(UserError, match="column val has values other than 0 and 1"):
        read_lists(file)
    with pytest.raises(UserError, match=r"none\.csv: missing; run `dvc repro -f lists`"):
        read_lists(tmp_path / "lists" / "none.csv")
