"""The files of the split: split.csv, folds.csv, and the list of each run.

A list file is a CSV file with one row per crop: `name`, `train`, `val` and `test` (0 or 1), and for
a run `conflict`, the number of its picture where that has copies under other classes.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv

SPLITS = ("train", "val", "test")
DROPPED = "dropped"  # in split.csv: an image in no split
FOLD = "fold"  # column of folds.csv
CONFLICT = "conflict"  # column of the list of a run


def read_lists(path: Path) -> pd.DataFrame:
    """Read a list file: columns name, train, val and test (bool).

    Raises UserError if the file is missing or malformed, or has a name twice.
    """
    frame = _read_names(path, SPLITS, "lists" if path.parent.name == "lists" else "split")
    for split in SPLITS:
        if not frame[split].isin([0, 1]).all():
            raise UserError(f"{path}: column {split} has values other than 0 and 1")
    return frame.astype(dict.fromkeys(SPLITS, bool))


def read_split(path: Path) -> pd.DataFrame:
    """Read split.csv: columns name, split (`train`, `val`, `test` or `dropped`) and group.

    Raises UserError if the file is missing or malformed, or has a name twice or an unknown split.
    """
    frame = _read_names(path, ("split", "group"), "split")
    known = (*SPLITS, DROPPED)
    if not (valid := frame["split"].isin(known)).all():
        raise UserError(f"{path}: split {frame['split'][~valid].iloc[0]!r} is not one of {known}")
    return frame


def _read_names(path: Path, columns: Sequence[str], made_by: str) -> pd.DataFrame:
    columns = ["name", *columns]
    frame = read_csv(path, columns, made_by, dtype={"name": "str", "split": "str"})
    if (duplicated := frame["name"].duplicated()).any():
        raise UserError(f"{path}: duplicate name {frame['name'][duplicated].iloc[0]!r}")
    return frame[columns]


def read_folds(path: Path, names: pd.Series) -> pd.Series:
    """The fold of each image, nullable Int64 in the order of `names`; NA: in no fold.

    folds.csv has the columns name and fold (from 0). Raises as `read_csv`.
    """
    frame = read_csv(path, ("name", FOLD), "split", dtype={"name": "str", FOLD: "Int64"})
    folds = frame.set_index("name")[FOLD].reindex(names)
    return pd.Series(folds.array, names.index, "Int64", name=FOLD)
