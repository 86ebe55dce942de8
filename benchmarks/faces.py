"""Real images for the benchmarks, from an archive, and the weights that they need."""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.core.errors import UserError
from stages.core.params import Params
from stages.core.sections import TASKS, ArchiveLimits
from stages.detection.detector import Detector, load_detector
from stages.detection.extraction import extract_faces
from stages.faces.labels import LabelError, age_group, parse_name
from stages.raw.archives import Member, read_members
from stages.runs.caches import shared_folder
from stages.weights.registry import BACKBONES, DETECTORS, WeightsFile, obtain

THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Faces:
    """Crops, uint8 RGB (N, size, size, 3), names, and int64 (N): classes by task, and years."""

    crops: npt.NDArray[np.uint8]
    names: list[str]
    labels: dict[str, npt.NDArray[np.int64]]
    ages: npt.NDArray[np.int64] | None = None


def noise(number: int, size: int) -> Faces:
    """Random pixels and labels, which cost as much as real ones."""
    random = np.random.default_rng(1)
    crops = random.integers(0, 256, (number, size, size, 3), np.uint8)
    classes = {"age": 5, "gender": 2, "race": 5}
    labels = {task: random.integers(0, count, number) for task, count in classes.items()}
    return Faces(crops, [f"{i}.jpg" for i in range(number)], labels, labels["age"] + 20)


def add_archive(parser: argparse.ArgumentParser, images: int) -> None:
    """The options `archive` and `images`."""
    parser.add_argument(
        "--archive", type=Path, required=True, help="UTKFace images, .tar, .tar.gz or .zip"
    )
    parser.add_argument("--images", type=int, default=images, help="images; more: repeated")


def labelled_members(archive: Path, number: int, limits: ArchiveLimits) -> list[Member]:
    """Members whose names tell all labels, from all over the archive, shuffled; at most `number`.

    Archives of UTKFace are in the order of age: their beginning would be children only.

    Raises:
        UserError: there are none.
    """
    total = sum(1 for _ in _labelled(archive, limits))
    if not total:
        raise UserError(f"{archive}: no image with a UTKFace name")
    places = set(np.linspace(0, total - 1, min(number, total)).round().astype(int).tolist())
    found = [m for place, m in enumerate(_labelled(archive, limits)) if place in places]
    return [found[place] for place in np.random.default_rng(1).permutation(len(found))]


def repeated(members: list[Member], number: int) -> Iterator[Member]:
    """So many members, again from the first under other names when they are used up."""
    for place in range(number):
        member = members[place % len(members)]
        again = place // len(members)
        yield replace(member, path=f"{again}/{member.path}") if again else member


def _labelled(archive: Path, limits: ArchiveLimits) -> Iterator[Member]:
    for member in read_members(archive, limits):
        try:
            parse_name(member.name)
        except LabelError:
            continue
        if member.data is not None:
            yield member


def weights_of(weights: WeightsFile, params: Params) -> Path:
    """A weights file, fetched once for all benchmarks unless params.yaml names it."""
    folder = shared_folder("pretrained")
    folder.mkdir(parents=True, exist_ok=True)
    return obtain(weights, folder, params.pretrained.path(weights.key), "benchmark")


def mobilenet(params: Params, upscale: bool = False) -> Detector:
    """The small RetinaFace, with the scale policy of params.yaml but for `upscale`."""
    return mobilenet_loader(params, upscale)()


def mobilenet_loader(params: Params, upscale: bool = False) -> Callable[[], Detector]:
    """What loads it in any process of this machine."""
    scale = params.detect.scale.model_copy(update={"upscale": upscale})
    detect = params.detect.model_copy(update={"detector": "mobilenet0.25", "scale": scale})
    return partial(load_detector, detect, weights_of(DETECTORS["mobilenet0.25"], params))


def backbone_weights(backbone: str, params: Params) -> Path:
    """The ImageNet weights of a backbone."""
    return weights_of(BACKBONES[backbone, "imagenet"], params)


def cut_faces(archive: Path, number: int, params: Params) -> Faces:
    """Crops of the first members with a face; repeated where the archive has fewer.

    Raises:
        UserError: no face is found.
    """
    # One image in a thousand has no face; what is too many is cut off.
    members = labelled_members(archive, number + number // 50 + 20, params.detect)
    fates = extract_faces(members, mobilenet(params), params.detect, THREADS)
    kept = [(row, crop) for row, crop in fates if crop is not None][:number]
    if not kept:
        raise UserError(f"{archive}: no face found")
    places = np.arange(number) % len(kept)
    ages, genders, races = (
        np.array([getattr(row, trait) for row, _ in kept], np.int64) for trait in TASKS
    )
    labels = {
        "age": age_group(ages, params.classes.age_upper_bounds),
        "gender": genders,
        "race": races,
    }
    return Faces(
        np.stack([crop for _, crop in kept])[places],
        [f"{place}_{kept[place % len(kept)][0].name}" for place in range(number)],
        {task: values[places] for task, values in labels.items()},
        ages[places],
    )
