"""Predictions for the faces in a stream of images, and their output formats.

As JSON, one object per image:

    {"image": "a.zip/b.jpg", "status": "predicted", "reason": "", "width": 640, "height": 480,
     "faces": [{"score": 0.99, "box": [x1, y1, x2, y2],
                "age": {"class": "26-40", "probabilities": {"1-14": 0.01, ...}, "years": 33},
                "gender": {...}, "race": {...}}],
     "cautions": ["It is not calibrated: ..."]}  # absent if there are none

As CSV, one row per face, and one per image without faces (docs/reference/files.md).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.detection.crops import BOX
from stages.inference.face_extraction import FaceCrop, ImageFaces
from stages.inference.models import Model
from stages.networks.input_spec import InputSpec
from stages.networks.prediction import AGE_YEARS, median_years, predict_rows, scaled

Outputs = Mapping[str, npt.NDArray[Any]]


class ImagePredictions(NamedTuple):
    """An image and, for each of its faces, the model's outputs by task (classes)."""

    image: ImageFaces
    outputs: list[Outputs]


def predict_stream(
    images: Iterable[ImageFaces],
    model: Model,
    batch_size: int,
    flip_tta: bool = False,
    calibrated: bool = False,
) -> Iterator[ImagePredictions]:
    """Predict all faces of a stream of images, in batches across images.

    A batch has `batch_size` faces, the last one may have fewer; at most as many images wait.
    `flip_tta` averages with the outputs for the mirrored crop. `calibrated` applies the model's
    temperatures, which must have been fitted with the same `flip_tta`.
    """
    waiting: deque[ImageFaces] = deque()
    faces: list[FaceCrop] = []
    ready: deque[Outputs] = deque()
    for image in chain(images, [None]):  # None: the end
        if image is not None:
            waiting.append(image)
            faces.extend(image.faces)
        # More images than that wait where most of them have no face.
        rest = image is None or len(waiting) > batch_size
        while len(faces) >= batch_size or (rest and faces):
            ready.extend(outputs_of(model, faces[:batch_size], batch_size, flip_tta, calibrated))
            del faces[:batch_size]
        while waiting and len(waiting[0].faces) <= len(ready):
            first = waiting.popleft()
            yield ImagePredictions(first, [ready.popleft() for _ in first.faces])


def outputs_of(
    model: Model,
    faces: list[FaceCrop],
    batch_size: int,
    flip_tta: bool = False,
    calibrated: bool = False,
) -> list[Outputs]:
    """The model's outputs by task (classes), for each face; the arguments of `predict_stream`."""
    if not faces:
        return []
    crops = np.stack([face.crop for face in faces])
    rows = np.arange(len(crops))
    outputs: dict[str, Any] = predict_rows(model, crops, rows, batch_size, flip_tta)
    if calibrated and model.calibration:
        for task, temperature in model.calibration.temperatures.items():
            outputs[task] = scaled(outputs[task].astype(np.float64), temperature)
    return [{task: values[i] for task, values in outputs.items()} for i in range(len(crops))]


def as_record(predictions: ImagePredictions, model: Model) -> dict[str, Any]:
    """The predictions as the JSON object above."""
    image, input_spec = predictions.image, model.input_spec
    facts = {name: getattr(image, name) for name in ("status", "reason", "width", "height")}
    faces = [
        {
            "score": face.score and _rounded(face.score),
            "box": face.box and list(face.box),
            **{task: _task_record(input_spec, task, outputs) for task in input_spec.tasks},
        }
        for face, outputs in zip(image.faces, predictions.outputs, strict=True)
    ]
    record = {"image": image.member.path, **facts, "faces": faces}
    return record | ({"cautions": model.cautions} if model.cautions else {})


def _task_record(input_spec: InputSpec, task: str, outputs: Outputs) -> dict[str, Any]:
    names, values = input_spec.classes.of(task), outputs[task]
    record: dict[str, Any] = {
        "class": names[int(values.argmax())],
        "probabilities": {n: _rounded(p) for n, p in zip(names, values, strict=True)},
    }
    if task == "age" and AGE_YEARS in outputs:
        record["years"] = int(median_years(outputs[AGE_YEARS][None])[0])
    return record


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")  # as in prediction files


def csv_columns(input_spec: InputSpec, years: bool) -> list[str]:
    """The columns of a CSV file; `years`: the network predicts the age in years."""
    columns = ["image", "status", "reason", "width", "height", "face", "score", *BOX]
    for task in input_spec.tasks:
        columns.append(f"{task}_predicted")
        columns += [f"{task}_p_{name}" for name in input_spec.classes.of(task)]
    return columns + ["years_predicted"] * years


def csv_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The CSV rows of a JSON object, as mappings from columns to values; empty cells are absent."""
    image = {key: value for key, value in record.items() if key not in ("faces", "cautions")}
    for number, face in enumerate(record["faces"], start=1):
        row = image | {"face": number, "score": face["score"]}
        row |= dict(zip(BOX, face["box"] or (), strict=False))
        for task, values in face.items():
            if task in ("score", "box"):
                continue
            row[f"{task}_predicted"] = values["class"]
            row |= {f"{task}_p_{name}": f"{p:.6g}" for name, p in values["probabilities"].items()}
            if "years" in values:
                row["years_predicted"] = values["years"]
        yield row
    if not record["faces"]:
        yield image
