"""The split: every image in one of train, val and test, stratum by stratum.

A stratum is a cell of age group x gender x race; a group (images of one picture, whose labels
need not agree) lies whole in one split. scikit-learn's splitters either stratify or keep
groups whole, or do both without a bound on the deviation. Here the groups are dealt first
and the single images make up for them: each cell comes within one image of its target in
every split (a group's size, where a cell has too few single images; where groups of several
strata crowd a cell, rarely more), and what is rounded in one cell is made up for in the
next, so that the whole comes out right too. Where the cells are of few images each, and of
equal numbers, a class could still come short in a split or have no image there; then what is
rounded is made up for in the next cell of the same class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv

SPLITS = ("train", "val", "test")
DROPPED = "dropped"  # stands in split.csv for an image that is in no split
COLUMNS = ("name", "split", "group")
CLASS_SLACK = 3  # images by which a split may be short of a class; UTKFace's stay within it
FOLD = "fold"  # a further column where there are folds


@dataclass(frozen=True)
class Assignment:
    """The split of each image (str, N), and how many strata and images were too few to divide.

    A stratum is too small when it has fewer images than there are splits, so that some
    split has none of it.
    """

    split: npt.NDArray[np.str_]
    strata: int
    small_strata: int
    images_in_small_strata: int


def stratified_split(
    strata: Sequence[object],
    groups: npt.NDArray[np.int64],
    shares: Mapping[str, float],
    seed: int | Sequence[int],
    decided: Mapping[int, str] | None = None,
) -> Assignment:
    """Assign every image to exactly one split.

    Args:
        strata: the stratum of each image (N): its classes as a tuple, or any other value that
            is one class.
        groups: the group of each image (N); equal numbers stay together.
        shares: the share of each split; they sum to 1.
        seed: of all random choices.
        decided: the split of groups that are not dealt; the others make up for them.

    Returns:
        The assignment: the same for the same arguments.
    """
    generator = np.random.default_rng(seed)
    names, target = list(shares), np.array(list(shares.values()))
    cells, cell = np.unique(np.array([repr(s) for s in strata]), return_inverse=True)
    sizes = np.bincount(cell, minlength=len(cells))
    lacking = sizes[:, np.newaxis] * target  # images that each split still lacks of each cell
    chosen = np.full(len(cell), -1)
    members = pd.Series(np.arange(len(cell))).groupby(groups).indices

    def place(images: npt.NDArray[np.int64], split: int) -> None:
        chosen[images] = split
        np.subtract.at(lacking[:, split], cell[images], 1)

    for group, name in (decided or {}).items():
        place(members[group], names.index(name))
    several = [images for images in members.values() if len(images) > 1 and chosen[images[0]] < 0]
    # Those of most strata first, while there is most room.
    for images in sorted(several, key=lambda images: -len(np.unique(cell[images]))):
        place(images, _choose_for_group(lacking, cell[images], generator))
    singles = [np.flatnonzero((cell == index) & (chosen < 0)) for index in range(len(cells))]
    of_class = _classes(strata, cell)
    numbers = [len(images) for images in singles]
    counts = _round_all(lacking, numbers, np.ones((1, len(cells)), bool))
    wanted = of_class @ (sizes[:, np.newaxis] * target)
    off = of_class @ (lacking - counts)  # images that each split is short of each class
    if (off > CLASS_SLACK).any() or ((wanted >= 1) & (wanted - off < 0.5)).any():
        counts = _round_all(lacking, numbers, of_class)
    for images, count in zip(singles, counts, strict=True):
        chosen[generator.permutation(images)] = np.repeat(np.arange(len(target)), count)
    small = sizes < len(target)
    counts_small = int(small.sum()), int(sizes[small].sum())
    return Assignment(np.array(names)[chosen], len(cells), *counts_small)


def _choose_for_group(
    lacking: npt.NDArray[np.float64],
    cells: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> int:
    """A split for a group, at random by what each still lacks of the cells of its images.

    At random, so that repeated pictures are as frequent in every split; but only among the
    splits that lack all of the group. Where there is none, the one that it overfills least.
    """
    touched, wanted = np.unique(cells, return_counts=True)
    excess = (wanted[:, np.newaxis] - lacking[touched]).max(axis=0)
    room = lacking[cells].sum(axis=0) * (excess <= 0)
    if not room.any():
        return int(np.argmin(excess))
    return int(generator.choice(len(room), p=room / room.sum()))


def _classes(strata: Sequence[object], cell: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which cells each class has: bool (classes, cells); a class is a place in a tuple and a value.

    Args:
        strata: of each image (N).
        cell: the number of each image's stratum (N).
    """
    cells = int(cell.max(initial=-1)) + 1
    _, first = np.unique(cell, return_index=True)
    found: dict[object, npt.NDArray[np.bool_]] = {}
    for number, stratum in enumerate(strata[index] for index in first):
        parts = stratum if isinstance(stratum, tuple) else (stratum,)
        for part in enumerate(parts):
            found.setdefault(part, np.zeros(cells, bool))[number] = True
    return np.array(list(found.values()), bool).reshape(len(found), cells)


def _round_all(
    lacking: npt.NDArray[np.float64], numbers: Sequence[int], levels: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """`_round` of each cell, one after the other.

    Args:
        lacking: images that each split lacks of each cell (cells, splits).
        numbers: of images in each cell that are still to be dealt.
        levels: bool (levels, cells): what rounding has kept from a split in one cell is owed to
            it in the other cells of the same level.

    Returns:
        int64 (cells, splits), rows that sum to `numbers`.
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
    """Whole counts that sum to `number`, each within one of what is lacking where that can be.

    What rounding down leaves goes, one image a split, to where most is owed over all cells.
    """
    counts = np.floor(np.clip(lacking, 0, None) + 1e-9).astype(np.int64)
    while counts.sum() > number:  # a group has overfilled another split
        counts[np.argmax(np.where(counts > 0, counts - lacking, -np.inf))] -= 1
    while counts.sum() < number:
        short = lacking - counts
        open_splits = short > 1e-9
        counts[np.argmax(np.where(open_splits, owed + short, -np.inf))] += 1
    return counts


def read_split(path: Path) -> pd.DataFrame:
    """split.csv: columns name, split (`train`, `val`, `test` or `dropped`) and group.

    Raises:
        UserError: missing, malformed, a column missing, a name twice, or an unknown split.
    """
    frame = read_csv(path, COLUMNS, "split", dtype={"name": "str", "split": "str"})
    frame = frame[list(COLUMNS)]
    if (twice := frame["name"].duplicated()).any():
        raise UserError(f"{path}: {frame['name'][twice].iloc[0]!r} stands there twice")
    known = (*SPLITS, DROPPED)
    if not (right := frame["split"].isin(known)).all():
        raise UserError(f"{path}: split {frame['split'][~right].iloc[0]!r} is not one of {known}")
    return frame


def read_folds(path: Path, names: pd.Series) -> pd.Series:
    """The fold of each image, nullable Int64 in the order of `names`; empty: in no fold.

    Args:
        path: folds.csv: columns name and fold (0 and up), for the images that are in one.
        names: of the images.

    Raises:
        UserError: missing, malformed, or a column missing.
    """
    frame = read_csv(path, ("name", FOLD), "split", dtype={"name": "str", FOLD: "Int64"})
    folds = frame.set_index("name")[FOLD].reindex(names)
    return pd.Series(folds.array, names.index, "Int64", name=FOLD)
