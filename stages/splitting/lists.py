"""The images that a run trains on, validates with and is tested on, under each condition.

The honest lists are the splits of split.csv, `fold-<i>` takes its test and validation images from
two folds, and `published-split` follows the protocol of the published figures:

    files = dataset.shuffle(n)
    train, val, test = files.take(0.8 n), files.skip(0.8 n).take(0.1 n), files.skip(0.8 n + 0.1 n)

`shuffle` draws a new order in each pass (https://github.com/tensorflow/tensorflow/issues/59279), so
the three lists are cut from three independent orders of all images, copies included. This assumes
that each list is read once and kept.
"""

import numpy as np
import pandas as pd

from stages.core.errors import UserError
from stages.core.run_names import RunName
from stages.dataset.split_files import DROPPED, FOLD, SPLITS

PUBLISHED_FRACTIONS = (0.8, 0.1)  # of train and val; test gets the rest


def published_lists(names: pd.Series, seed: int) -> pd.DataFrame:
    """The lists of the published protocol over all images; `seed` is that of the three orders."""
    number = len(names)
    train, val = (int(fraction * number) for fraction in PUBLISHED_FRACTIONS)
    table = pd.DataFrame({"name": names.to_numpy()})
    for index, split in enumerate(SPLITS):
        order = np.random.default_rng([seed, index]).permutation(number)
        chosen = np.split(order, [train, train + val])[index]
        table[split] = np.isin(np.arange(number), chosen).astype(int)
    return table


def lists_of(run: RunName, split: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The lists of a run from the tables of `read_split`, `read_folds` and `published_lists`.

    Raises UserError if the split does not have this fold.
    """
    if run.is_published_split:
        return published
    if run.fold is None:
        masks = {name: split["split"] == name for name in SPLITS}
    else:
        folds = int(split[FOLD].max()) + 1 if split[FOLD].notna().any() else 0
        if run.fold >= folds:
            raise UserError(f"{run.text}: folds.csv has {folds} folds; set split.folds")
        number = split[FOLD].fillna(-1)  # -1: never tested
        test, val = number == run.fold, number == (run.fold + 1) % folds
        masks = {"train": ~test & ~val & (split["split"] != DROPPED), "val": val, "test": test}
    return pd.DataFrame({"name": split["name"]} | {s: masks[s].astype(int) for s in SPLITS})
