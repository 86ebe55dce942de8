"""Stratified splits and folds with groups: every image in exactly one of train, val and test.

A stratum is a combination of age group, gender and race. A group (copies of one picture, whose
labels may differ) is never divided. scikit-learn's splitters either stratify or keep groups
together, or do both without a bound on the deviation. Here the groups are assigned first, then
the single images compensate for them: each stratum is within one image of its target in every
split (within the size of a group if a stratum has too few single images, rarely more). Rounding
errors of one stratum are compensated in the next, so that the totals are right too. If many
strata are small and equally large, a class could still be short in a split or missing; then
rounding errors are compensated in the next stratum of the same class.

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

TRAIN = "train"
CLASS_SLACK = 3  # images by which a split may be short of a class; UTKFace stays within it


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


def stratified_split(
    strata: Sequence[object],
    groups: npt.NDArray[np.int64],
    fractions: Mapping[str, float],
    seed: int | Sequence[int],
    fixed: Mapping[int, str] | None = None,
) -> npt.NDArray[np.str_]:
    """Assign every image to exactly one split; return their names, str (N,).

    The stratum of an image is a tuple of classes, or one class. The fractions of the splits sum to
    1. Some groups may have a fixed split; the others compensate for them.
    """
    generator = np.random.default_rng(seed)
    names, target = list(fractions), np.array(list(fractions.values()))
    cells, cell = np.unique(np.array([repr(s) for s in strata]), return_inverse=True)
    sizes = np.bincount(cell, minlength=len(cells))
    lacking = sizes[:, np.newaxis] * target  # images that each split still needs of each stratum
    chosen = np.full(len(cell), -1)
    members = pd.Series(np.arange(len(cell))).groupby(groups).indices

    def place(images: npt.NDArray[np.int64], split: int) -> None:
        chosen[images] = split
        np.subtract.at(lacking[:, split], cell[images], 1)

    for group, name in (fixed or {}).items():
        place(members[group], names.index(name))
    several = [images for images in members.values() if len(images) > 1 and chosen[images[0]] < 0]
    # Groups of most strata first, while the splits have most room.
    for images in sorted(several, key=lambda images: -len(np.unique(cell[images]))):
        place(images, _choose_for_group(lacking, cell[images], generator))
    singles = [np.flatnonzero((cell == index) & (chosen < 0)) for index in range(len(cells))]
    of_class = _classes(strata, cell)
    numbers = [len(images) for images in singles]
    counts = _round_all(lacking, numbers, np.ones((1, len(cells)), bool))
    wanted = of_class @ (sizes[:, np.newaxis] * target)
    off = of_class @ (lacking - counts)  # images by which each split is short of each class
    if (off > CLASS_SLACK).any() or ((wanted >= 1) & (wanted - off < 0.5)).any():
        counts = _round_all(lacking, numbers, of_class)
    for images, count in zip(singles, counts, strict=True):
        chosen[generator.permutation(images)] = np.repeat(np.arange(len(target)), count)
    return np.array(names)[chosen]


def count_strata(strata: Sequence[object], splits: int) -> dict[str, int]:
    """Count the strata, those with fewer images than there are splits, and the images in these."""
    sizes = pd.Series([repr(stratum) for stratum in strata], dtype="str").value_counts()
    small = sizes[sizes < splits]
    return {
        "strata": len(sizes),
        "strata_too_small": len(small),
        "images_in_strata_too_small": int(small.sum()),
    }


def _choose_for_group(
    lacking: npt.NDArray[np.float64],
    cells: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> int:
    """Choose a split for a group at random, weighted by what each split still needs of it.

    Only splits with room for the whole group count; without any, the one that it overfills least.
    """
    touched, wanted = np.unique(cells, return_counts=True)
    excess = (wanted[:, np.newaxis] - lacking[touched]).max(axis=0)
    room = lacking[cells].sum(axis=0) * (excess <= 0)
    if not room.any():
        return int(np.argmin(excess))
    return int(generator.choice(len(room), p=room / room.sum()))


def _classes(strata: Sequence[object], cell: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which cells have each class (a position in the tuple, a value): bool (classes, cells)."""
    _, first = np.unique(cell, return_index=True)
    masks: dict[object, npt.NDArray[np.bool_]] = {}
    for number, stratum in enumerate(strata[index] for index in first):
        parts = stratum if isinstance(stratum, tuple) else (stratum,)
        for part in enumerate(parts):
            masks.setdefault(part, np.zeros(len(first), bool))[number] = True
    return np.array(list(masks.values()), bool).reshape(len(masks), len(first))


def _round_all(
    lacking: npt.NDArray[np.float64], numbers: Sequence[int], levels: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Round what the splits lack of each cell (cells, splits) to rows that sum to `numbers`.

    Rounding errors are compensated in later cells of the same level, bool (levels, cells).
    """
    owed = np.zeros((len(levels), lacking.shape[1]))
    counts = np.empty(lacking.shape, np.int64)
    for index, number in enumerate(numbers):
        counts[index] = _round(lacking[index], number, owed[levels[:, index]].sum(axis=0))
        owed[levels[:, index]] += lacking[index] - counts[index]
    return counts


def _round(
    lacking: npt.NDArray[np.float64], number: int, owed: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Integer counts that sum to `number`, within one of `lacking` where possible.

    After rounding down, the rest goes to the splits that are owed most, one image each.
    """
    counts = np.floor(np.clip(lacking, 0, None) + 1e-9).astype(np.int64)
    while counts.sum() > number:  # because a group has overfilled another split
        counts[np.argmax(np.where(counts > 0, counts - lacking, -np.inf))] -= 1
    while counts.sum() < number:
        short = lacking - counts
        open_splits = short > 1e-9
        counts[np.argmax(np.where(open_splits, owed + short, -np.inf))] += 1
    return counts
