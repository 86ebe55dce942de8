"""Crops as pictures inside the page."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

QUALITY = 85  # of JPEG: a crop of 100 pixels takes some 3 kB


class Pictures:
    """The crops of a workspace, or none if pictures may not be shown.

    Args:
        names: of the crops, in their order.
        crops: uint8 RGB (N, height, width, 3); None shows no picture.
    """

    def __init__(self, names: list[str], crops: npt.NDArray[np.uint8] | None) -> None:
        self._rows = {name: row for row, name in enumerate(names)}
        self._crops = crops
        self.shown = crops is not None

    def address(self, name: str) -> str:
        """An image's crop as a `data:` address; empty if there are no pictures."""
        if self._crops is None:
            return ""
        buffer = io.BytesIO()
        Image.fromarray(self._crops[self._rows[name]]).save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
