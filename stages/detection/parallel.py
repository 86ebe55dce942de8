"""The fates of members found by other processes, as `fates.extract_faces` finds them.

They are processes of this machine or workers of a cluster. Each loads the detector once, on a
cluster from bytes that are sent to it. Members are read by the caller and named by it, so that rows
and crops are the same, and in the same order.
"""

import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from multiprocessing.synchronize import Lock
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.core.sections import Cluster
from stages.dataset import images
from stages.dataset.archives import Member
from stages.dataset.images import Pixels
from stages.dataset.index import Row
from stages.detection.detector import Detector, ScalePolicy, load_detector
from stages.detection.extraction import CropSettings, Extraction, face_extractor, in_names
from stages.parallel import processes
from stages.parallel.cluster import spread


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


def extract_in_processes(
    members: Iterable[Member],
    load: Callable[[], Detector],
    settings: CropSettings,
    number: int,
    forgotten: Collection[str] = (),
) -> Iterator[Extraction]:
    """Examine members in processes of this machine; yield what `extract_faces` yields.

    Args:
        members: read by this process.
        load: makes the detector, once in each process; can be pickled.
        settings: how crops are made.
        number: of the processes, at least 1.
        forgotten: see `extract_faces`.

    Raises:
        UserError: a process was killed.
    """
    # Crops come back by memory that all share: by the pipe of the rows, as pickles, they would be
    # copied several times, which takes 2 % longer in all. A place is free again when it is needed
    # again, since no more members than there are places are under way.
    shape = (processes.under_way(number), settings.size, settings.size, 3)
    memory = processes.CONTEXT.RawArray("B", math.prod(shape))
    crops = np.frombuffer(memory, np.uint8).reshape(shape)
    make = partial(_make, load, settings, forgotten, processes.CONTEXT.Lock(), memory, shape)
    found = processes.side_by_side(make, enumerate(members), number, _weight)
    return in_names(_with_crops(found, crops))


def extract_on_cluster(
    cluster: Cluster,
    members: Iterable[Member],
    load: Callable[[], Detector],
    settings: CropSettings,
    forgotten: Collection[str] = (),
) -> Iterator[Extraction]:
    """Examine members on the workers of a cluster; yield what `extract_faces` yields.

    Args:
        cluster: section `cluster` of params.
        members: read by this process.
        load: makes the detector, once on each worker.
        settings: how crops are made.
        forgotten: see `extract_faces`.
    """

    def make() -> Callable[[list[Member]], list[Extraction | None]]:
        look = face_extractor(load(), settings, forgotten)
        return lambda batch: [look(member) for member in batch]

    return in_names(spread(cluster, make, members))


Numbered = tuple[int, Member]
Told = tuple[Row, bool] | None  # a fate whose crop, if there is one, lies in shared memory


def _weight(numbered: Numbered) -> int:
    return numbered[1].weight()


def _make(
    load: Callable[[], Detector],
    settings: CropSettings,
    forgotten: Collection[str],
    turn: Lock,
    memory: Any,
    shape: tuple[int, ...],
) -> Callable[[Numbered], Told]:
    """The `face_extractor` of one of several processes, which share cores and memory."""
    cv2.setNumThreads(0)  # its threads would be more than cores, and do not outlive a fork
    images.take_turns(turn)
    look, crops = face_extractor(load(), settings, forgotten), np.frombuffer(memory, np.uint8)
    places = crops.reshape(shape)

    def work(numbered: Numbered) -> Told:
        number, member = numbered
        if (fate := look(member)) is None:
            return None
        row, crop = fate
        if crop is not None:
            places[number % len(places)] = crop
        return row, crop is not None

    return work


def _with_crops(
    found: Iterable[tuple[Numbered, Told]], crops: Pixels
) -> Iterator[tuple[Member, Extraction | None]]:
    for (number, member), told in found:
        if told is None:
            yield member, None
            continue
        row, cropped = told
        yield member, (row, crops[number % len(crops)].copy() if cropped else None)
