"""What networks cost side by side: parameters, arithmetic, training and use in ONNX Runtime.

Training steps are those of each variant's own recipe, on its own batches of random pixels; the
frozen part runs where the recipe has it run. ONNX Runtime takes images one at a time, as a server
does, and `--batch` at once, as for a folder of faces. The first variant is the rival of the others.

    python -m benchmarks.networks
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.faces import Faces
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
from stages.core.stage import run_stage
from stages.networks import device

if TYPE_CHECKING:  # device.prepare comes before the first import of Keras
    import keras

DEFAULT = ["mtl-vgg16-imagenet-block5", "mtl-vgg16-imagenet-tuned", "mtl-mobilenet-tuned"]
NEAR = 1e-3  # of ONNX to Keras, in any probability


def main() -> None:
    """Build, prove, time, print."""
    parser = make_parser(__doc__)
    parser.add_argument("variants", nargs="*", default=DEFAULT, help="names from variants.toml")
    add_number(parser, "--steps", 20, "training steps of a turn; few measure how Keras starts")
    add_number(parser, "--images", 256, "images that ONNX Runtime predicts in a turn")
    add_number(parser, "--batch", 16, "images at once")
    arguments = parser.parse_args()
    params = load_params()
    device.prepare("cpu", precision=params.train.precision, deterministic=False)
    random = np.random.default_rng(1)
    size, number = params.detect.size, arguments.images
    crops = random.integers(0, 256, (number, size, size, 3), np.uint8)
    classes = {"age": 5, "gender": 2, "race": 5}
    labels = {task: random.integers(0, count, number) for task, count in classes.items()}
    faces = Faces(crops, [f"{i}.jpg" for i in range(number)], labels, labels["age"] + 20)
    tasks = {name: make_task(params, name, faces, 1, real=False) for name in arguments.variants}
    contenders: dict[str, Callable[[], object]] = {}
    costs, proven = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, task in tasks.items():
            model, file = task.network(), Path(folder, f"{name}.onnx")
            costs[name] = _cost(model)
            runtime = _onnx(model, file, task)
            proven.append(prove(_agree(runtime, model, crops[:8]), f"{name}: ONNX as Keras"))
            contenders[f"train {name}"] = _training(task, model, arguments.steps)
            contenders[f"one {name}"] = _predicting(runtime, crops, 1)
            contenders[f"many {name}"] = _predicting(runtime, crops, arguments.batch)
        seconds = take_turns(contenders, arguments.rounds)
    lines, (rival, *others) = [], arguments.variants
    units = {"train": "training images/s", "one": "images/s", "many": "images/s"}
    for kind, unit in units.items():
        speed = {
            name: rates(
                seconds[f"{kind} {name}"],
                arguments.steps * task.recipe.batch_size if kind == "train" else number,
            )
            for name, task in tasks.items()
        }
        what = {"train": "training", "one": "ONNX, one at a time", "many": "ONNX, batches"}[kind]
        lines += [
            compare(f"{what}: {name} / {rival}", speed[name], speed[rival], unit)
            for name in others or [rival]
        ]
    print_report(arguments, proven, lines, costs=costs)


def _cost(model: "keras.Model") -> dict[str, float]:
    from stages.evaluation.costs import count_parameters, gflops

    trainable, total = count_parameters(model)
    return {"parameters": total, "trainable": trainable, "gflops": round(gflops(model), 3)}


def _onnx(model: "keras.Model", file: Path, task: Task) -> Any:
    """The network in ONNX Runtime, under float32 as stage train saves it."""
    from stages.inference.exports import write_onnx
    from stages.inference.onnx_network import OnnxNetwork
    from stages.networks.network import in_float32

    write_onnx(in_float32(model, task.structure), file, {})
    return OnnxNetwork(file)


def _agree(runtime: Any, model: "keras.Model", crops: np.ndarray) -> bool:
    from stages.core.sections import TASKS

    ours, keras = runtime.predict_on_batch(crops), model.predict_on_batch(crops)
    # Keras may compute in bfloat16 here, ONNX in float32: the classes' order is what has to agree.
    near = max(float(np.abs(ours[t] - np.asarray(keras[t])).max()) for t in TASKS if t in ours)
    return near < (NEAR if model.dtype_policy.name == "float32" else 0.05)


def _training(task: Task, model: "keras.Model", steps: int) -> Callable[[], object]:
    """`steps` training steps, compiled and warm."""
    from stages.learning.batches import Batches
    from stages.learning.fit import Examples, Execution, caches_features, compile_learner
    from stages.networks.network import split_frozen

    size, inputs, network = task.recipe.batch_size, task.images, model
    rows = np.arange(steps * size) % len(inputs)
    of_rows = {name: np.resize(values, len(rows)) for name, values in task.train.labels.items()}
    if caches_features(task.recipe) and (parts := split_frozen(model)) is not None:
        frozen, network = parts
        inputs = np.asarray(frozen.predict(inputs, verbose=0))
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
