"""The division of all images: splits, folds, and what becomes of conflicting groups.

A group is conflicting when its images, which show one picture, are not all of one class in age
group, gender and race: at least one label is wrong. Training bears some wrong labels; a score
against a wrong label is wrong. So by default (`train-only`) conflicting groups lie whole in train.
The alternative, to assign them like all others and to drop those that fall in val or test, would
lose images and leave val and test short of exactly the cells in question. Here nothing is lost
and the other images of a cell make up for its conflicting ones: val and test keep their shares as
long as a cell's conflicting images are not more than train's share of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.splitting.duplicates import Duplicates
from stages.splitting.stratified import DROPPED, Assignment, stratified_split

TRAIN = "train"


@dataclass(frozen=True)
class SplitAssignment:
    """What `divide` decided.

    split: str (N,), a split's name or `dropped`.
    fold: nullable Int64 (N,), the fold in which an image is tested; empty where it never is.
    conflicting: bool (N,).
    assignment: of the images that are not dropped, for its counts of strata.
    """

    split: npt.NDArray[np.str_]
    fold: pd.Series
    conflicting: npt.NDArray[np.bool_]
    assignment: Assignment


def divide(
    strata: Sequence[object],
    groups: npt.NDArray[np.int64],
    shares: Mapping[str, float],
    conflicting: str,
    folds: int,
    seed: int,
) -> SplitAssignment:
    """Divide all images into splits and, for cross-validation, into folds.

    Every group lies whole in one split and in one fold; both are stratified, each within the
    bounds of `stratified_split`. Fold i is to be tested by a network that was trained on all
    images that are neither dropped nor in fold i nor in fold i + 1 (modulo the number of
    folds), the latter for validation.

    Args:
        strata: age group, gender and race of each image, or another class (N).
        groups: the group of each image (N).
        shares: the share of each split, `train` among them; they sum to 1.
        conflicting: of conflicting groups: `keep` deals them as others, `train-only` puts them in
            train and in no fold, `drop` in no split and no fold.
        folds: their number; 0 for none.
        seed: of all random choices.
    """
    contested = find_conflicting(strata, groups)
    apart = contested & (conflicting != "keep")  # not dealt
    kept = ~apart if conflicting == "drop" else np.ones_like(apart)
    decided = dict.fromkeys(np.unique(groups[apart & (conflicting != "drop")]).tolist(), TRAIN)
    assignment = stratified_split(list(compress(strata, kept)), groups[kept], shares, seed, decided)
    split = np.full(len(groups), DROPPED, np.array([DROPPED, *shares]).dtype)
    split[kept] = assignment.split
    fold = pd.Series(pd.NA, range(len(groups)), "Int64")
    if folds:
        tested = ~apart
        equal = {str(number): 1 / folds for number in range(folds)}
        own_seed = [seed, folds]  # with the split's own seed, a fold would hold val and test
        dealt = stratified_split(list(compress(strata, tested)), groups[tested], equal, own_seed)
        fold[tested] = dealt.split.astype(np.int64)
    return SplitAssignment(split, fold, contested, assignment)


def find_conflicting(
    strata: Sequence[object], groups: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the group of each image has images of more than one stratum: bool (N,)."""
    codes = pd.Series(np.unique([repr(stratum) for stratum in strata], return_inverse=True)[1])
    return (codes.groupby(groups).transform("nunique") > 1).to_numpy(bool)


def count_duplicates(
    duplicates: Duplicates, strata: Sequence[object], conflicting: npt.NDArray[np.bool_]
) -> dict[str, int]:
    """What was found, for the metrics: groups and images of groups of at least two, and pairs.

    Args:
        duplicates: the groups and pairs.
        strata: of each image (N).
        conflicting: of each image, bool (N).
    """
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
