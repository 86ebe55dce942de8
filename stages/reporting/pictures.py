"""Crops as pictures inside the page, and the contact sheet."""

import base64
import io

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

QUALITY = 85  # of JPEG: a crop of 100 pixels takes some 3 kB


class Pictures:
    """The crops of a workspace, or none if pictures may not be shown."""

    def __init__(self, names: list[str], crops: npt.NDArray[np.uint8] | None) -> None:
        """Take the crops.

        Args:
            names: of the crops, in their order.
            crops: uint8 RGB (N, height, width, 3); None shows no picture.
        """
        self._rows = {name: row for row, name in enumerate(names)}
        self._crops = crops

    @property
    def shown(self) -> bool:
        """Whether there are pictures."""
        return self._crops is not None

    def address(self, name: str) -> str:
        """An image's crop as a `data:` address; empty if there are no pictures."""
        if self._crops is None:
            return ""
        buffer = io.BytesIO()
        Image.fromarray(self._crops[self._rows[name]]).save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def contact_sheet(samples: pd.DataFrame, each: int) -> pd.DataFrame:
    """The first images of each group by race, age group and gender.

    Args:
        samples: columns name, age, gender and race (ordered categories), in the index's order.
        each: images of a group, at most.
    """
    traits = ["race", "age", "gender"]
    groups = samples.groupby(traits, observed=True, sort=True)
    return groups.head(each).sort_values(traits, kind="stable")
