"""RetinaFace (Deng et al. 2020, https://arxiv.org/abs/1905.00641): where the faces are.

- `mobilenet0.25`: the small network of the paper; its outputs are decoded here.
- `resnet50`: the package retina-face with its published weights and its own decoding, on its
  ONNX backend (its TensorFlow backend would switch the process to legacy Keras 2).
"""

import math
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnx.utils
import onnxruntime

from stages.core.errors import UserError, lacks_memory
from stages.core.sections import Cropping, Scale
from stages.raw.images import Pixels

Floats = npt.NDArray[np.float32]

NMS_IOU = 0.4  # as in both published implementations
MIN_SIZE = 32  # pixels: the coarsest stride. Smaller images are padded to it.

# MobileNet-0.25 as trained by https://github.com/biubug6/Pytorch_Retinaface
CHANNEL_MEANS_BGR = (104, 117, 123)
ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))  # stride, box sizes in pixels
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class Face(NamedTuple):
    """A detected face: score in [0, 1] and box in pixels, x to the right and y down."""

    score: float
    x1: float
    y1: float
    x2: float
    y2: float


Detector = Callable[[Pixels], list[Face]]


def scale_factor(scale: Scale, height: int, width: int) -> float:
    """The factor by which an image of this size in pixels is resized before detection.

    The shorter side becomes `short_side` unless the longer one would exceed `long_side`.
    """
    factor = min(scale.short_side / min(height, width), scale.long_side / max(height, width))
    return factor if scale.upscale else min(1.0, factor)


def load_detector(cropping: Cropping, weights: Path | bytes, device: str = "auto") -> Detector:
    """Load a network once; the returned function detects the faces of one RGB image.

    Several threads may call it; a call uses one. `weights` is the detector's ONNX file or its
    content, `device` as in `providers`. Raises UserError if either cannot be used.
    """
    if isinstance(weights, Path) and not weights.is_file():
        raise UserError(f"{weights}: missing; run `dvc repro pretrained`")
    small, chosen = cropping.detector == "mobilenet0.25", providers(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        graph = weights if isinstance(weights, bytes) else weights.read_bytes()
        if small:  # without the outputs that are not used: 5 % faster, the same bits
            extractor = onnx.utils.Extractor(onnx.load_from_string(graph))
            graph = extractor.extract_model(["input"], ["loc", "conf"]).SerializeToString()
        session = onnxruntime.InferenceSession(graph, options, providers=chosen)
    except Exception as error:  # protobuf, onnx and onnxruntime share no public base class
        if lacks_memory(error):
            raise
        reason = str(error).splitlines()[0][:200]
        file = weights if isinstance(weights, Path) else "detector weights"
        fault = f"{file}: no ONNX file that can be run ({reason})"
        raise UserError(f"{fault}; run `dvc repro -f pretrained`") from error
    find = (_mobilenet if small else _resnet50)(session, cropping.score_threshold)

    def detect(image: Pixels) -> list[Face]:
        height, width = image.shape[:2]
        factor = scale_factor(cropping.scale, height, width)
        if factor != 1.0:
            # OpenCV refuses an image of 0 pixels width or height.
            fx, fy = max(factor, 1 / width), max(factor, 1 / height)
            image = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
        bottom, right = (max(0, MIN_SIZE - length) for length in image.shape[:2])
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        faces = []
        for score, *box in find(image):
            inside = np.clip(np.divide(box, factor), 0, (width, height, width, height))
            face = Face(score, *inside.tolist())
            if int(face.x2) > int(face.x1) and int(face.y2) > int(face.y1):
                faces.append(face)
        return faces

    return detect


def providers(device: str) -> list[str]:
    """The execution providers of onnxruntime: the CPU, and a GPU before it if used.

    `device` is `auto` (a GPU where onnxruntime offers one), `cpu` or `gpu` (else UserError).
    """
    gpu = "CUDAExecutionProvider"
    offered = gpu in onnxruntime.get_available_providers()
    if device == "gpu" and not offered:
        raise UserError("device is gpu, but onnxruntime offers none; install onnxruntime-gpu")
    return [gpu] * (offered and device != "cpu") + ["CPUExecutionProvider"]


def _mobilenet(session: onnxruntime.InferenceSession, threshold: float) -> Detector:
    def find(image: Pixels) -> list[Face]:
        height, width = image.shape[:2]
        tensor = cv2.dnn.blobFromImage(image, mean=CHANNEL_MEANS_BGR, swapRB=True)
        deltas, scores = session.run(["loc", "conf"], {"input": tensor})
        return faces_of(deltas[0], scores[0, :, 1], height, width, threshold)

    return find


def faces_of(
    deltas: Floats, scores: Floats, height: int, width: int, threshold: float
) -> list[Face]:
    """Decode the outputs of the small network and apply non-maximum suppression.

    `deltas`, float32 (N, 4), is its output `loc`, one row per anchor; `scores`, float32 (N,) in
    [0, 1], the second column of its output `conf`; `height` and `width` are those of its input.
    """
    candidates = np.flatnonzero(scores >= threshold)
    if not candidates.size:
        return []
    scores = scores[candidates]
    deltas, anchors = deltas[candidates], _anchors(height, width)[candidates]
    centres = anchors[:, :2] + deltas[:, :2] * CENTRE_VARIANCE * anchors[:, 2:]
    sizes = anchors[:, 2:] * np.exp(deltas[:, 2:] * SIZE_VARIANCE)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), threshold, NMS_IOU)
    return [Face(float(scores[i]), *map(float, boxes[i])) for i in kept]


@lru_cache(maxsize=64)
def _anchors(height: int, width: int) -> Floats:
    """Anchor boxes as (centre x, centre y, width, height) in pixels, in the graph's order."""
    layers = []
    for stride, sizes in ANCHORS:
        rows, columns = ((np.arange(math.ceil(n / stride)) + 0.5) * stride for n in (height, width))
        y, x, size = np.meshgrid(rows, columns, sizes, indexing="ij")
        layers.append(np.stack([x, y, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(layers).astype(np.float32)


def _resnet50(session: onnxruntime.InferenceSession, threshold: float) -> Detector:
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"  # read when the package is imported
    from retinaface import RetinaFace
    from retinaface.model.retinaface_onnx_model import RetinaFace as Network

    network = Network(session)

    def find(image: Pixels) -> list[Face]:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        found = RetinaFace.detect_faces(bgr, threshold, network, allow_upscaling=False)
        return [Face(*map(float, (f["score"], *f["facial_area"]))) for f in found.values()]

    return find
