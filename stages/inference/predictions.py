"""What a model says of the faces in a stream of pictures, and how that is written.

As JSON, one object a picture:

    {"image": "a.zip/b.jpg", "status": "predicted", "reason": "", "width": 640, "height": 480,
     "faces": [{"score": 0.99, "box": [x1, y1, x2, y2],
                "age": {"class": "26-40", "probabilities": {"1-14": 0.01, ...}, "years": 33.1},
                "gender": {...}, "race": {...}}]}

As CSV, one row a face, and one for a picture without any: `image`, `status` (`predicted`,
`no_face`, `unreadable`), `reason`, `width`, `height`, `face` (from 1, by falling score), `score`,
`x1`, `y1`, `x2`, `y2`, then the columns of a prediction file, `<task>_predicted`,
`<task>_p_<class>` and `years_predicted`. Numbers have six digits, as there.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.evaluation.calibration import scaled
from stages.inference.face_extraction import FaceCrop, ImageFaces, stacked
from stages.inference.models import Model
from stages.networks.prediction import AGE_YEARS, predict_rows
from stages.runs.input_spec import InputSpec

FACE_COLUMNS = ("face", "score", "x1", "y1", "x2", "y2")

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ImagePredictions:
    """A picture, and for each of its faces the model's outputs by task (classes)."""

    look: ImageFaces
    outputs: list[Outputs]


def predict_stream(
    looks: Iterable[ImageFaces],
    model: Model,
    batch_size: int,
    mirrored: bool = False,
    calibrated: bool = False,
) -> Iterator[ImagePredictions]:
    """Ask a model for all faces of a stream of pictures, in batches across pictures.

    Args:
        looks: pictures; no more of them wait than a batch has faces.
        model: the model.
        batch_size: faces a step; the last step has fewer.
        mirrored: take the mean with the outputs for the mirrored crop.
        calibrated: bring probabilities to the model's temperatures, which must be known,
            and hold for outputs that are mirrored, or not, as `mirrored` says.
    """
    waiting: deque[ImageFaces] = deque()
    faces: list[FaceCrop] = []
    ready: deque[Outputs] = deque()

    def ask(number: int) -> None:
        ready.extend(outputs_of(model, faces[:number], batch_size, mirrored, calibrated))
        del faces[:number]

    def finished() -> Iterator[ImagePredictions]:
        while waiting and len(waiting[0].faces) <= len(ready):
            look = waiting.popleft()
            yield ImagePredictions(look, [ready.popleft() for _ in look.faces])

    for look in looks:
        waiting.append(look)
        faces.extend(look.faces)
        while len(faces) >= batch_size:
            ask(batch_size)
        if len(waiting) > batch_size:  # most of them are without a face
            ask(len(faces))
        yield from finished()
    ask(len(faces))
    yield from finished()


def outputs_of(
    model: Model,
    faces: list[FaceCrop],
    batch_size: int,
    mirrored: bool = False,
    calibrated: bool = False,
) -> list[Outputs]:
    """The model's outputs by task (classes), for each face."""
    if not faces:
        return []
    crops = stacked(faces, model.input_spec.detect.size)
    outputs: dict[str, npt.NDArray[Any]] = dict(
        predict_rows(model.network, crops, np.arange(len(crops)), batch_size, mirrored)
    )
    if calibrated and model.calibration:
        for task, temperature in model.calibration.temperatures.items():
            outputs[task] = scaled(outputs[task].astype(np.float64), temperature)
    return [{task: values[i] for task, values in outputs.items()} for i in range(len(crops))]


def as_record(answer: ImagePredictions, input_spec: InputSpec) -> dict[str, Any]:
    """The answer as the JSON object above."""
    look = answer.look
    faces = [
        {
            "score": None if face.score is None else rounded(face.score),
            "box": None if face.box is None else list(face.box),
            **{task: _task(input_spec, task, outputs) for task in input_spec.tasks},
        }
        for face, outputs in zip(look.faces, answer.outputs, strict=True)
    ]
    return {
        "image": look.member.path,
        "status": look.status,
        "reason": look.reason,
        "width": look.width,
        "height": look.height,
        "faces": faces,
    }


def _task(input_spec: InputSpec, task: str, outputs: Outputs) -> dict[str, Any]:
    names, values = input_spec.classes.of(task), outputs[task]
    said: dict[str, Any] = {
        "class": names[int(values.argmax())],
        "probabilities": {n: rounded(p) for n, p in zip(names, values, strict=True)},
    }
    if task == "age" and AGE_YEARS in outputs:
        years = outputs[AGE_YEARS]
        said["years"] = rounded(years @ np.arange(1, len(years) + 1, dtype=years.dtype))
    return said


def rounded(value: float) -> float:
    """To six significant digits, as prediction files have them."""
    return float(f"{value:.6g}")


def csv_columns(input_spec: InputSpec, years: bool) -> list[str]:
    """The columns of a CSV file; `years`: the network tells the age in years."""
    columns = ["image", "status", "reason", "width", "height", *FACE_COLUMNS]
    for task in input_spec.tasks:
        columns.append(f"{task}_predicted")
        columns += [f"{task}_p_{name}" for name in input_spec.classes.of(task)]
    return columns + ["years_predicted"] * years


def csv_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a JSON object, as mappings from columns to values; no value: nothing known."""
    picture = {key: value for key, value in record.items() if key != "faces"}
    for number, face in enumerate(record["faces"], start=1):
        row = picture | {"face": number, "score": face["score"]}
        row |= dict(zip(("x1", "y1", "x2", "y2"), face["box"] or (), strict=False))
        for task, said in face.items():
            if task in ("score", "box"):
                continue
            row[f"{task}_predicted"] = said["class"]
            row |= {f"{task}_p_{name}": f"{p:.6g}" for name, p in said["probabilities"].items()}
            if "years" in said:
                row["years_predicted"] = f"{said['years']:.6g}"
        yield row
    if not record["faces"]:
        yield picture
