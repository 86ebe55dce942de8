"""List files: the images that a run trains on, validates with and is tested on.

A list file is a CSV file with one row per crop: `name`, and `train`, `val` and `test` (0 or 1).
"""

from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv

SPLITS = ("train", "val", "test")


def read_lists(path: Path) -> pd.DataFrame:
    """Read a list file: columns name, train, val and test (bool).

    Raises:
        UserError: the file is missing or malformed, lacks a column, or has a name twice.
    """
    made_by = "lists" if path.parent.name == "lists" else "split"
    frame = read_csv(path, ["name", *SPLITS], made_by, dtype={"name": "str"})
    if (duplicated := frame["name"].duplicated()).any():
        raise UserError(f"{path}: duplicate name {frame['name'][duplicated].iloc[0]!r}")
    for split in SPLITS:
        if not frame[split].isin([0, 1]).all():
            raise UserError(f"{path}: column {split} has values other than 0 and 1")
    return frame[["name", *SPLITS]].astype(dict.fromkeys(SPLITS, bool))
