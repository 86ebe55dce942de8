"""Three tasks for one image: one multi-task network against three single-task ones in turn.

The single-task networks are cut from the multi-task one, so that all say the same of an image.

    python -m benchmarks.tasks --archive UTKFace.tar.gz
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.faces import add_archive, cut_faces
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

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # of a probability


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__)
    add_archive(parser, 128)
    parser.add_argument("--variant", default="mtl-vgg16-imagenet-full", help="of params.yaml")
    add_number(parser, "--batch-size", 32, "images; 1: one at a time")
    arguments = parser.parse_args()
    params = load_params()
    device.prepare(params.machine.device, precision="float32", seed=1)
    faces = cut_faces(arguments.archive, arguments.images, params)
    task = make_task(params, arguments.variant, faces, epochs=1, real=False)
    together = task.network()
    apart = single_task_networks(task, together)
    proven = prove_equal(together, apart, faces.crops[: arguments.batch_size])
    rows, size = np.arange(len(faces.crops)), arguments.batch_size

    def predict(*models: "keras.Model") -> None:
        from stages.networks.prediction import predict_rows

        for start in range(0, len(rows), size):
            for model in models:
                predict_rows(model, faces.crops, rows[start : start + size], size)

    seconds = take_turns(
        {"ours": lambda: predict(together), "rival": lambda: predict(*apart.values())},
        arguments.rounds,
    )
    ours, rival = (rates(seconds[side], len(rows)) for side in ("ours", "rival"))
    line = compare("one MTL / three STL networks", ours, rival, "images/s", 2.7)
    print_report(arguments, proven, [line])


def single_task_networks(task: Task, together: "keras.Model") -> "dict[str, keras.Model]":
    """A network for each task, with its own copy of the weights."""
    from stages.networks.network import build_network

    networks = {}
    for name, number in task.classes.items():
        model = build_network(
            task.structure.model_copy(update={"classes": {name: number}, "heads": "plain"})
        )
        for layer in model.layers:
            layer.set_weights(together.get_layer(layer.name).get_weights())
        networks[name] = model
    return networks


def prove_equal(
    together: "keras.Model", apart: "Mapping[str, keras.Model]", images: np.ndarray
) -> list[str]:
    """That the single-task networks say what the multi-task one says."""
    outputs = together.predict_on_batch(images)
    distance = max(
        float(np.abs(outputs[name] - model.predict_on_batch(images)[name]).max())
        for name, model in apart.items()
    )
    told = f"probabilities of {len(images)} images within {distance:.1e}"
    return [prove(distance <= TOLERANCE, told)]


if __name__ == "__main__":
    run_stage(main)
