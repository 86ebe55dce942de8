"""Examples: the images of one list, with the labels that the index has for them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.dataset.examples import count_used, read_examples, read_used, was_trained_on
from stages.faces.index import Row, write_faces

BOUNDS = [14, 25, 40, 60, 116]
LISTS = Path("data/lists/published-split.csv")


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """Four faces and a file without one; b is in train and in test, d in no list."""
    monkeypatch.chdir(tmp_path)
    extractions = [
        (Row(name, "x.tar", "cropped", age, gender, race), np.full((32, 32, 3), age, np.uint8))
        for name, age, gender, race in (("a", 5, 0, 1), ("b", 30, 1, 2), ("c", 70, 0, 4))
    ]
    extractions.insert(1, (Row("no face", "x.tar", "no_face"), None))
    extractions.append((Row("d", "x.tar", "cropped", 20, 1, 0), np.zeros((32, 32, 3), np.uint8)))
    write_faces(extractions, Path("faces/index.csv"), Path("faces/crops.npy"), 32)
    table = {"name": list("cbad"), "train": [0, 1, 1, 0], "val": [1, 0, 0, 0], "test": [1, 1, 0, 0]}
    write_csv(LISTS, pd.DataFrame(table))
    return Path("faces")


def test_the_examples_of_a_list_come_in_its_order_with_their_labels(faces):
    test = read_examples(faces, LISTS, "test", ["age", "race"], BOUNDS)
    assert test.names == ["c", "b"]
    assert test.rows.tolist() == [2, 1]
    assert {task: codes.tolist() for task, codes in test.labels.items()} == {
        "age": [4, 2],
        "race": [4, 2],
    }
    assert test.ages.tolist() == [70, 30]
    assert test.crops[test.rows][:, 0, 0, 0].tolist() == [70, 30]


def test_an_image_of_two_lists_is_an_example_of_both(faces):
    assert read_examples(faces, LISTS, "train", ["age"], BOUNDS).names == ["b", "a"]
    assert read_examples(faces, LISTS, "val", ["age"], BOUNDS).names == ["c"]


def test_an_empty_list_and_one_of_unknown_images_are_refused(faces):
    table = pd.read_csv(LISTS)
    write_csv(LISTS, table.assign(val=0))
    with pytest.raises(UserError, match="no image in val"):
        read_examples(faces, LISTS, "val", ["age"], BOUNDS)
    write_csv(LISTS, table.assign(name=["c", "b", "a", "e"], val=1))
    with pytest.raises(UserError, match="'e' has no crop in faces"):
        read_examples(faces, LISTS, "val", ["age"], BOUNDS)


def test_training_images_are_distinguished_from_validation_images(tmp_path):
    file = tmp_path / "images.csv"
    write_csv(file, pd.DataFrame({"name": ["1", "b", "b"], "used_for": ["train", "train", "val"]}))
    assert was_trained_on(["b", "c", "1"], file).tolist() == [1, 0, 1]
    assert count_used(file) == (2, 1)
    write_csv(file, pd.DataFrame({"name": ["b"], "used_for": ["val"]}))
    assert was_trained_on(["b"], file).tolist() == [0]
    with pytest.raises(UserError, match=r"none\.csv: missing; run `dvc repro -f train`"):
        read_used(tmp_path / "none.csv")
