"""Photographs of one person: pairs by embeddings, groups, the split, and what the audit lists."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from stages.auditing.similar import CAPTION, count_similar, sheet_of_pairs, similar_uses
from stages.identity import people
from stages.identity.people import count_people, group_people, similar_pairs
from stages.splitting.stratified import Related, divide

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_pairs_are_those_of_a_search_over_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(people, "ROWS", 7)
    vectors = unit(np.random.default_rng(1).normal(size=(50, 4)))
    exact = vectors.astype(np.float32)
    wanted = {(i, j): exact[i] @ exact[j] for i, j in combinations(range(50), 2)}
    wanted = {pair: value for pair, value in wanted.items() if value >= 0.8}
    found = similar_pairs(vectors, 0.8)
    assert len(wanted) > 20
    pairs = zip(found["first"], found["second"], strict=True)
    assert dict(zip(pairs, found["similarity"], strict=True)) == pytest.approx(wanted, abs=1e-5)
    assert found["similarity"].is_monotonic_decreasing


def test_without_embeddings_there_is_no_pair():
    assert similar_pairs(np.zeros((0, 1), np.float16), 0.5).empty


def test_a_person_is_whom_copies_and_similar_pairs_connect():
    copies = np.array([0, 1, 2, 1, 3, 4, 5])  # 1 and 3 show one picture
    pairs = pd.DataFrame({"first": [0, 3], "second": [1, 5], "similarity": [0.9, 0.6]})
    person = group_people(copies, pairs)
    assert person.tolist() == [0, 0, 1, 0, 2, 0, 3]  # 0 ~ 1 = 3 ~ 5
    assert count_people(person, copies) == {
        "people_with_several_pictures": 1,
        "images_of_people_with_several_pictures": 4,
        "images_of_largest_person": 4,
    }
    assert group_people(copies, pairs[:0]).tolist() == copies.tolist()


@pytest.mark.parametrize("policy", ["keep", "train-only", "drop"])
def test_people_lie_in_one_split_and_only_copies_conflict(policy: str):
    chance = np.random.default_rng(2)
    copies = np.sort(chance.integers(0, 500, 600))
    person = copies // 3
    strata = [("a", "b")[value] for value in chance.integers(0, 2, 600)]
    result = divide(strata, person, SHARES, policy, 4, 1, Related(copies))
    labels = pd.Series(strata).groupby(copies).transform("nunique") > 1
    assert result.conflicting.tolist() == labels.tolist(), "two ages of a person are no conflict"
    table = pd.DataFrame({"split": result.split, "fold": result.fold, "person": person})
    table["conflicting"] = result.conflicting
    kept = table[table["split"] != "dropped"]
    assert (kept.groupby("person")["split"].nunique() == 1).all()
    assert (kept.groupby("person")["fold"].nunique(dropna=False) == 1).all()
    dropped = set(table.index) - set(kept.index)
    assert dropped == (set(table.index[labels]) if policy == "drop" else set())
    if policy == "train-only":
        theirs = table[table["person"].isin(table["person"][labels])]
        assert set(theirs["split"]) == {"train"}
        assert theirs["fold"].isna().all()


def test_the_audit_lists_used_images_that_resemble_a_test_image():
    names = ["a", "b", "c", "d"]
    pairs = pd.DataFrame(
        {"first": [0, 1, 0, 2], "second": [1, 2, 2, 3], "similarity": [0.9, 0.8, 0.6, 0.5]}
    )
    used = pd.DataFrame({"name": ["b", "d", "d"], "used_for": ["train", "train", "val"]})
    found = similar_uses(["a", "c"], used, names, pairs)
    assert found.to_numpy().tolist() == [
        ["a", "b", "train", 0.9],
        ["c", "b", "train", 0.8],
        ["c", "d", "train", 0.5],
        ["c", "d", "val", 0.5],
    ]
    assert count_similar(found, 0.85) == {"likely_copies": 1, "similar": 2}
    crops = np.stack([np.full((32, 32, 3), 10 * i, np.uint8) for i in range(4)])
    sheet = sheet_of_pairs(crops, names, found, seed=1)
    assert sheet.shape == (32 + CAPTION, 6 * (64 + CAPTION), 3)
    assert sheet[0, :64:32].tolist() == [[0] * 3, [10] * 3], "the most similar pair comes first"
