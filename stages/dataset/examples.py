"""Labelled examples: the images of one list with the class of each task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.dataset.index import read_cropped, read_crops
from stages.dataset.labels import age_group
from stages.splitting.lists import read_lists


@dataclass(frozen=True)
class LabelledFaces:
    """All crops, and of one list: names, rows in the crops, class indices by task, years of age.

    Rows, labels and ages are int64, all in the order of the names.
    """

    crops: npt.NDArray[np.uint8]
    names: list[str]
    rows: npt.NDArray[np.int64]
    labels: dict[str, npt.NDArray[np.int64]]
    ages: npt.NDArray[np.int64]

    def subset(self, share: float, seed: int) -> "LabelledFaces":
        """A random share of the images, at least one; a smaller share is part of a larger one.

        Args:
            share: of the images, > 0, <= 1.
            seed: of the draw.
        """
        drawn = np.random.default_rng(seed).permutation(len(self.names))
        kept = np.sort(drawn[: max(1, round(share * len(drawn)))])
        return LabelledFaces(
            self.crops,
            [self.names[i] for i in kept],
            self.rows[kept],
            {task: labels[kept] for task, labels in self.labels.items()},
            self.ages[kept],
        )


def read_examples(
    faces: Path, lists_file: Path, side: str, tasks: Sequence[str], age_upper_bounds: Sequence[int]
) -> LabelledFaces:
    """Read the examples of one list, in the order of the list file.

    Args:
        faces: folder of index.csv and crops.npy.
        lists_file: as stages.splitting.lists describes it.
        side: `train`, `val` or `test`.
        tasks: of age, gender and race.
        age_upper_bounds: of the age groups, in years.

    Raises:
        UserError: a file is missing or malformed, the list is empty, or names an image
            that has no crop.
    """
    cropped = read_cropped(faces / "index.csv").set_index("name")
    table = read_lists(lists_file)
    names = table["name"][table[side]]
    if names.empty:
        raise UserError(f"{lists_file}: no image in {side}; more images or another share is needed")
    rows = cropped.index.get_indexer(names)
    if (rows < 0).any():
        missing = names[rows < 0].iloc[0]
        raise UserError(f"{lists_file}: {missing!r} has no crop in {faces}; run `dvc repro split`")
    chosen = cropped.iloc[rows]
    ages = chosen["age"].to_numpy(np.int64)
    codes = {
        "age": age_group(ages, age_upper_bounds),
        "gender": chosen["gender"].to_numpy(np.int64),
        "race": chosen["race"].to_numpy(np.int64),
    }
    labels = {task: codes[task] for task in tasks}
    return LabelledFaces(read_crops(faces / "crops.npy"), names.tolist(), rows, labels, ages)


def read_used(path: Path) -> pd.DataFrame:
    """What a model was made with: models/<run>/images.csv, columns name and used_for.

    used_for is `train` or `val`; an image that served as both has two rows.

    Raises:
        UserError: missing, malformed, or a column missing.
    """
    columns = ["name", "used_for"]
    return read_csv(path, columns, "train", dtype=dict.fromkeys(columns, "str"))[columns]


def was_trained_on(names: Sequence[str], path: Path) -> npt.NDArray[np.int64]:
    """1 for each name that a model's images.csv lists as a training image, else 0 (N)."""
    used = read_used(path)
    return np.isin(names, used["name"][used["used_for"] == "train"]).astype(np.int64)


def count_used(path: Path) -> tuple[int, int]:
    """How many images a model's images.csv lists for training and for validation."""
    used = read_used(path)["used_for"]
    return int((used == "train").sum()), int((used == "val").sum())
