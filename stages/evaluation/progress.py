"""Progress bars of predictions, on standard error where that is a terminal.

All bars of the project are tqdm's with `disable=None`: they appear where standard error is a
terminal and nowhere else. What a node has done it says in one line on standard output,
`<node>: ...`; where that is data (`predict`, `variants`), it says nothing.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm


class Network(Protocol):
    """What can be asked for the outputs of images."""

    def predict_on_batch(self, x: npt.NDArray[np.uint8], /) -> Mapping[str, Any]:
        """Outputs by name for images (M, height, width, 3)."""


class Watched:
    """A network that moves a bar on with each image that it has done; to be used in a `with`."""

    def __init__(self, network: Network, images: int, doing: str) -> None:
        """Begin a bar.

        Args:
            network: the one that is asked.
            images: how many it will be asked for.
            doing: what is written before the bar.
        """
        self._network = network
        self._bar = tqdm(total=images, desc=doing, unit="image", disable=None)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def predict_on_batch(self, x: npt.NDArray[np.uint8], /) -> Mapping[str, Any]:
        """As the network's own."""
        outputs = self._network.predict_on_batch(x)
        self._bar.update(len(x))
        return outputs
