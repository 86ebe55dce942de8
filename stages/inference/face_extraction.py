"""The faces of an image, cropped as stage detect crops them, or the reason why there are none."""

from collections.abc import Callable
from typing import NamedTuple

from stages.detection.crops import choose_face, crop, pixel_box
from stages.detection.detector import Detector
from stages.networks.input_spec import InputSpec
from stages.raw.archives import Member
from stages.raw.images import Pixels, UnreadableImageError, decode

MAX_PIXELS = 100_000_000
NO_FACE = "no face above the threshold"
UNREADABLE = "unreadable"


class FaceCrop(NamedTuple):
    """A face: its crop, uint8 RGB (size, size, 3), its box before the margin, its score."""

    crop: Pixels
    box: tuple[int, int, int, int] | None = None  # x1, y1, x2, y2; None: the image was a crop
    score: float | None = None  # in [0, 1]


class ImageFaces(NamedTuple):
    """An image: its member, its size in pixels, its faces by decreasing score."""

    member: Member
    status: str  # predicted, no_face or unreadable; the last two have a reason
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
    """Return a function that extracts the faces of an image; several threads may call it.

    Without `every`, only the face that `detect.face` selects is extracted. Without a detector, each
    image is already a crop, and is resized if its size is not the model's.
    """
    cropping = input_spec.detect

    def extract(member: Member) -> ImageFaces:
        if member.data is None:
            return ImageFaces(member, UNREADABLE, reason=member.problem)
        try:
            image = decode(member.data, max_pixels, named="max_pixels")
        except UnreadableImageError as error:
            return ImageFaces(member, UNREADABLE, reason=str(error))
        height, width = image.shape[:2]
        if detector is None:
            whole = FaceCrop(crop(image, (0, 0, width, height), 0.0, cropping.size))
            return ImageFaces(member, "predicted", (whole,), width, height)
        faces = detector(image)
        if not faces:
            return ImageFaces(member, "no_face", (), width, height, NO_FACE)
        if not every:
            faces = [choose_face(faces, cropping.face, height, width)]
        crops = []
        for face in sorted(faces, key=lambda face: -face.score):
            pixels = crop(image, box := pixel_box(face), cropping.margin, cropping.size)
            crops.append(FaceCrop(pixels, box, face.score))
        return ImageFaces(member, "predicted", tuple(crops), width, height)

    return extract
