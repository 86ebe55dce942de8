"""Leaks: planted copies of test images are found in what a model was made with."""

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.acquisition.portraits import draw_portrait
from stages.auditing.leaks import (
    compare_pictures,
    count_leaks,
    find_leaks,
    list_differences,
    used_by_lists,
)

BITS, CORRELATION = 8, 0.95  # as params.yaml has them
TEST, TRAIN = [f"test{i}.jpg" for i in range(10)], [f"train{i}.jpg" for i in range(20)]


def encoded(crop):
    return cv2.imdecode(cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1)


def brighter(crop):
    return np.clip(crop.astype(int) + 20, 0, 255).astype(np.uint8)


PLANTED = {
    "copied": (lambda crop: crop, "copy"),
    "re-encoded": (encoded, "copy"),
    "mirrored": (lambda crop: crop[:, ::-1], "mirrored copy"),
    "brighter": (brighter, "copy"),
}


@pytest.fixture(scope="module")
def people():
    generator = np.random.default_rng(5)
    return np.stack(
        [draw_portrait(20 + i, i % 2, i % 5, generator, 100) for i in range(len(TEST + TRAIN))]
    )


def used_as(names, side="train"):
    return pd.DataFrame({"name": names, "used_for": side})


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize(("change", "kind"), PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_planted_copy_is_found_and_nothing_else(people, change, kind, side, first):
    """Found whether the copy stands before or after its original among the crops."""
    copy, names = change(people[3])[np.newaxis], TEST + TRAIN
    crops = np.concatenate([copy, people] if first else [people, copy])
    names = ["planted.jpg", *names] if first else [*names, "planted.jpg"]
    pictures = compare_pictures(names, crops, BITS, CORRELATION)
    used = pd.concat([used_as(TRAIN), used_as(["planted.jpg"], side)])
    leaks = find_leaks(TEST, used, pictures)
    assert leaks[["test", "used", "used_for", "kind"]].to_numpy().tolist() == [
        ["test3.jpg", "planted.jpg", side, kind]
    ]
    assert leaks["correlation"].between(CORRELATION, 1 + 1e-6).all()
    assert count_leaks(TEST, used, leaks) == {
        "test_images": 10,
        "used_images": 21,
        "pairs_checked": 210,
        "seen": 0,
        "seen_as_copy": 1,
    }


def test_a_clean_list_has_no_leak(people):
    pictures = compare_pictures(TEST + TRAIN, people, BITS, CORRELATION)
    leaks = find_leaks(TEST, used_as(TRAIN), pictures)
    assert leaks.empty
    assert list(leaks) == ["test", "used", "used_for", "kind", "correlation"]


def test_a_test_image_that_was_used_itself_is_found_once_for_each_use(people):
    pictures = compare_pictures(TEST + TRAIN, people, BITS, CORRELATION)
    used = pd.concat([used_as([*TRAIN, "test1.jpg"]), used_as(["test1.jpg"], "val")])
    leaks = find_leaks(TEST, used, pictures)
    assert leaks["kind"].tolist() == ["same image", "same image"]
    assert leaks["used_for"].tolist() == ["train", "val"]
    assert count_leaks(TEST, used, leaks)["seen"] == 1


def test_equal_pixels_without_contrast_are_a_leak(people):
    crops = np.concatenate([people, np.full((2, 100, 100, 3), 40, np.uint8)])
    pictures = compare_pictures([*TEST, *TRAIN, "a", "b"], crops, BITS, CORRELATION)
    leaks = find_leaks(["a"], used_as(["b"]), pictures)
    assert leaks.to_numpy().tolist() == [["a", "b", "train", "copy", 1.0]]


def test_an_image_that_has_no_crop_any_more_is_no_leak_but_a_difference(people):
    pictures = compare_pictures(TEST + TRAIN, people, BITS, CORRELATION)
    used = used_as([*TRAIN, "gone.jpg"])
    assert find_leaks(TEST, used, pictures).empty
    lists = pd.DataFrame({"name": TEST + TRAIN, "train": True, "val": False})
    lists["train"] = lists["name"].isin(TRAIN)
    assert list_differences(used, lists) == ["gone.jpg"]


def test_a_model_of_other_lists_is_reported_by_every_image_of_another_use():
    lists = pd.DataFrame(
        {"name": ["a", "b", "c"], "train": [True, True, False], "val": [False, True, False]}
    )
    assert used_by_lists(lists).to_numpy().tolist() == [
        ["a", "train"],
        ["b", "train"],
        ["b", "val"],
    ]
    assert list_differences(used_by_lists(lists), lists) == []
    assert list_differences(used_as(["a", "c"]), lists) == ["b", "c"]
    assert list_differences(used_as(["a", "b"]), lists) == ["b"]
    # With a subset of the lists, omitted images are fine; images not on them are reported.
    assert list_differences(used_as(["b"]), lists, whole=False) == []
    assert list_differences(used_as(["a", "c"]), lists, whole=False) == ["c"]
