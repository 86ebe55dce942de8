"""Labelled examples: the images of one split with the class of each task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.dataset.split_files import read_lists
from stages.faces.index import read_cropped, read_crops
from stages.faces.labels import age_group


@dataclass(frozen=True)
class LabelledFaces:
    """The images of one split.

    Attributes:
        crops: uint8 RGB (M, size, size, 3), of all images.
        names: of the images of this split (N).
        rows: int64 (N), their rows in `crops`.
        labels: class indices by task, int64 (N).
        ages: in years, int64 (N).
    """

    crops: npt.NDArray[np.uint8]
    names: list[str]
    rows: npt.NDArray[np.int64]
    labels: dict[str, npt.NDArray[np.int64]]
    ages: npt.NDArray[np.int64]

    def subset(self, fraction: float, seed: int) -> "LabelledFaces":
        """A random subset of at least one image; smaller subsets are part of larger ones.

        Args:
            fraction: of the images, > 0, <= 1.
            seed: of the random choice.
        """
        order = np.random.default_rng(seed).permutation(len(self.names))
        kept = np.sort(order[: max(1, round(fraction * len(order)))])
        return LabelledFaces(
            self.crops,
            [self.names[i] for i in kept],
            self.rows[kept],
            {task: labels[kept] for task, labels in self.labels.items()},
            self.ages[kept],
        )


def read_examples(
    faces: Path, lists_file: Path, split: str, tasks: Sequence[str], age_upper_bounds: Sequence[int]
) -> LabelledFaces:
    """Read the examples of one split, in the order of the list file.

    Args:
        faces: folder of index.csv and crops.npy.
        lists_file: see `stages.dataset.split_files`.
        split: `train`, `val` or `test`.
        tasks: of age, gender and race.
        age_upper_bounds: of the age groups, in years.

    Raises:
        UserError: a file is missing or malformed, the split is empty, or an image has no crop.
    """
    cropped = read_cropped(faces / "index.csv").set_index("name")
    table = read_lists(lists_file)
    names = table["name"][table[split]]
    if names.empty:
        raise UserError(f"{lists_file}: no image in {split}; use more images or a larger fraction")
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


def places_of_copies(path: Path, names: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """Where the copies of each picture with conflicting labels are among some images.

    Args:
        path: conflicting.csv, of which the columns group and name are read.
        names: of the images (N).

    Returns:
        For each picture with at least two copies there, int64 indices into `names`.

    Raises:
        UserError: the file is missing or malformed, or lacks a column.
    """
    table = read_csv(path, ["group", "name"], "split", dtype={"name": "str"})
    places = pd.Series(pd.Index(names).get_indexer(table["name"]), table["group"])
    groups = places[places >= 0].groupby(level=0, sort=True)
    return [group.to_numpy(np.int64) for _, group in groups if len(group) > 1]


def read_used(path: Path) -> pd.DataFrame:
    """Read models/<run>/images.csv, the images a model was made with: columns name and used_for.

    used_for is `train` or `val`; an image used for both has two rows.

    Raises:
        UserError: the file is missing or malformed, or lacks a column.
    """
    columns = ["name", "used_for"]
    return read_csv(path, columns, "train", dtype=dict.fromkeys(columns, "str"))[columns]


def was_trained_on(names: Sequence[str], path: Path) -> npt.NDArray[np.int64]:
    """1 for each name that images.csv at `path` lists as a training image, else 0: int64 (N)."""
    used = read_used(path)
    return np.isin(names, used["name"][used["used_for"] == "train"]).astype(np.int64)


def count_used(path: Path) -> tuple[int, int]:
    """The numbers of training and validation images in images.csv at `path`."""
    used = read_used(path)["used_for"]
    return int((used == "train").sum()), int((used == "val").sum())
