"""Features of a frozen part, computed by the workers of a cluster.

Each worker gets the network once, by value. On another kind of machine the last bits may differ.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from stages.core.sections import Cluster
from stages.networks import device
from stages.parallel.cluster import spread


def features_on(
    cluster: Cluster, setup: Sequence[Any], frozen: keras.Model, batches: Iterable[npt.NDArray[Any]]
) -> Iterator[npt.NDArray[Any]]:
    """Yield a frozen part's output for each batch of images or features, in their order.

    `setup` are the arguments of `device.prepare`, which each worker calls.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frozen.keras"
        frozen.save(path)
        network = path.read_bytes()

    def make() -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        device.prepare(*setup)
        import keras as loader

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frozen.keras"
            path.write_bytes(network)
            model = loader.saving.load_model(path, compile=False, safe_mode=True)
        return lambda batch: np.asarray(model.predict_on_batch(batch))

    return (features for _, features in spread(cluster, make, batches, size=1))
