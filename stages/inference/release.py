"""The model that the package brings: one ONNX file with half-precision weights, and its papers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.core.files import atomic_write
from stages.dataset.examples import LabelledFaces
from stages.inference.exports import agreement, write_onnx
from stages.inference.models import METADATA, Exported, Model
from stages.inference.onnx_network import OnnxNetwork
from stages.networks.prediction import BATCH_SIZE, predict_rows

LARGEST_MEGABYTES = 15.0
LARGEST_LOSS = 0.003  # of the accuracy of a task, against Keras in float32
SMALLEST_ARRAY = 1024  # numbers; smaller ones stay in float32


def refuse_unfit(model: Model, audit: Mapping[str, Any], runs: list[str]) -> None:
    """Raise UserError unless a model's figures stand: audited, calibrated, of real images."""
    faults = list(model.cautions)
    if model.calibration and model.calibration.flip_tta:
        faults.append("Its temperatures hold for evaluate.flip_tta; evaluate it without.")
    if model.name not in runs:
        faults.append(f"{model.name} is not in runs of params.yaml, which the audit looks at.")
    if audit["leaks"]:
        faults.append(f"metrics/audit.json counts {audit['leaks']} leaks.")
    if faults:
        raise UserError(f"{model.path}: cannot be released: {' '.join(faults)}")


def write_released(
    model: Model, path: Path, test: LabelledFaces, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a model as ONNX with weights in half precision, and compare it on the test images.

    Returns `megabytes` and by task what `agreement` returns. A `UserError` if it is too large,
    loses accuracy, or `metrics` (metrics.json) are not those of the network; nothing is written.
    """
    about = Exported(run=model.name, input_spec=model.input_spec, calibration=model.calibration)
    original = predict_rows(model, test.crops, test.rows, BATCH_SIZE)
    with atomic_write(path) as partial:
        write_onnx(model.network, partial, {METADATA: about.model_dump_json()})
        halve(partial)
        ours = predict_rows(OnnxNetwork(partial, "cpu"), test.crops, test.rows, BATCH_SIZE)
        compared = agreement(ours, original, test.labels)
        megabytes = round(partial.stat().st_size / 1e6, 3)
        for task, figures in compared.items():
            now, was, told = (
                figures["accuracy"],
                figures["keras_accuracy"],
                metrics[task]["accuracy"],
            )
            if abs(was - told) > LARGEST_LOSS:
                text = f"metrics.json says {told} of {task}, the network has {was}"
                raise UserError(f"{model.path}: {text}; run `dvc repro -f evaluate@{model.name}`")
            if not now >= was - LARGEST_LOSS:
                text = f"the accuracy of {task} falls from {was} to {now}"
                raise UserError(f"{path}: {text}, by more than {LARGEST_LOSS}")
        if megabytes > LARGEST_MEGABYTES:
            raise UserError(f"{path}: {megabytes} MB are more than {LARGEST_MEGABYTES:g}")
    return {"megabytes": megabytes, **compared}


def halve(path: Path) -> None:
    """Store the large arrays of an ONNX file in float16; they are cast back where they are used.

    onnxruntime does so once, when it opens the file, and computes in float32.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        if values.dtype != np.float32 or values.size < SMALLEST_ARRAY:
            continue
        name, half = array.name, f"{array.name}_half"
        array.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
