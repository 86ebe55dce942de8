"""The split, its promises tried on many random data sets; duplicates; one split's examples."""

from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.dataset.examples import read_examples
from stages.dataset.split_files import SPLITS, read_split
from stages.faces.index import Row, read_cropped, write_faces
from stages.splitting.duplicates import group_identical
from stages.splitting.stratified import count_strata, stratified_split

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
TARGET = np.array(list(SHARES.values()))
TASKS = ("age", "gender", "race")
BOUNDS = [14, 25, 40, 60, 116]


def random_case(seed, grouped):
    """Return random strata of very different sizes, and groups: all single, or some of several."""
    generator = np.random.default_rng(seed)
    number = int(generator.integers(30, 1500))
    cells = int(generator.integers(1, 50))
    weights = generator.dirichlet(np.full(cells, 0.5))
    strata = [(int(cell), int(cell) % 2) for cell in generator.choice(cells, number, p=weights)]
    groups = np.arange(number)
    if grouped:
        for _ in range(int(generator.integers(1, number // 6))):
            members = generator.choice(number, int(generator.integers(2, 5)), replace=False)
            groups[members] = groups[members[0]]
    shares = SHARES if seed % 2 else {"train": 0.6, "val": 0.25, "test": 0.15}
    return strata, groups, shares


def counts(split, shares):
    return np.array([(split == name).sum() for name in shares])


CASES = range(40)


@pytest.mark.parametrize("grouped", [False, True])
def test_every_image_is_in_exactly_one_split(grouped):
    for seed in CASES:
        strata, groups, shares = random_case(seed, grouped)
        split = stratified_split(strata, groups, shares, seed)
        assert split.shape == (len(strata),)
        assert set(split) <= set(shares)


def test_near_duplicates_never_straddle_the_split():
    for seed in CASES:
        strata, groups, shares = random_case(seed, grouped=True)
        split = stratified_split(strata, groups, shares, seed)
        table = pd.DataFrame({"group": groups, "split": split})
        assert (table.groupby("group")["split"].nunique() == 1).all()


def test_each_stratum_comes_within_one_image_of_its_target():
    for seed in CASES:
        strata, groups, shares = random_case(seed, grouped=False)
        split = stratified_split(strata, groups, shares, seed)
        for stratum, size in Counter(strata).items():
            inside = np.array([other == stratum for other in strata])
            deviation = counts(split[inside], shares) - size * np.array(list(shares.values()))
            assert np.abs(deviation).max() < 1


def test_the_totals_are_within_one_image_of_their_targets():
    for seed in CASES:
        strata, groups, shares = random_case(seed, grouped=False)
        split = stratified_split(strata, groups, shares, seed)
        deviation = counts(split, shares) - len(strata) * np.array(list(shares.values()))
        assert np.abs(deviation).max() <= 1


def test_with_groups_each_stratum_still_comes_within_the_size_of_the_largest_group():
    for seed in CASES:
        strata, groups, shares = random_case(seed, grouped=True)
        split = stratified_split(strata, groups, shares, seed)
        largest = np.bincount(groups).max()
        for stratum, size in Counter(strata).items():
            inside = np.array([other == stratum for other in strata])
            deviation = counts(split[inside], shares) - size * np.array(list(shares.values()))
            assert np.abs(deviation).max() < largest + 1


def test_single_images_make_up_for_the_groups_of_their_stratum():
    strata = ["one"] * 300
    groups = np.arange(300)
    groups[:20] = np.arange(20) // 2 + 1000  # ten pairs
    split = stratified_split(strata, groups, SHARES, 0)
    np.testing.assert_array_equal(counts(split, SHARES), [240, 30, 30])


def test_pairs_are_dealt_to_all_splits_by_their_shares():
    strata = ["one"] * 4000
    groups = np.arange(4000)
    groups[:2000] //= 2
    split = stratified_split(strata, groups, SHARES, 0)
    pairs = counts(split[:2000:2], SHARES) / 1000
    assert np.abs(pairs - TARGET).max() < 0.04


def test_a_group_of_several_strata_is_in_one_split():
    strata = ["young", "old"] * 50
    groups = np.arange(100)
    groups[:10] = 500
    split = stratified_split(strata, groups, SHARES, 0)
    assert len(set(split[:10])) == 1


def test_a_group_larger_than_any_target_still_lies_in_one_split():
    split = stratified_split(["one"] * 10, np.array([7] * 9 + [8]), SHARES, 0)
    assert len(set(split[:9])) == 1


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    strata, groups, shares = random_case(3, grouped=True)
    first, again, other = (stratified_split(strata, groups, shares, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_order_of_the_images_does_not_decide_their_split():
    split = stratified_split(["one"] * 1000, np.arange(1000), SHARES, 0)
    thirds = [counts(part, SHARES) / len(part) for part in np.array_split(split, 3)]
    assert np.abs(np.array(thirds) - TARGET).max() < 0.06


def test_strata_that_are_too_small_for_all_splits_are_counted():
    strata = ["a"] * 100 + ["b"] * 3 + ["c"] * 2 + ["d"]
    found = count_strata(strata, len(SHARES))
    assert found == {"strata": 4, "strata_too_small": 2, "images_in_strata_too_small": 3}


def test_many_small_strata_still_fill_every_split():
    split = stratified_split(list(range(500)), np.arange(500), SHARES, 0)
    np.testing.assert_array_equal(counts(split, SHARES), [400, 50, 50])


@pytest.mark.parametrize("size", [3, 4, 5, 6, 8, 12, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_in_balanced_data_of_small_strata_no_split_comes_short_of_a_class(size: int, seed: int):
    table = pd.DataFrame(product(range(5), range(2), range(5), range(size)))[[0, 1, 2]]
    strata = list(table.itertuples(index=False, name=None))
    table["split"] = stratified_split(strata, np.arange(len(table)), SHARES, seed)
    for classes in (0, 1, 2):
        found = table.groupby([classes, "split"]).size().unstack(fill_value=0)
        wanted = table.groupby(classes).size()
        for name, share in SHARES.items():
            short = (wanted * share - found[name]) / (wanted * share)
            assert short.max() <= 1 / 3, f"{name} is short of a class in column {classes}"
    np.testing.assert_allclose(counts(table["split"], SHARES), len(table) * TARGET, atol=1)


def test_a_class_that_is_a_single_value_is_dealt_like_one_in_a_tuple():
    values = [number // 4 for number in range(200)]
    single = stratified_split(values, np.arange(200), SHARES, 0)
    in_tuple = stratified_split([(value,) for value in values], np.arange(200), SHARES, 0)
    assert (counts(single, SHARES) == counts(in_tuple, SHARES)).all()


def test_no_images_are_split_into_nothing():
    assert stratified_split([], np.zeros(0, np.int64), SHARES, 0).shape == (0,)
    assert count_strata([], len(SHARES))["strata"] == 0


# --- duplicates -------------------------------------------------------------------------


def test_exactly_the_equal_crops_share_a_group():
    crops = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    crops[3] = crops[0]
    crops[5] = crops[0]
    crops[4] = crops[1]
    crops[4, 7, 7, 2] ^= 1  # one bit: not identical
    np.testing.assert_array_equal(group_identical(crops), [0, 1, 2, 0, 3, 0])


def test_groups_are_found_in_mapped_files_and_among_none(tmp_path):
    np.save(tmp_path / "crops.npy", np.zeros((3, 4, 4, 3), np.uint8))
    mapped = np.load(tmp_path / "crops.npy", mmap_mode="r")
    np.testing.assert_array_equal(group_identical(mapped), [0, 0, 0])
    none = group_identical(mapped[:0])
    assert none.shape == (0,)
    assert none.dtype == np.int64


def test_identical_pictures_under_different_labels_stay_together():
    crops = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8)
    crops[150:200] = crops[:50]
    strata = [index % 10 for index in range(300)]
    groups = group_identical(crops)
    split = stratified_split(strata, groups, SHARES, 0)
    np.testing.assert_array_equal(split[150:200], split[:50])
    assert set(split) == set(SPLITS)


# --- split.csv and the examples of a split ----------------------------------------------

LABELS = {
    "b.jpg": (14, 0, 4),
    "a.jpg": (15, 1, 0),
    "NA": (116, 0, 2),  # a name that pandas would take for a missing one
    "c.jpg": (60, 1, 3),
}


@pytest.fixture
def faces(tmp_path):
    """Return a folder with an index of four crops, of which crop i is filled with i."""
    extractions = []
    for number, (name, (age, gender, race)) in enumerate(LABELS.items()):
        extractions.append((Row(f"no face before {name}", "a.tar", "no_face", 30, 0, 0), None))
        row = Row(name, "a.tar", "cropped", age, gender, race)
        extractions.append((row, np.full((4, 4, 3), number, np.uint8)))
    write_faces(extractions, tmp_path / "index.csv", tmp_path / "crops.npy", 4)
    return tmp_path


def split_file(folder, text):
    path = folder / "split.csv"
    path.write_text(text)
    return path


def whole_split(folder):
    rows = ["name,split,group", "c.jpg,train,3", "NA,train,2", "b.jpg,val,0", "a.jpg,train,1"]
    return split_file(folder, "\n".join(rows) + "\n")


def whole_lists(folder):
    rows = ["name,train,val,test", "c.jpg,1,0,0", "NA,1,0,0", "b.jpg,0,1,0", "a.jpg,1,0,0"]
    return split_file(folder, "\n".join(rows) + "\n")


def test_a_split_file_is_read_as_it_was_written(faces):
    frame = read_split(whole_split(faces))
    assert list(frame["name"]) == ["c.jpg", "NA", "b.jpg", "a.jpg"]
    assert list(frame["split"]) == ["train", "train", "val", "train"]
    assert list(frame["group"]) == [3, 2, 0, 1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,split\na,train\n", r"lacks the columns \['group'\]"),
        ("", "malformed"),
        ('name,split,group\n"a,train,0\n', "malformed"),
        ("name,split,group\na,train,0\na,val,0\n", "duplicate name 'a'"),
        ("name,split,group\na,train,0\nb,Test,1\n", "split 'Test' is not one of"),
        ("name,split,group\na,,0\n", "split '' is not one of"),
    ],
)
def test_a_malformed_split_file_is_refused_with_what_is_wrong(text, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint) as caught:
        read_split(split_file(tmp_path, text))
    assert "split.csv" in str(caught.value)


def test_a_missing_split_file_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="missing; run `dvc repro -f split`"):
        read_split(tmp_path / "split.csv")


def test_examples_come_in_the_order_of_the_list_with_their_own_crops_and_labels(faces):
    examples = read_examples(faces, whole_lists(faces), "train", TASKS, BOUNDS)
    assert examples.names == ["c.jpg", "NA", "a.jpg"]
    np.testing.assert_array_equal(examples.rows, [3, 2, 1])
    assert [int(crop[0, 0, 0]) for crop in examples.crops[examples.rows]] == [3, 2, 1]
    np.testing.assert_array_equal(examples.labels["age"], [3, 4, 1])
    np.testing.assert_array_equal(examples.labels["gender"], [1, 0, 1])
    np.testing.assert_array_equal(examples.labels["race"], [3, 2, 0])
    assert all(codes.dtype == np.int64 for codes in examples.labels.values())


def test_only_the_tasks_asked_for_have_labels(faces):
    examples = read_examples(faces, whole_lists(faces), "val", ["race"], BOUNDS)
    assert list(examples.labels) == ["race"]
    assert examples.names == ["b.jpg"]


def test_a_list_without_images_is_refused_by_its_name(faces):
    with pytest.raises(UserError, match="no image in test"):
        read_examples(faces, whole_lists(faces), "test", TASKS, BOUNDS)


def test_an_image_of_the_list_without_a_crop_is_refused_by_its_name(faces):
    path = split_file(faces, "name,train,val,test\nb.jpg,1,0,0\nno face before b.jpg,1,0,0\n")
    with pytest.raises(UserError, match=r"'no face before b\.jpg' has no crop"):
        read_examples(faces, path, "train", TASKS, BOUNDS)


def test_the_cropped_rows_are_numbered_as_the_crops(faces):
    frame = read_cropped(faces / "index.csv")
    assert list(frame.index) == [0, 1, 2, 3]
    assert list(frame["name"]) == list(LABELS)
