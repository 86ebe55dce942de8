"""Splits and folds of all images, and the treatment of conflicting groups.

A group is conflicting if its images, copies of one picture, differ in age group, gender or race:
at least one label is wrong. Training tolerates some wrong labels, but a score against a wrong label
is wrong. So by default (`train-only`) conflicting groups are assigned to train. No image is lost,
and the other images of a stratum compensate: val and test keep their fractions unless a stratum has
more conflicting images than train's fraction of it.
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.dataset.split_files import DROPPED
from stages.splitting.duplicates import Duplicates
from stages.splitting.stratified import stratified_split

TRAIN = "train"


class SplitAssignment(NamedTuple):
    """Of each image: its split or `dropped` (str), and whether its group is conflicting (bool).

    `fold` (nullable Int64) is the one in which it is tested.
    """

    split: npt.NDArray[np.str_]
    fold: pd.Series
    conflicting: npt.NDArray[np.bool_]


def divide(
    strata: Sequence[object],
    groups: npt.NDArray[np.int64],
    fractions: Mapping[str, float],
    policy: str,
    folds: int,
    seed: int,
) -> SplitAssignment:
    """Assign all images to splits and, for cross-validation, to folds, by `stratified_split`.

    Fold i is tested by a network that is validated on fold i + 1 (modulo the number of folds) and
    trained on all other images that are not dropped.

    `policy` is that of conflicting groups: `keep` treats them as others, `train-only` assigns them
    to train and to no fold, `drop` to no split and no fold.
    """
    conflicting = find_conflicting(strata, groups)
    excluded = conflicting & (policy != "keep")  # from the random assignment
    kept = ~excluded if policy == "drop" else np.ones_like(excluded)
    fixed = dict.fromkeys(np.unique(groups[excluded & (policy != "drop")]).tolist(), TRAIN)
    split = np.full(len(groups), DROPPED, np.array([DROPPED, *fractions]).dtype)
    kept_strata = list(compress(strata, kept))
    split[kept] = stratified_split(kept_strata, groups[kept], fractions, seed, fixed)
    fold = pd.Series(pd.NA, range(len(groups)), "Int64")
    if folds:
        tested = ~excluded
        equal = {str(number): 1 / folds for number in range(folds)}
        own_seed = [seed, folds]  # with the seed of the split, one fold would hold val and test
        assigned = stratified_split(list(compress(strata, tested)), groups[tested], equal, own_seed)
        fold[tested] = assigned.astype(np.int64)
    return SplitAssignment(split, fold, conflicting)


def find_conflicting(
    strata: Sequence[object], groups: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the group of each image contains more than one stratum: bool (N,)."""
    codes = pd.Series(np.unique([repr(stratum) for stratum in strata], return_inverse=True)[1])
    return (codes.groupby(groups).transform("nunique") > 1).to_numpy(bool)


def count_duplicates(
    duplicates: Duplicates, strata: Sequence[object], conflicting: npt.NDArray[np.bool_]
) -> dict[str, int]:
    """Count groups of at least two images, their images, and pairs, for the metrics."""
    sizes = np.bincount(duplicates.groups)
    pairs = duplicates.pairs
    differ = [strata[i] != strata[j] for i, j in zip(pairs["first"], pairs["second"], strict=True)]
    return {
        "groups_of_identical_images": int((np.bincount(duplicates.identical) > 1).sum()),
        "groups": int((sizes > 1).sum()),
        "images_in_groups": int(sizes[sizes > 1].sum()),
        "images_in_largest_group": int(sizes[sizes > 1].max(initial=0)),
        "pairs": len(pairs),
        "pairs_mirrored": int(pairs["mirrored"].sum()),
        "conflicting_groups": len(np.unique(duplicates.groups[conflicting])),
        "conflicting_images": int(conflicting.sum()),
        "conflicting_pairs": sum(differ),
    }
