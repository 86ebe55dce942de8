"""Leaks: test images that a network has seen, or of which it has seen a copy.

All crops are compared again, and the images that a model has seen are those in its own list,
models/<run>/images.csv: the check also finds copies that the split missed and models of an earlier
split. Validation images count as seen because they chose the epoch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.splitting.duplicates import group_duplicates

SAME, COPY, MIRRORED = "same image", "copy", "mirrored copy"
COLUMNS = ("test", "used", "used_for", "kind", "correlation")


class Pictures(NamedTuple):
    """Which crops show the same picture."""

    pixels: pd.Series  # by name, numbers that are equal if the pixels are
    copies: pd.DataFrame  # columns one, other, mirrored and correlation, in both directions


def compare_pictures(
    names: Sequence[str], crops: npt.NDArray[np.uint8], max_bits: int, min_correlation: float
) -> Pictures:
    """Compare all named crops with each other and with mirror images, as `near_duplicates` does."""
    known = np.array(names, dtype=object)
    # In the same order as for the split: the hash of a mirrored crop is not exactly the mirrored
    # hash, so the order decides about pairs at the threshold.
    duplicates = group_duplicates(crops, max_bits, min_correlation)
    pairs = duplicates.pairs[["mirrored", "correlation"]]
    one, other = (known[duplicates.pairs[column]] for column in ("first", "second"))
    both = [pairs.assign(one=one, other=other), pairs.assign(one=other, other=one)]
    pixels = pd.Series(duplicates.identical, known)
    return Pictures(pixels, pd.concat(both, ignore_index=True))


def find_leaks(test: Sequence[str], used: pd.DataFrame, pictures: Pictures) -> pd.DataFrame:
    """All pairs of a test image and a used image that show the same picture.

    `used` has the columns of `read_used`. Returns the columns test, used, used_for, kind (`same
    image`, `copy` or `mirrored copy`) and correlation (1 for equal pixels), in the order of `test`.
    """
    tested = pd.DataFrame({"test": list(test), "place": range(len(test))})
    seen = used.rename(columns={"name": "used"})
    tested_pixels = tested.assign(pixels=tested["test"].map(pictures.pixels))
    used_pixels = seen.assign(pixels=seen["used"].map(pictures.pixels)).dropna()
    equal = tested_pixels.merge(used_pixels, on="pixels")
    kind = np.where(equal["test"] == equal["used"], SAME, COPY)
    equal = equal.assign(kind=kind, correlation=1.0)
    near = tested.merge(pictures.copies, left_on="test", right_on="one")
    near = near.merge(seen, left_on="other", right_on="used")
    near["kind"] = np.where(near["mirrored"].astype(bool), MIRRORED, COPY)
    # Equal pixels come first and once; they are also near-duplicates.
    leaks = pd.concat([equal, near]).drop_duplicates(["test", "used", "used_for"])
    return leaks.sort_values("place", kind="stable", ignore_index=True)[list(COLUMNS)]


def count_leaks(test: Sequence[str], used: pd.DataFrame, leaks: pd.DataFrame) -> dict[str, int]:
    """Count the comparisons and the leaks.

    `seen` are test images that were used, `seen_as_copy` others of which a copy was used.
    """
    used_images = used["name"].nunique()
    seen = set(leaks.loc[leaks["kind"] == SAME, "test"])
    return {
        "test_images": len(test),
        "used_images": used_images,
        "pairs_checked": len(test) * used_images,
        "seen": len(seen),
        "seen_as_copy": len(set(leaks["test"]) - seen),
    }


def used_by_lists(lists: pd.DataFrame) -> pd.DataFrame:
    """The images used by a run with these lists: columns name and used_for."""
    used = lists.melt("name", ["train", "val"], "used_for", "is_used")
    return used[used["is_used"]].reset_index(drop=True)[["name", "used_for"]]


def list_differences(used: pd.DataFrame, lists: pd.DataFrame, whole: bool = True) -> list[str]:
    """Sorted names of the images whose use by a model differs from the lists.

    With `whole` false the model used a subset of the lists, and omitted images are no difference.
    """
    both = used_by_lists(lists).merge(used, how="outer", indicator=True)
    differs = both["_merge"].isin(["left_only", "right_only"] if whole else ["right_only"])
    return sorted(set(both["name"][differs]))
