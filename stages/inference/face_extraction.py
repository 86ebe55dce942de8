"""What is seen in a picture: its faces, cut out as node detect cuts them, or why there are none."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.dataset.archives import Member
from stages.dataset.images import Pixels, UnreadableImageError, decode
from stages.detection.crops import choose_face, crop, pixel_box
from stages.detection.detector import Detector
from stages.runs.input_spec import InputSpec

MAX_PIXELS = 100_000_000
FACES_SEEN, NO_FACE, UNREADABLE = "predicted", "no_face", "unreadable"


@dataclass(frozen=True)
class FaceCrop:
    """A face: its crop, uint8 RGB (size, size, 3), its box before the margin, its score.

    Box (x1, y1, x2, y2) and score in [0, 1] are None where the picture was a crop already.
    """

    crop: Pixels
    box: tuple[int, int, int, int] | None = None
    score: float | None = None


@dataclass(frozen=True)
class ImageFaces:
    """A picture: how the user names it, its size in pixels, its faces by falling score.

    `status` is `predicted`, `no_face` or `unreadable`; the last two have a reason.
    """

    member: Member
    status: str
    faces: tuple[FaceCrop, ...] = ()
    width: int | None = None
    height: int | None = None
    reason: str = ""


def face_extractor(
    input_spec: InputSpec,
    detector: Detector | None,
    every: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Callable[[Member], ImageFaces]:
    """How to look at a picture for a model; what is returned may be called by several threads.

    Args:
        input_spec: how the model is fed.
        detector: finds the faces; None: each picture is a crop already. One of another size than
            the model's is resized as crops are.
        every: all faces; else the one that `detect.face` chose for training.
        max_pixels: a larger picture is unreadable.
    """

    def find(image: Pixels) -> tuple[FaceCrop, ...]:
        settings, (height, width) = input_spec.detect, image.shape[:2]
        if detector is None:
            return (FaceCrop(crop(image, (0, 0, width, height), 0.0, settings.size)),)
        faces = detector(image)
        if not every and faces:
            faces = [choose_face(faces, settings.face, height, width)]
        boxes = [(face.score, pixel_box(face)) for face in faces]
        return tuple(
            FaceCrop(crop(image, box, settings.margin, settings.size), box, score)
            for score, box in sorted(boxes, key=lambda found: -found[0])
        )

    def look(member: Member) -> ImageFaces:
        if member.data is None:
            return ImageFaces(member, UNREADABLE, reason=member.problem)
        try:
            image = decode(member.data, max_pixels, named="max_pixels")
        except UnreadableImageError as error:
            return ImageFaces(member, UNREADABLE, reason=str(error))
        height, width = image.shape[:2]
        faces = find(image)
        if faces:
            return ImageFaces(member, FACES_SEEN, faces, width, height)
        return ImageFaces(member, NO_FACE, (), width, height, "no face above the threshold")

    return look


def stacked(faces: list[FaceCrop], size: int) -> Pixels:
    """The crops of faces as one array, uint8 (N, size, size, 3); N may be 0."""
    return np.stack([face.crop for face in faces]) if faces else np.zeros((0, size, size, 3), "u1")
