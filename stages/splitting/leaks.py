"""Leaks: test images that a network has seen, themselves or as a copy.

Nothing here looks at how the split was made. The pixels of all crops are compared anew, by
thresholds of their own, and what counts as seen is what the model's own list says: models/<run>/
images.csv. So copies that the split kept apart too little, a split that was made by hand and a
model of an earlier split are all found. Images that served for validation count as seen: they
chose the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.splitting.duplicates import group_duplicates

SAME, COPY, MIRRORED = "same image", "copy", "mirrored copy"
COLUMNS = ("test", "used", "used_for", "kind", "correlation")


@dataclass(frozen=True)
class Pictures:
    """Which crops show one picture.

    identical: columns name and pixels; equal numbers exactly for equal pixels.
    copies: columns one, other, mirrored and correlation, each pair in both directions.
    """

    identical: pd.DataFrame
    copies: pd.DataFrame


def compare_pictures(
    names: Sequence[str], crops: npt.NDArray[np.uint8], max_bits: int, min_correlation: float
) -> Pictures:
    """Compare all crops with each other, mirrored too.

    Args:
        names: of the crops (N).
        crops: uint8 RGB (N, height, width, 3); may be mapped from a file.
        max_bits: as `near_duplicates` has it.
        min_correlation: as `near_duplicates` has it.
    """
    known = np.array(names, dtype=object)
    # All at once and in their own order, as the split does it: the hash of a mirrored crop is not
    # quite that of the crop, so which of two is mirrored decides over pairs at the threshold.
    found = group_duplicates(crops, max_bits, min_correlation)
    pairs = found.pairs.assign(one=known[found.pairs["first"]], other=known[found.pairs["second"]])
    columns = ["one", "other", "mirrored", "correlation"]
    turned = pairs.rename(columns={"one": "other", "other": "one"})
    copies = pd.concat([pairs[columns], turned[columns]], ignore_index=True)
    return Pictures(pd.DataFrame({"name": known, "pixels": found.identical}), copies)


def find_leaks(test: Sequence[str], used: pd.DataFrame, pictures: Pictures) -> pd.DataFrame:
    """All pairs of a test image and an image that was used and shows the same picture.

    Args:
        test: names of the test images.
        used: columns name and used_for, as `read_used` gives them.
        pictures: which crops show one picture.

    Returns:
        Columns test, used, used_for, kind (`same image`, `copy` or `mirrored copy`) and
        correlation (of the thumbnails; 1 for equal pixels), in the order of the test images.
    """
    tested = pd.DataFrame({"test": list(test), "place": range(len(test))})
    seen = used.rename(columns={"name": "used"})
    pixels = pictures.identical.set_index("name")["pixels"]
    equal = tested.assign(pixels=tested["test"].map(pixels)).merge(
        seen.assign(pixels=seen["used"].map(pixels)).dropna(), on="pixels"
    )
    kind = np.where(equal["test"] == equal["used"], SAME, COPY)
    equal = equal.assign(kind=kind, correlation=1.0)
    near = tested.merge(pictures.copies, left_on="test", right_on="one")
    near = near.merge(seen, left_on="other", right_on="used")
    near["kind"] = np.where(near["mirrored"].astype(bool), MIRRORED, COPY)
    # Equal pixels come first, and once: they are among the near-duplicates too.
    leaks = pd.concat([equal, near]).drop_duplicates(["test", "used", "used_for"])
    return leaks.sort_values("place", kind="stable", ignore_index=True)[list(COLUMNS)]


def count_leaks(test: Sequence[str], used: pd.DataFrame, leaks: pd.DataFrame) -> dict[str, int]:
    """What was compared and found between the test images and what was used.

    Returns:
        test_images; used_images; pairs_checked (of a test and a used image); seen (test images
        that were used); seen_as_copy (further test images of which a copy was used).
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
    """What a run with these lists uses: columns name and used_for, as `read_used` gives them."""
    parts = [
        pd.DataFrame({"name": lists["name"][lists[side]], "used_for": side})
        for side in ("train", "val")
    ]
    return pd.concat(parts, ignore_index=True)


def list_differences(used: pd.DataFrame, lists: pd.DataFrame, whole: bool = True) -> list[str]:
    """Names whose use by a model is not what the lists say, sorted.

    With `whole` false the model used a part of the lists, and what it left out is no difference.
    """
    said, done = (
        set(frame[["name", "used_for"]].itertuples(index=False, name=None))
        for frame in (used_by_lists(lists), used)
    )
    return sorted({name for name, _ in (said ^ done if whole else done - said)})
