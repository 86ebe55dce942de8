"""The split: every image in one of train, val and test, stratum by stratum.

A stratum is a cell of age group x gender x race; a group (images of one picture, whose labels
need not agree) lies whole in one split. scikit-learn's splitters either stratify or keep
groups whole, or do both without a bound on the deviation. Here the groups are dealt first
and the single images make up for them: each cell comes within one image of its target in
every split (a group's size, where a cell has too few single images; where groups of several
strata crowd a cell, rarely more), and what is rounded in one cell is made up for in the
next, so that the whole comes out right too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.workspace.errors import UserError
from stages.workspace.files import read_csv

SPLITS = ("train", "val", "test")
DROPPED = "dropped"  # stands in split.csv for an image that is in no split
COLUMNS = ("name", "split", "group")
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
        strata: the stratum of each image, any hashable and sortable value (N).
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
    owed = np.zeros(len(target))  # what rounding has kept from each split, over the cells so far
    for index in range(len(cells)):
        singles = np.flatnonzero((cell == index) & (chosen < 0))
        counts = _round(lacking[index], len(singles), owed)
        owed += lacking[index] - counts
        chosen[generator.permutation(singles)] = np.repeat(np.arange(len(target)), counts)
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
