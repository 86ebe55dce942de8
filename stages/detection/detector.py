"""RetinaFace (Deng et al. 2020, https://arxiv.org/abs/1905.00641): where the faces are.

Two networks, one interface, `Detector`: an RGB image in, `Face`s in its pixels out.

- `mobilenet0.25`: the small network of the paper, as an ONNX graph run by onnxruntime;
  the decoding of its outputs (anchors, box deltas, NMS) stands here.
- `resnet50`: the package retina-face with its published weights and its own decoding, on
  its ONNX backend (its TensorFlow backend would switch the process to legacy Keras 2).

A session may be called from several threads at once; each call uses one thread unless more
are asked for, since images side by side use cores better than one image on all of them.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from stages.core.errors import UserError
from stages.dataset.images import Pixels
from stages.detection.graph import lighter

Floats = npt.NDArray[np.float32]

NMS_IOU = 0.4  # both published implementations use it
MIN_SIDE = 32  # pixels; the coarsest stride: smaller images are padded to it

# MobileNet-0.25 as trained by https://github.com/biubug6/Pytorch_Retinaface
CHANNEL_MEANS_BGR = (104, 117, 123)
ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))  # stride, box sides in pixels
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


@dataclass(frozen=True)
class Face:
    """A detected face: score in [0, 1] and its box, x to the right and y down, in pixels."""

    score: float
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class ScalePolicy:
    """To what size an image is brought before detection.

    retina-face brings the short side to 1024 px, the long side to at most 1980 px, and
    blows small images up to that; `upscale=False` leaves small images as they are.
    """

    upscale: bool
    short_side: int
    long_side: int

    def factor(self, height: int, width: int) -> float:
        """The factor by which an image of this size is resized."""
        short, long = min(height, width), max(height, width)
        factor = min(self.short_side / short, self.long_side / long)
        return factor if self.upscale else min(1.0, factor)


Detector = Callable[[Pixels], list[Face]]


def load_detector(
    name: str,
    weights: Path,
    threshold: float,
    scale: ScalePolicy,
    threads: int = 1,
    device: str = "auto",
) -> Detector:
    """Load a network once; the returned function finds the faces of one image.

    Args:
        name: `mobilenet0.25` or `resnet50`.
        weights: its ONNX file.
        threshold: the lowest score that counts as a face, in [0, 1].
        scale: the scale policy.
        threads: of one call; 0: one per core.
        device: `auto` (a GPU where onnxruntime offers one), `cpu` or `gpu`.

    Raises:
        ValueError: an unknown name.
        UserError: the file is missing or cannot be run, or `gpu` is asked for and onnxruntime
            offers none.
    """
    networks = {"mobilenet0.25": _mobilenet, "resnet50": _resnet50}
    if name not in networks:
        raise ValueError(f"detector {name!r} is not one of {sorted(networks)}")
    if not weights.is_file():
        raise UserError(f"{weights}: missing; run `dvc repro pretrained`")
    calculating = providers(device)
    try:
        graph = lighter(weights) if name == "mobilenet0.25" else str(weights)
        session = _session(graph, threads, calculating)
    except Exception as error:  # protobuf's, onnx's and onnxruntime's have no common public base
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"{weights}: no ONNX file that can be run ({reason}); run `dvc repro -f pretrained`"
        ) from error
    find = networks[name](session, threshold)

    def detect(image: Pixels) -> list[Face]:
        height, width = image.shape[:2]
        factor = scale.factor(height, width)
        if factor != 1.0:
            # A side never becomes 0 pixels: OpenCV refuses that.
            across, down = max(factor, 1 / width), max(factor, 1 / height)
            image = cv2.resize(image, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
        faces = find(_padded(image))
        return [
            face
            for face in (_in_image(face, factor, height, width) for face in faces)
            if int(face.x2) > int(face.x1) and int(face.y2) > int(face.y1)
        ]

    return detect


def _session(
    graph: bytes | str, threads: int, calculating: list[str]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=calculating)


def on_gpu(device: str) -> bool:
    """Whether `load_detector` takes a GPU; `device` as there, and the same error."""
    return len(providers(device)) > 1


def providers(device: str) -> list[str]:
    """What onnxruntime is to calculate with; `device` as in `load_detector`."""
    gpu = "CUDAExecutionProvider"
    offered = gpu in onnxruntime.get_available_providers()
    if device == "gpu" and not offered:
        raise UserError("device is gpu, but onnxruntime offers none; install onnxruntime-gpu")
    return [gpu] * (offered and device != "cpu") + ["CPUExecutionProvider"]


def _padded(image: Pixels) -> Pixels:
    bottom, right = (max(0, MIN_SIDE - side) for side in image.shape[:2])
    if not (bottom or right):
        return image
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)


def _in_image(face: Face, factor: float, height: int, width: int) -> Face:
    """The face in the pixels of the original image, clipped to it."""
    return Face(
        score=face.score,
        x1=min(max(face.x1 / factor, 0.0), width),
        y1=min(max(face.y1 / factor, 0.0), height),
        x2=min(max(face.x2 / factor, 0.0), width),
        y2=min(max(face.y2 / factor, 0.0), height),
    )


def _mobilenet(
    session: onnxruntime.InferenceSession, threshold: float
) -> Callable[[Pixels], list[Face]]:
    def find(image: Pixels) -> list[Face]:
        height, width = image.shape[:2]
        tensor = cv2.dnn.blobFromImage(image, mean=CHANNEL_MEANS_BGR, swapRB=True)
        deltas, scores = session.run(["loc", "conf"], {"input": tensor})
        return faces_of(deltas[0], scores[0, :, 1], height, width, threshold)

    return find


def faces_of(
    deltas: Floats, scores: Floats, height: int, width: int, threshold: float
) -> list[Face]:
    """The faces that the small network's outputs mean: decoding and non-maximum suppression.

    Args:
        deltas: float32 (N, 4), its output `loc`, for each anchor of the image.
        scores: float32 (N,), the second column of its output `conf`, in [0, 1].
        height: of the image that it was given, in pixels.
        width: of that image.
        threshold: the lowest score that counts as a face.
    """
    candidates = np.flatnonzero(scores >= threshold)
    if not candidates.size:
        return []
    scores = scores[candidates]
    boxes = _decode_boxes(deltas[candidates], _anchors(height, width)[candidates])
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), threshold, NMS_IOU)
    return [Face(float(scores[i]), *map(float, boxes[i])) for i in kept]


@lru_cache(maxsize=64)
def _anchors(height: int, width: int) -> Floats:
    """Anchor boxes as (centre x, centre y, width, height) in pixels, in the graph's order."""
    layers = []
    for stride, sides in ANCHORS:
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        y, x, side = np.meshgrid(
            (np.arange(rows) + 0.5) * stride,
            (np.arange(columns) + 0.5) * stride,
            sides,
            indexing="ij",
        )
        layers.append(np.stack([x, y, side, side], axis=-1).reshape(-1, 4))
    return np.concatenate(layers).astype(np.float32)


def _decode_boxes(deltas: Floats, anchors: Floats) -> Floats:
    """Boxes as (x1, y1, x2, y2) in pixels from the network's offsets to its anchors."""
    centres = anchors[:, :2] + deltas[:, :2] * CENTRE_VARIANCE * anchors[:, 2:]
    sizes = anchors[:, 2:] * np.exp(deltas[:, 2:] * SIZE_VARIANCE)
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _resnet50(
    session: onnxruntime.InferenceSession, threshold: float
) -> Callable[[Pixels], list[Face]]:
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"  # read when the package is imported
    from retinaface import RetinaFace
    from retinaface.model.retinaface_onnx_model import RetinaFace as Network

    network = Network(session)

    def find(image: Pixels) -> list[Face]:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        found = RetinaFace.detect_faces(
            bgr, threshold=threshold, model=network, allow_upscaling=False
        )
        return [
            Face(float(face["score"]), *map(float, face["facial_area"])) for face in found.values()
        ]

    return find
