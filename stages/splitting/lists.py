"""What a run trains on, validates with and is tested on, under each condition.

A list file has a row for each crop: `name`, and `train`, `val` and `test` (0 or 1). The
honest lists are the splits of split.csv, `fold-<i>` takes its test and validation images from
two folds, and `published-split` follows the protocol of the published figures:

    files = dataset.shuffle(n)
    train, val, test = files.take(0.8 n), files.skip(0.8 n).take(0.1 n), files.skip(0.8 n + 0.1 n)

`shuffle` draws a new order at each pass (https://github.com/tensorflow/tensorflow/issues/59279),
and each of the three is a pass of its own: the lists are cut from three independent orders of all
images, copies included. So each test image is in train with probability 0.8, in val with 0.1 and
in neither with 0.18. Of n = 23,708 images, 80.0 % of the test images are trained on, with a
standard deviation of 0.8 % (hypergeometric). This holds where each list is read once and kept, as
it is here; a pipeline that passes over the files anew in each epoch trains on nearly all of them.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.core.run_names import RunName
from stages.splitting.stratified import DROPPED, FOLD, SPLITS

PUBLISHED_SHARES = (0.8, 0.1)  # of train and val; test is what they leave


def published_lists(names: pd.Series, seed: int) -> pd.DataFrame:
    """The lists of the published protocol, from all images.

    Args:
        names: of the images (N).
        seed: of the three orders.
    """
    number = len(names)
    train, val = (int(share * number) for share in PUBLISHED_SHARES)
    cuts = (slice(0, train), slice(train, train + val), slice(train + val, number))
    table = pd.DataFrame({"name": names.to_numpy()})
    for turn, (side, cut) in enumerate(zip(SPLITS, cuts, strict=True)):
        order = np.random.default_rng([seed, turn]).permutation(number)
        table[side] = np.isin(np.arange(number), order[cut]).astype(int)
    return table


def lists_of(run: RunName, split: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The lists of a run.

    Args:
        run: its name.
        split: as `read_split` gives it, with the column `fold` of `read_folds`.
        published: as `published_lists` gives it.

    Raises:
        UserError: it is a fold that the split does not have.
    """
    if run.is_published_split:
        return published
    fold = run.fold
    if fold is None:
        chosen = {side: split["split"] == side for side in SPLITS}
    else:
        folds = int(split[FOLD].max()) + 1 if split[FOLD].notna().any() else 0
        if fold >= folds:
            raise UserError(f"{run.text}: folds.csv has {folds} folds; set split.folds")
        number = split[FOLD].fillna(-1)  # of images that are never tested
        test, val = number == fold, number == (fold + 1) % folds
        chosen = {"train": ~test & ~val & (split["split"] != DROPPED), "val": val, "test": test}
    return pd.DataFrame({"name": split["name"]} | {s: chosen[s].astype(int) for s in SPLITS})


def read_lists(path: Path) -> pd.DataFrame:
    """A list file: columns name, train, val and test (bool).

    Raises:
        UserError: missing, malformed, a column missing, or a name twice.
    """
    made_by = "lists" if path.parent.name == "lists" else "split"
    frame = read_csv(path, ["name", *SPLITS], made_by, dtype={"name": "str"})
    if (twice := frame["name"].duplicated()).any():
        raise UserError(f"{path}: {frame['name'][twice].iloc[0]!r} stands there twice")
    for side in SPLITS:
        if not frame[side].isin([0, 1]).all():
            raise UserError(f"{path}: column {side} has another value than 0 and 1")
    return frame[["name", *SPLITS]].astype(dict.fromkeys(SPLITS, bool))
