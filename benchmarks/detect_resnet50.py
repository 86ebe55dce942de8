"""Detection with RetinaFace ResNet50 against retina-face, image by image.

Three things are timed on decoded images: retina-face's `detect_faces` as it comes, which blows
small images up to 1024 px and uses all cores for each; ours at the same scale; ours as
params.yaml has it, without blowing up. The weights are random, which costs the same time
(`random_resnet50`). What the other scale does to boxes and fates is measured with MobileNet-0.25,
whose weights are real, on more images.

    python -m benchmarks.detect_resnet50 --archive UTKFace.tar.gz
"""

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from benchmarks.faces import (
    THREADS,
    add_archive,
    labelled_members,
    mobilenet,
)
from benchmarks.random_resnet50 import write_random_resnet50
from benchmarks.side_by_side import (
    add_number,
    compare,
    make_parser,
    print_report,
    prove,
    rates,
    spread,
    take_turns,
)
from stages.core.params import load_params
from stages.core.sections import Cropping, Scale
from stages.core.stage import run_stage
from stages.detection.crops import choose_face
from stages.detection.detector import Detector, Face, load_detector
from stages.raw.images import Pixels, decode

FACES_AN_IMAGE = 5  # that the threshold is set for: random scores would give none or thousands
MIN_SIDE = 3  # pixels of a box that is compared; ours leaves out those of no whole pixel
SHORT_SIDE, LONG_SIDE = 1024, 1980  # retina-face's, pixels


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__, rounds=3)
    add_archive(parser, 4)
    add_number(parser, "--policy-images", 200, "images for the scale policy's effect")
    arguments = parser.parse_args()
    params = load_params()
    members = labelled_members(
        arguments.archive,
        max(arguments.images, arguments.policy_images),
        params.detect,
    )
    images = [decode(member.data or b"", params.detect.max_pixels) for member in members]
    few = images[: arguments.images]
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(few, write_random_resnet50(Path(folder) / "random.onnx", seed=1))
        proven = sides.prove()
        seconds = take_turns(
            {"ours": sides.ours, "rival": sides.rival, "native": sides.native}, arguments.rounds
        )
    speed = {name: rates(each, len(few)) for name, each in seconds.items()}
    lines = [
        compare("ours / retina-face, same scale", speed["ours"], speed["rival"], "images/s", 1.0),
        compare(
            "ours, not blown up / retina-face", speed["native"], speed["rival"], "images/s", 10
        ),
    ]
    effect = policy_effect(
        images[: arguments.policy_images],
        mobilenet(params),
        mobilenet(params, upscale=True),
        params.detect.face,
    )
    print_report(arguments, proven, lines, scale_policy=effect)


def _cropping(threshold: float, upscale: bool) -> Cropping:
    scale = Scale(upscale=upscale, short_side=SHORT_SIDE, long_side=LONG_SIDE)
    changes = {"detector": "resnet50", "score_threshold": threshold, "scale": scale}
    return load_params().detect.model_copy(update=changes)


class Sides:
    """The contenders on the same decoded images and the same graph."""

    def __init__(self, images: Sequence[Pixels], graph: Path) -> None:
        os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"  # as in stages.detection.detector
        from retinaface.model.retinaface_onnx_model import RetinaFace as Network

        self.images = images
        self.network = Network(onnxruntime.InferenceSession(str(graph)))
        self.threshold = self._threshold()
        self.enlarging, self.plain = (
            load_detector(_cropping(self.threshold, upscale), graph) for upscale in (True, False)
        )

    def _threshold(self) -> float:
        """The score that some faces of the first image have, a little above the others."""
        from retinaface.commons.preprocess import preprocess_image

        tensor, _, _ = preprocess_image(self._bgr(self.images[0]), True)
        outputs = self.network(tensor)
        scores = np.sort(np.concatenate([outputs[i][..., 2:].ravel() for i in (0, 3, 6)]))
        return float(scores[-FACES_AN_IMAGE - 1 : -FACES_AN_IMAGE + 1].mean())

    @staticmethod
    def _bgr(image: Pixels) -> Pixels:
        return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)

    def rival(self) -> list[list[Face]]:
        """retina-face as its users call it."""
        from retinaface import RetinaFace

        found = []
        for image in self.images:
            faces = RetinaFace.detect_faces(
                self._bgr(image), threshold=self.threshold, model=self.network
            )
            found.append([Face(f["score"], *f["facial_area"]) for f in faces.values()])
        return found

    def ours(self) -> list[list[Face]]:
        """The node's way at the same scale: images side by side."""
        return self._side_by_side(self.enlarging)

    def native(self) -> list[list[Face]]:
        """The same without blowing up."""
        return self._side_by_side(self.plain)

    def _side_by_side(self, detector: Detector) -> list[list[Face]]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(detector, self.images))

    def prove(self) -> list[str]:
        """That the best box of each image is the same at the same scale.

        Lesser ones can differ: retina-face sorts out overlapping boxes in pixels of the original
        image and takes each for a pixel wider than it is, which for small boxes is much.
        """
        ours, rival = map(_best, self.ours()), map(_best, self.rival())
        pairs = [(a, b) for a, b in zip(ours, rival, strict=True) if a or b]
        proven = prove(
            bool(pairs) and all(a and b for a, b in pairs),
            f"faces in the same {len(pairs)} of {len(self.images)} images",
        )
        scores = max(abs(a.score - b.score) for a, b in pairs if a and b)
        apart = max(float(np.abs(_box(a) - _box(b)).max()) for a, b in pairs if a and b)
        return [
            proven,
            prove(scores < 1e-4, f"highest scores within {scores:.1e}"),
            prove(apart <= 1, f"their boxes within {apart:.2f} px"),
        ]


def _best(faces: Sequence[Face]) -> Face | None:
    """The face of the highest score, of those that are not cut off at the image's border."""
    whole = [face for face in faces if (_box(face)[2:] - _box(face)[:2]).min() >= MIN_SIDE]
    return max(whole, key=lambda face: face.score, default=None)


def policy_effect(
    images: Sequence[Pixels], native: Detector, enlarged: Detector, choice: str
) -> dict[str, object]:
    """What blowing up does to fates and boxes.

    Args:
        images: uint8 RGB.
        native: a detector that leaves them as they are.
        enlarged: the same that blows them up.
        choice: of the face, see `choose_face`.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = [list(pool.map(detector, images)) for detector in (native, enlarged)]
    overlaps, shifts = [], []
    for image, plain, large in zip(images, *found, strict=True):
        if plain and large:
            a, b = (_box(choose_face(faces, choice, *image.shape[:2])) for faces in (plain, large))
            overlaps.append(_overlap(a, b))
            shifts.append(float(np.abs(a - b).max()))
    only = [bool(plain) - bool(large) for plain, large in zip(*found, strict=True)]
    several = [sum(len(faces) > 1 for faces in side) for side in found]
    return {
        "images": len(images),
        "faces_by_both": len(overlaps),
        "only_not_blown_up": only.count(1),
        "only_blown_up": only.count(-1),
        "several_faces": dict(zip(("not_blown_up", "blown_up"), several, strict=True)),
        "overlap": spread(overlaps) | {"below_half": sum(each < 0.5 for each in overlaps)},
        "largest_shift_px": spread(shifts),
    }


def _box(face: Face) -> np.ndarray:
    return np.array([face.x1, face.y1, face.x2, face.y2])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


if __name__ == "__main__":
    run_stage(main)
