"""Labelled examples: the images of one split with the class of each task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.dataset.split_files import CONFLICT, read_lists
from stages.faces.index import read_cropped, read_crops
from stages.faces.labels import age_group

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledFaces:
    """The images of one split."""

    crops: npt.NDArray[np.uint8]  # RGB (M, size, size, 3), of all images
    names: list[str]  # of the images of this split (N)
    rows: Numbers  # (N), their rows in `crops`
    labels: dict[str, Numbers]  # class indices by task (N)
    ages: Numbers  # in years (N)

    def subset(self, fraction: float, seed: int) -> "LabelledFaces":
        """A random subset of at least one image; smaller subsets are part of larger ones.

        `fraction` is that of the images, > 0, <= 1.
        """
        order = np.random.default_rng(seed).permutation(len(self.names))
        kept = np.sort(order[: max(1, round(fraction * len(order)))])
        labels = {task: labels[kept] for task, labels in self.labels.items()}
        names = [self.names[i] for i in kept]
        return LabelledFaces(self.crops, names, self.rows[kept], labels, self.ages[kept])


def read_examples(
    faces: Path, lists_file: Path, split: str, tasks: Sequence[str], age_upper_bounds: Sequence[int]
) -> LabelledFaces:
    """Read the examples of one split, `train`, `val` or `test`, in the order of the list file.

    `faces` is the folder of index.csv and crops.npy; `age_upper_bounds` are in years. Raises
    UserError if a file is missing or malformed, the split is empty, or an image has no crop.
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
    codes = cropped.iloc[rows][["age", "gender", "race"]].astype(np.int64)
    ages = codes["age"].to_numpy()
    labels = {task: codes[task].to_numpy() for task in tasks}
    if "age" in labels:
        labels["age"] = age_group(ages, age_upper_bounds)
    return LabelledFaces(read_crops(faces / "crops.npy"), names.tolist(), rows, labels, ages)


def places_of_copies(path: Path, names: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """Where the copies of each picture with conflicting labels are among some images.

    Args:
        path: a run's list, of which the columns name and conflict are read.
        names: of the images (N).

    Returns:
        For each picture with at least two copies there, int64 indices into `names`.

    Raises:
        UserError: the file is missing or malformed, or lacks a column.
    """
    table = read_csv(path, ["name", CONFLICT], "lists", dtype={"name": "str", CONFLICT: "Int64"})
    table = table[table[CONFLICT].notna()]
    places = pd.Series(pd.Index(names).get_indexer(table["name"]), table[CONFLICT])
    groups = places[places >= 0].groupby(level=0, sort=True)
    return [group.to_numpy(np.int64) for _, group in groups if len(group) > 1]


def read_used(path: Path) -> pd.DataFrame:
    """Read models/<run>/images.csv, the images a model was made with: columns name and used_for.

    used_for is `train` or `val`; an image used for both has two rows. Raises as `read_csv`.
    """
    columns = ["name", "used_for"]
    return read_csv(path, columns, "train", dtype=dict.fromkeys(columns, "str"))[columns]


def was_trained_on(names: Sequence[str], path: Path) -> Numbers:
    """1 for each name that images.csv at `path` lists as a training image, else 0: int64 (N)."""
    used = read_used(path)
    return np.isin(names, used["name"][used["used_for"] == "train"]).astype(np.int64)


def count_used(path: Path) -> tuple[int, int]:
    """The numbers of training and validation images in images.csv at `path`."""
    used = read_used(path)["used_for"]
    return int((used == "train").sum()), int((used == "val").sum())
