"""Labels in UTKFace file names: `<age>_<gender>_<race>_<date&time>.jpg`.

Unambiguous variants are accepted. Names with a missing field or a value out of range are refused: a
guessed label is worse than a lost image.

Codes are those of the data set's page (https://susanqq.github.io/UTKFace/): gender 0 male,
1 female; race 0 White, 1 Black, 2 Asian, 3 Indian, 4 Others.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Ages in years: UTKFace's page says 0 to 116, the published groups start above 0.
RANGES = {"age": (1, 116), "gender": (0, 1), "race": (0, 4)}

_NAME = re.compile(
    r"(?P<fields>\d+(?:_\d+)*)"
    r"\s*\.?"  # "…657 .jpg" and "…357jpg" both occur in the aligned release
    r"(?:jpe?g|png|bmp|webp|tiff?|gif)(?:\.chip\.jpe?g)?",
    re.IGNORECASE,
)


DATE_LENGTH, HOUR_LENGTH = 8, 10  # digits of a time
_TIME = re.compile(r"_(?P<time>20\d{6,15})", re.ASCII)


class LabelError(ValueError):
    """A file name without valid labels. The text names the field."""


class Labels(NamedTuple):
    """Labels of one image: age in years, gender and race as UTKFace codes."""

    age: int
    gender: int
    race: int


def parse_name(name: str) -> Labels:
    """Read the labels from a file's base name.

    Raises LabelError if it is not UTKFace-style, lacks a field or has a value out of range.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise LabelError("not an image named <age>_<gender>_<race>_<date>.jpg")
    fields = match["fields"].split("_")
    if len(fields) != 4:
        raise LabelError(f"{len(fields)} fields where age, gender, race and date are wanted")
    for text, (field, (low, high)) in zip(fields, RANGES.items(), strict=False):
        # The length first: a name may contain thousands of digits.
        if len(text) > 3 or not low <= int(text) <= high:
            raise LabelError(f"{field} {text[:20]} is not in {low}..{high}")
    return Labels(*map(int, fields[:3]))


def time_in(name: str) -> str:
    """The time of collection in a file's base name, as 20170116172854458; empty without one."""
    found = _TIME.search(name)
    return found["time"] if found else ""


def date_in(name: str) -> str:
    """The date of collection in a file's base name, as 20170116; without one the name itself."""
    return time_in(name)[:DATE_LENGTH] or name


def age_group(ages: npt.ArrayLike, upper_bounds: Sequence[int]) -> npt.NDArray[np.int64]:
    """Index of the age group of each age; group i is (bound i-1, bound i], the first (0, bound 0].

    `upper_bounds` are rising inclusive bounds in years, as [14, 25, 40, 60, 116].
    """
    return np.searchsorted(np.asarray(upper_bounds), np.asarray(ages), side="left")
