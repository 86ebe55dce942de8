"""What may be done with a model: the licences of its code, images and pretrained weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.weights.registry import BACKBONES, DETECTORS


@dataclass(frozen=True)
class Licence:
    """A licence in words, its identifier on Hugging Face and, if that is `other`, name and link."""

    text: str
    identifier: str = "other"
    name: str = ""
    link: str = ""

    def header(self) -> dict[str, str]:
        """Its part of a model card's header."""
        parts = {"": self.identifier, "_name": self.name, "_link": self.link}
        return {f"license{key}": value for key, value in parts.items() if value}


UTKFACE = "https://susanqq.github.io/UTKFace/"
MIT = Licence("MIT", "mit")
_RESEARCH = Licence(
    "non-commercial research only; the images belong to their owners",
    name="non-commercial-research",
    link=UTKFACE,
)
SOURCES = {
    "demo": "faces drawn by this project",
    "utkface-wild": "UTKFace, in-the-wild release",
    "utkface-aligned": "UTKFace, aligned and cropped release",
    "local": "own images with UTKFace-style names",
}
LICENCE_OF_IMAGES = {
    "demo": Licence("MIT, like the code that draws them", "mit"),
    "utkface-wild": _RESEARCH,
    "utkface-aligned": _RESEARCH,
    "local": Licence(
        f"that of the images given; those of UTKFace ({UTKFACE}): {_RESEARCH.text}",
        name="as-the-training-images",
    ),
}


def licences(
    source: str, detector: str, backbones: Sequence[tuple[str, str]]
) -> list[tuple[str, Licence]]:
    """A model's parts and, last, the model itself, each with its licence.

    `source` is `data.source`; `backbones` are the names and the pretraining of the pretrained
    weights, none for random ones, several for an average.
    """
    weights = [("detector", DETECTORS[detector])]
    weights += [("backbone", BACKBONES[backbone]) for backbone in backbones]
    return [
        ("this project's code", MIT),
        ("training images", LICENCE_OF_IMAGES[source]),
        *((f"weights of the {part}, {w.key}", Licence(w.licence)) for part, w in weights),
        ("this model", licence_of_model(source, backbones)),
    ]


def licence_of_model(source: str, backbones: Sequence[tuple[str, str]]) -> Licence:
    """The licence of a model, which derives from its images and its pretrained weights."""
    images = LICENCE_OF_IMAGES[source]
    weights = "; ".join(dict.fromkeys(BACKBONES[backbone].licence for backbone in backbones))
    if source == "demo":
        text = f"that of its pretrained weights: {weights}"
        return Licence(text, name="as-the-pretrained-weights") if weights else MIT
    text = f"within the terms of its training images: {images.text}"
    text += f"; and within those of its pretrained weights: {weights}" if weights else ""
    return Licence(text, name=images.name, link=images.link)
