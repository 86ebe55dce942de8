"""Stratified splits and folds with groups: every image in exactly one of train, val and test.

A stratum is a combination of age group, gender and race. A group (copies of one picture) is never
divided. scikit-learn's splitters either stratify or keep groups together, or do both without a
bound on the deviation. Here the groups are assigned first, then the single images compensate: each
stratum is within one image of its target in every split (within the size of a group if it has too
few single images, rarely more). Rounding errors are compensated in the next stratum.

A group is conflicting if its images differ in age group, gender or race: at least one label is
wrong. Training tolerates some wrong labels, but a score against one is wrong. So by default
(`train-only`) conflicting groups are assigned to train, and the other images compensate.
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.dataset.split_files import DROPPED
from stages.splitting.duplicates import Duplicates, Floats, Numbers

TRAIN = "train"
CLASS_SLACK = 3  # images by which a split may be short of a class; UTKFace stays within it

Masks = npt.NDArray[np.bool_]


class SplitAssignment(NamedTuple):
    """The place of each image."""

    split: npt.NDArray[np.str_]  # a split or `dropped`
    fold: pd.Series  # in which it is tested, nullable Int64
    conflicting: Masks  # whether its group is


class Related(NamedTuple):
    """Other groups that images belong to.

    Attributes:
        copies: (N,) those whose labels should agree, each within one of the groups that stay
            together; None: these themselves.
        series: (N,) those that folds do not divide either; a group belongs to the series of its
            first image; None: there are none.
    """

    copies: Numbers | None = None
    series: Numbers | None = None


def divide(
    strata: Sequence[object],
    groups: Numbers,
    fractions: Mapping[str, float],
    policy: str,
    folds: int,
    seed: int,
    related: Related | None = None,
) -> SplitAssignment:
    """Assign all images to splits and, for cross-validation, to folds, by `stratified_split`.

    `groups` (N) stay together. `policy` is that of conflicting copies: `keep` treats them as
    others, `train-only` assigns their groups to train and to no fold, `drop` assigns the copies to
    no split and no fold.
    """
    copies, series = related or (None, None)
    conflicting = find_conflicting(strata, groups if copies is None else copies)
    excluded = conflicting & (policy != "keep")  # from the random assignment
    if policy == "train-only":
        excluded = pd.Series(excluded).groupby(groups).transform("any").to_numpy(bool)
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
        units = groups if series is None else pd.Series(series).groupby(groups).transform("first")
        units = np.asarray(units)[tested]
        assigned = stratified_split(list(compress(strata, tested)), units, equal, own_seed)
        fold[tested] = assigned.astype(np.int64)
    return SplitAssignment(split, fold, conflicting)


def find_conflicting(strata: Sequence[object], groups: Numbers) -> Masks:
    """Whether the group of each image contains more than one stratum: bool (N,)."""
    codes = pd.Series(np.unique([repr(stratum) for stratum in strata], return_inverse=True)[1])
    return (codes.groupby(groups).transform("nunique") > 1).to_numpy(bool)


def count_duplicates(
    duplicates: Duplicates, strata: Sequence[object], conflicting: Masks
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
    groups: Numbers,
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

    def place(images: Numbers, split: int) -> None:
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
    # If many strata are small and equally large, a class could be short in a split or missing.
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


def _choose_for_group(lacking: Floats, cells: Numbers, generator: np.random.Generator) -> int:
    """A random split with room for the group, by what each needs, or the one overfilled least."""
    touched, wanted = np.unique(cells, return_counts=True)
    excess = (wanted[:, np.newaxis] - lacking[touched]).max(axis=0)
    room = lacking[cells].sum(axis=0) * (excess <= 0)
    if not room.any():
        return int(np.argmin(excess))
    return int(generator.choice(len(room), p=room / room.sum()))


def _classes(strata: Sequence[object], cell: Numbers) -> Masks:
    """Which cells have each class (a position in the tuple, a value): bool (classes, cells)."""
    _, first = np.unique(cell, return_index=True)
    masks: dict[object, Masks] = {}
    for number, stratum in enumerate(strata[index] for index in first):
        for part in enumerate(stratum if isinstance(stratum, tuple) else (stratum,)):
            masks.setdefault(part, np.zeros(len(first), bool))[number] = True
    return np.array(list(masks.values()), bool).reshape(len(masks), len(first))


def _round_all(lacking: Floats, numbers: Sequence[int], levels: Masks) -> Numbers:
    """Round what splits lack of each cell (cells, splits) to rows that sum to `numbers`."""
    # Rounding errors are compensated in later cells of the same level, bool (levels, cells).
    owed = np.zeros((len(levels), lacking.shape[1]))
    counts = np.empty(lacking.shape, np.int64)
    for index, number in enumerate(numbers):
        counts[index] = _round(lacking[index], number, owed[levels[:, index]].sum(axis=0))
        owed[levels[:, index]] += lacking[index] - counts[index]
    return counts


def _round(lacking: Floats, number: int, owed: Floats) -> Numbers:
    # After rounding down, the rest goes to the splits that are owed most, one image each.
    counts = np.floor(np.clip(lacking, 0, None) + 1e-9).astype(np.int64)
    while counts.sum() > number:  # because a group has overfilled another split
        counts[np.argmax(np.where(counts > 0, counts - lacking, -np.inf))] -= 1
    while counts.sum() < number:
        short = lacking - counts
        open_splits = short > 1e-9
        counts[np.argmax(np.where(open_splits, owed + short, -np.inf))] += 1
    return counts
