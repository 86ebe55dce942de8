"""Features of a frozen part, computed by the workers of a cluster.

Each worker gets the network once, by value. The same batches on the same kind of machine give the
same bytes; on another kind the last bits may differ, as they do between any two machines.
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

Images = npt.NDArray[np.uint8]
Work = Callable[[list[Any]], list[npt.NDArray[Any]]]


def features_on(
    cluster: Cluster, setup: Sequence[Any], frozen: keras.Model, batches: Iterable[Images]
) -> Iterator[npt.NDArray[Any]]:
    """Yield a frozen part's output for each batch, in their order.

    Args:
        cluster: section `cluster` of params.
        setup: the arguments of `device.prepare`, which each worker calls.
        frozen: images (or features) to features.
        batches: its inputs.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "frozen.keras"
        frozen.save(path)
        network = path.read_bytes()

    def make() -> Work:
        device.prepare(*setup)
        import keras as loader

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "frozen.keras"
            file.write_bytes(network)
            model = loader.saving.load_model(file, compile=False, safe_mode=True)
        return lambda some: [np.asarray(model.predict_on_batch(batch)) for batch in some]

    for _, features in spread(cluster, make, batches, size=1):
        yield features
