"""What may be done with a model: the licences of all that it is made from.

The licence of each weights file stands beside its address, in stages/weights/registry.py.
"""

from dataclasses import dataclass

from stages.weights.registry import BACKBONES, DETECTORS


@dataclass(frozen=True)
class Licence:
    """A licence.

    Attributes:
        text: what it allows, in words.
        identifier: as Hugging Face lists them; `other` where it is none of these.
        name: of a licence that is `other`.
        link: to its text, for one that is `other`.
    """

    text: str
    identifier: str = "other"
    name: str = ""
    link: str = ""

    def header(self) -> dict[str, str]:
        """Its part of a model card's header."""
        if self.identifier != "other":
            return {"license": self.identifier}
        named = {"license": "other", "license_name": self.name}
        return named | ({"license_link": self.link} if self.link else {})


UTKFACE = "https://susanqq.github.io/UTKFace/"
CODE = Licence("MIT", "mit")
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
    "demo": Licence("MIT, as the code that draws them", "mit"),
    "utkface-wild": _RESEARCH,
    "utkface-aligned": _RESEARCH,
    "local": Licence(
        f"that of the images given; those of UTKFace ({UTKFACE}): {_RESEARCH.text}",
        name="as-the-training-images",
    ),
}


def licences(
    source: str, detector: str, backbone: tuple[str, str] | None
) -> list[tuple[str, Licence]]:
    """What a model is made from and the model itself, each with its licence.

    Args:
        source: of the images, `data.source`.
        detector: that made the crops.
        backbone: name and pretraining of the weights that it began from; None: random ones.
    """
    rows = [("this project's code", CODE), ("training images", LICENCE_OF_IMAGES[source])]
    finder = DETECTORS[detector]
    rows.append((f"weights of the detector, {finder.key}", Licence(finder.licence)))
    if backbone is not None:
        began = BACKBONES[backbone]
        rows.append((f"weights that it began from, {began.key}", Licence(began.licence)))
    rows.append(("this model", licence_of_model(source, backbone)))
    return rows


def licence_of_model(source: str, backbone: tuple[str, str] | None) -> Licence:
    """The licence of a model: it derives from its images and from the weights it began from.

    Args:
        source: see `licences`.
        backbone: see `licences`.
    """
    began = None if backbone is None else BACKBONES[backbone].licence
    images = LICENCE_OF_IMAGES[source]
    if source == "demo":
        if began is None:
            return Licence("MIT", "mit")
        text = f"that of the weights it began from: {began}"
        return Licence(text, name="as-the-pretrained-weights")
    text = f"within the terms of its training images: {images.text}"
    if began is not None:
        text += f"; and within those of the weights it began from: {began}"
    return Licence(text, name=images.name, link=images.link)
