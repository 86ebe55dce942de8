"""The fates of members found by other processes, as `fates.examine_all` finds them.

They are processes of this machine or workers of a cluster. Each loads the detector once, on a
cluster from bytes that are sent to it. Members are read by the caller and named by it, so that rows
and crops are the same, and in the same order.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from multiprocessing.synchronize import Lock
from pathlib import Path

import cv2

from stages.faces import images
from stages.faces.archives import Member
from stages.faces.detector import Detector, ScalePolicy, load_detector
from stages.faces.fates import CropSettings, Fate, in_names, looker
from stages.workspace import processes
from stages.workspace.cluster import spread
from stages.workspace.params import Cluster


def load_from_bytes(
    name: str, weights: bytes, threshold: float, scale: ScalePolicy, device: str
) -> Callable[[], Detector]:
    """What loads a detector on any machine; see `load_detector`."""

    def load() -> Detector:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.onnx"
            path.write_bytes(weights)
            return load_detector(name, path, threshold, scale, device=device)

    return load


def examine_apart(
    members: Iterable[Member],
    load: Callable[[], Detector],
    settings: CropSettings,
    number: int,
    forgotten: Collection[str] = (),
) -> Iterator[Fate]:
    """Examine members in processes of this machine; yield what `examine_all` yields.

    Args:
        members: read by this process.
        load: makes the detector, once in each process; can be pickled.
        settings: how crops are made.
        number: of the processes, at least 1.
        forgotten: see `examine_all`.

    Raises:
        UserError: a process was killed.
    """
    make = partial(_make, load, settings, forgotten, processes.CONTEXT.Lock())
    return in_names(processes.side_by_side(make, members, number, Member.weight))


def examine_on(
    cluster: Cluster,
    members: Iterable[Member],
    load: Callable[[], Detector],
    settings: CropSettings,
    forgotten: Collection[str] = (),
) -> Iterator[Fate]:
    """Examine members on the workers of a cluster; yield what `examine_all` yields.

    Args:
        cluster: section `cluster` of params.
        members: read by this process.
        load: makes the detector, once on each worker.
        settings: how crops are made.
        forgotten: see `examine_all`.
    """

    def make() -> Callable[[list[Member]], list[Fate | None]]:
        look = looker(load(), settings, forgotten)
        return lambda batch: [look(member) for member in batch]

    return in_names(spread(cluster, make, members))


def _make(
    load: Callable[[], Detector], settings: CropSettings, forgotten: Collection[str], turn: Lock
) -> Callable[[Member], Fate | None]:
    """`looker` for one of several processes of a machine, which share its cores and memory."""
    cv2.setNumThreads(0)  # its threads would be more than cores, and do not outlive a fork
    images.take_turns(turn)
    return looker(load(), settings, forgotten)
