"""What networks cost side by side: parameters, arithmetic, training and use in ONNX Runtime.

Training steps are those of each variant's own recipe, on its own batches of random pixels; the
frozen part runs where the recipe has it run. ONNX Runtime takes images one at a time, as a server
does, and `--batch` at once, as for a folder of faces. An average is not trained; the ONNX file has
its members. The first network is the rival of the others.

    python -m benchmarks.networks
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.faces import noise
from benchmarks.side_by_side import (
    add_number,
    compare,
    make_parser,
    print_report,
    prove,
    rates,
    take_turns,
)
from benchmarks.training import Task, make_task
from stages.core.params import load_params
from stages.core.run_names import RunName
from stages.core.stage import run_stage
from stages.networks import device

if TYPE_CHECKING:  # device.prepare comes before the first import of Keras
    import keras

DEFAULT = ["mtl-vgg16-imagenet-block5", "mtl-vgg16-imagenet-tuned", "mtl-mobilenet-tuned"]
NEAR = 1e-3  # of ONNX to Keras, in any probability


def main() -> None:
    """Build, prove, time, print."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "networks", nargs="*", default=DEFAULT, help="variants and averages of variants.toml"
    )
    add_number(parser, "--steps", 20, "training steps of a turn; few measure how Keras starts")
    add_number(parser, "--images", 256, "images that ONNX Runtime predicts in a turn")
    add_number(parser, "--batch", 16, "images at once")
    arguments = parser.parse_args()
    params = load_params()
    device.prepare("cpu", precision=params.train.precision, deterministic=False)
    from stages.inference.exports import write_onnx
    from stages.inference.onnx_network import OnnxNetwork
    from stages.networks.network import in_float32

    number = arguments.images
    faces = noise(number, params.detect.size)
    crops = faces.crops
    tasks: dict[str, Task] = {}
    contenders: dict[str, Callable[[], object]] = {}
    costs, proven = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.networks:
            if (average := params.known_averages.get(name)) is not None:
                members = [RunName.parse(run).variant for run in average.members]
                parts = [make_task(params, member, faces, 1, real=False) for member in members]
                final = _average(parts, average.flip)
            else:
                tasks[name] = task = make_task(params, name, faces, 1, real=False)
                model = task.network()
                final = in_float32(model, task.structure)
                contenders[f"train {name}"] = _training(task, model, arguments.steps)
            file = Path(folder, f"{name}.onnx")
            write_onnx(final, file, {})
            runtime = OnnxNetwork(file)
            costs[name] = _cost(final) | {"onnx_mb": round(file.stat().st_size / 1e6, 1)}
            proven.append(prove(_agree(runtime, final, crops[:8]), f"{name}: ONNX as Keras"))
            contenders[f"one {name}"] = _predicting(runtime, crops, 1)
            contenders[f"many {name}"] = _predicting(runtime, crops, arguments.batch)
        seconds = take_turns(contenders, arguments.rounds)
    lines, (rival, *others) = [], arguments.networks
    units = {"train": "training images/s", "one": "images/s", "many": "images/s"}
    for kind, unit in units.items():
        speed = {
            name: rates(
                seconds[f"{kind} {name}"],
                arguments.steps * tasks[name].recipe.batch_size if kind == "train" else number,
            )
            for name in (tasks if kind == "train" else arguments.networks)
        }
        what = {"train": "training", "one": "ONNX, one at a time", "many": "ONNX, batches"}[kind]
        lines += [
            compare(f"{what}: {name} / {rival}", speed[name], speed[rival], unit)
            for name in others or [rival]
            if {name, rival} <= speed.keys()
        ]
    print_report(arguments, proven, lines, costs=costs)


def _cost(model: "keras.Model") -> dict[str, float]:
    from stages.evaluation.costs import count_parameters, gflops

    trainable, total = count_parameters(model)
    return {"parameters": total, "trainable": trainable, "gflops": round(gflops(model), 3)}


def _average(tasks: list[Task], flip: bool) -> "keras.Model":
    """The average of one network for each training, under float32 as stage average saves it."""
    from stages.networks.network import average_network, in_float32

    members = [task.network(seed) for seed, task in enumerate(tasks, start=1)]
    return average_network(
        [in_float32(m, task.structure) for m, task in zip(members, tasks, strict=True)], flip
    )


def _agree(runtime: Any, model: "keras.Model", crops: np.ndarray) -> bool:
    from stages.core.sections import TASKS

    ours, keras = runtime.predict_on_batch(crops), model.predict_on_batch(crops)
    near = max(float(np.abs(ours[t] - np.asarray(keras[t])).max()) for t in TASKS if t in ours)
    return near < NEAR


def _training(task: Task, model: "keras.Model", steps: int) -> Callable[[], object]:
    """`steps` training steps, compiled and warm."""
    from stages.learning.batches import Batches
    from stages.learning.fit import Examples, Execution, compile_learner

    size = task.recipe.batch_size
    inputs, network = task.learning_part(model)
    rows = np.arange(steps * size) % len(inputs)
    of_rows = {name: np.resize(values, len(rows)) for name, values in task.train.labels.items()}
    learner = compile_learner(network, inputs, Examples(rows, of_rows), task.recipe, Execution())
    batches = Batches(inputs, rows, of_rows, size, 1)

    def train() -> object:
        return learner.fit(batches, shuffle=False, verbose=0)

    train()
    return train


def _predicting(runtime: Any, crops: np.ndarray, batch: int) -> Callable[[], object]:
    def predict() -> None:
        for start in range(0, len(crops), batch):
            runtime.predict_on_batch(crops[start : start + batch])

    predict()
    return predict


if __name__ == "__main__":
    run_stage(main)
