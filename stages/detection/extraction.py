"""The fate of each raw member: its row in the index and, where a face was found, its crop."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stages.dataset.archives import Member
from stages.dataset.forgetting import fingerprint, named
from stages.dataset.images import Pixels, UnreadableImageError, decode
from stages.dataset.index import Row
from stages.dataset.labels import LabelError, parse_name
from stages.detection.crops import choose_face, crop, pixel_box
from stages.detection.detector import Detector
from stages.parallel.threads import side_by_side

BOX = ("x1", "y1", "x2", "y2")

Extraction = tuple[Row, Pixels | None]


@dataclass(frozen=True)
class CropSettings:
    """How a crop is made: which face, margin (share of the box), side in px, input limit."""

    face: str
    margin: float
    size: int
    max_pixels: int


def extract_face(member: Member, detector: Detector, settings: CropSettings) -> Extraction:
    """The row of one member and, if its status is `cropped`, its uint8 RGB crop."""
    row = partial(Row, member.name, member.archive)
    if member.data is None:
        return row("unreadable", reason=member.problem), None
    try:
        labels = parse_name(member.name)
    except LabelError as error:
        return row("bad_label", reason=str(error)), None
    known: dict[str, Any] = {"age": labels.age, "gender": labels.gender, "race": labels.race}
    try:
        image = decode(member.data, settings.max_pixels)
    except UnreadableImageError as error:
        return row("unreadable", **known, reason=str(error)), None
    height, width = image.shape[:2]
    faces = detector(image)
    known |= {"width": width, "height": height, "faces_found": len(faces)}
    if not faces:
        return row("no_face", **known, reason="no face above the threshold"), None
    face = choose_face(faces, settings.face, height, width)
    box = pixel_box(face)
    known |= {"score": round(face.score, 6), **dict(zip(BOX, box, strict=True))}
    return row("cropped", **known), crop(image, box, settings.margin, settings.size)


def extract_faces(
    members: Iterable[Member],
    detector: Detector,
    settings: CropSettings,
    threads: int,
    forgotten: Collection[str] = (),
) -> Iterator[Extraction]:
    """Examine members on `threads` threads; yield their fates in the order of the members.

    A second member with the same base name is listed by its archive and path, a further
    one with a number, so that no member is lost and every name stands once.

    Those that are `forgotten` (SHA-256 of their bytes, hexadecimal) are neither looked at nor
    yielded; but they have their names, which so never come to mean another image.
    """

    look = face_extractor(detector, settings, forgotten)
    return in_names(side_by_side(look, members, threads, Member.weight))


def face_extractor(
    detector: Detector, settings: CropSettings, forgotten: Collection[str]
) -> Callable[[Member], Extraction | None]:
    """What examines one member, unless it is forgotten: then there is None."""

    def look(member: Member) -> Extraction | None:
        gone = bool(forgotten) and fingerprint(member) in forgotten
        return None if gone else extract_face(member, detector, settings)

    return look


def in_names(examined: Iterable[tuple[Member, Extraction | None]]) -> Iterator[Extraction]:
    """Fates with names that stand once each; without those that are None, which have names too."""
    for name, (_, fate) in named(examined, lambda pair: pair[0]):
        if fate is not None:
            row, crop = fate
            yield row if row.name == name else replace(row, name=name), crop
