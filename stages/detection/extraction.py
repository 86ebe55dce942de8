"""From each archive member to its row in index.csv and, where a face was found, its crop.

Threads, processes and the workers of a cluster give the same, in the order of the members.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from multiprocessing.synchronize import Lock
from typing import Any

import cv2

from stages.core.sections import Cluster, Detect
from stages.detection.crops import BOX, choose_face, crop, pixel_box
from stages.detection.detector import Detector
from stages.detection.forgetting import fingerprint, named
from stages.faces.index import Row
from stages.faces.labels import LabelError, parse_name
from stages.parallel import cluster as ray_cluster
from stages.parallel import processes, threads
from stages.raw import images
from stages.raw.archives import Member
from stages.raw.images import Pixels, UnreadableImageError, decode

Extraction = tuple[Row, Pixels | None]


def extract_face(member: Member, detector: Detector, detect: Detect) -> Extraction:
    """The row of one member and, if its status is `cropped`, its uint8 RGB crop."""
    row = partial(Row, member.name, member.archive)
    if member.data is None:
        return row("unreadable", reason=member.problem), None
    try:
        known: dict[str, Any] = parse_name(member.name)._asdict()
    except LabelError as error:
        return row("bad_label", reason=str(error)), None
    try:
        image = decode(member.data, detect.max_pixels)
    except UnreadableImageError as error:
        return row("unreadable", **known, reason=str(error)), None
    height, width = image.shape[:2]
    faces = detector(image)
    known |= {"width": width, "height": height, "faces_found": len(faces)}
    if not faces:
        return row("no_face", **known, reason="no face above the threshold"), None
    face = choose_face(faces, detect.face, height, width)
    box = pixel_box(face)
    known |= {"score": round(face.score, 6), **dict(zip(BOX, box, strict=True))}
    return row("cropped", **known), crop(image, box, detect.margin, detect.size)


def extract_faces(
    members: Iterable[Member],
    detector: Detector,
    detect: Detect,
    number: int,
    forgotten: Collection[str] = (),
) -> Iterator[Extraction]:
    """Extract the faces of all members on `number` threads; see `named` for their unique names.

    `forgotten` has the hexadecimal SHA-256 of the bytes of members that are skipped. They still
    take their names, so that a name never comes to mean another image.
    """
    work = _extractor(lambda: detector, detect, forgotten)
    return _with_unique_names(threads.side_by_side(work, members, number, Member.weight))


def extract_in_processes(
    members: Iterable[Member],
    load: Callable[[], Detector],
    detect: Detect,
    number: int,
    forgotten: Collection[str] = (),
) -> Iterator[Extraction]:
    """As `extract_faces`, in processes; `load`, picklable, loads the detector once in each.

    Raises UserError if a process was killed.
    """
    make = partial(_extractor, load, detect, forgotten, processes.CONTEXT.Lock())
    return _with_unique_names(processes.side_by_side(make, members, number, Member.weight))


def extract_on_cluster(
    cluster: Cluster,
    members: Iterable[Member],
    load: Callable[[], Detector],
    detect: Detect,
    forgotten: Collection[str] = (),
) -> Iterator[Extraction]:
    """As `extract_in_processes`, on the workers of a cluster."""
    make = partial(_extractor, load, detect, forgotten)
    return _with_unique_names(ray_cluster.spread(cluster, make, members))


def _extractor(
    load: Callable[[], Detector],
    detect: Detect,
    forgotten: Collection[str],
    lock: Lock | None = None,  # of this process and those beside it
) -> Callable[[Member], Extraction | None]:
    if lock is not None:
        images.take_turns(lock)
        # OpenCV's threads would oversubscribe the cores and do not survive a fork.
        cv2.setNumThreads(0)
    detector = load()

    def extract(member: Member) -> Extraction | None:
        if forgotten and fingerprint(member) in forgotten:
            return None
        return extract_face(member, detector, detect)

    return extract


def _with_unique_names(results: Iterable[tuple[Member, Extraction | None]]) -> Iterator[Extraction]:
    for name, extraction in named(results):
        if extraction is not None:
            yield extraction[0]._replace(name=name), extraction[1]
