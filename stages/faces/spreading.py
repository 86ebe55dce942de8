"""The fates of members found by the workers of a cluster, as `fates.examine_all` finds them.

Each worker loads the detector once, from bytes that are sent to it. Members are read by the
caller and named by it, so that rows and crops are the same, and in the same order.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from stages.faces.archives import Member
from stages.faces.detector import Detector, ScalePolicy, load_detector
from stages.faces.fates import CropSettings, Fate, examine
from stages.faces.forgetting import fingerprint, named
from stages.workspace.cluster import spread
from stages.workspace.params import Cluster

Examine = Callable[[list[Member]], list[Fate | None]]


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

    def make() -> Examine:
        detector = load()

        def look(member: Member) -> Fate | None:
            gone = bool(forgotten) and fingerprint(member) in forgotten
            return None if gone else examine(member, detector, settings)

        return lambda batch: [look(member) for member in batch]

    examined = spread(cluster, make, members)
    for name, (_, fate) in named(examined, lambda pair: pair[0]):
        if fate is not None:
            yield replace(fate[0], name=name), fate[1]
