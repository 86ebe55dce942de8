"""Progress bars of predictions, on standard error where that is a terminal."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from stages.networks.prediction import Network


@contextmanager
def watched(network: Network, images: int, doing: str) -> Iterator[Network]:
    """A network with a progress bar, which counts the images that it is given."""
    with tqdm(total=images, desc=doing, unit="image", disable=None) as bar:

        def predict_on_batch(x: npt.NDArray[np.uint8]) -> Mapping[str, Any]:
            outputs = network.predict_on_batch(x)
            bar.update(len(x))
            return outputs

        yield SimpleNamespace(predict_on_batch=predict_on_batch)
