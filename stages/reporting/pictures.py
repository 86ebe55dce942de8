"""Crops as pictures inside the page, and the contact sheet."""

import base64
import io

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

QUALITY = 85  # of JPEG: a crop of 100 pixels takes some 3 kB


class Pictures:
    """The crops of a workspace, or none where pictures may not be shown."""

    def __init__(self, names: list[str], crops: npt.NDArray[np.uint8] | None) -> None:
        """Keep the crops at hand.

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
        """An image's crop as a `data:` address; empty where there are no pictures."""
        if self._crops is None:
            return ""
        buffer = io.BytesIO()
        Image.fromarray(self._crops[self._rows[name]]).save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def contact_sheet(people: pd.DataFrame, each: int) -> pd.DataFrame:
    """The first images of each cell of race x age group x gender.

    Args:
        people: columns name, age, gender and race (ordered categories), in the index's order.
        each: most images of a cell.
    """
    cells = people.groupby(["race", "age", "gender"], observed=True, sort=True)
    return cells.head(each).sort_values(["race", "age", "gender"], kind="stable")
