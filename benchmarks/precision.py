"""Training all of a network in bfloat16 against float32.

Steps of both take turns on the same batches, each precision compiled as params.yaml would have
it; XLA compiles neither where it is not wanted, and float32 alone on a CPU where it is. Then both
are trained anew on some images, with several seeds, and tested on others: the difference in
accuracy with its 95 % interval (paired bootstrap over the test images and the seeds, since a
training that differs in the last bit soon goes another way, as with another seed).

Only a CPU with avx512_bf16 or amx_bf16, or a GPU, gains by it. Other CPUs emulate it: a step of
VGG16 then takes some 14 times as long, and the benchmark wants `--emulated` to start at all.

    python -m benchmarks.precision --archive UTKFace.tar.gz
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.evaluation.bootstrap import interval
from stages.networks import device

if TYPE_CHECKING:
    import keras

    from stages.learning.objective import Learner

PRECISIONS = ("mixed_bfloat16", "float32")
TOLERANCE = 0.05  # of a probability, before training
RESAMPLES, CONFIDENCE = 2000, 0.95


def main() -> None:
    """Prove, time, train, print."""
    parser = make_parser(__doc__, rounds=3)
    add_archive(parser, 320)
    parser.add_argument("--variant", default="mtl-vgg16-imagenet-full", help="of params.yaml")
    add_number(parser, "--steps", 2, "training steps a turn")
    add_number(parser, "--epochs", 1, "of the trainings whose accuracy is compared")
    add_number(parser, "--test", 160, "images at the end that test them")
    add_number(parser, "--seeds", 1, "of those trainings, in each precision")
    parser.add_argument("--emulated", action="store_true", help="measure it where it is emulated")
    arguments = parser.parse_args()
    params = load_params()
    _, usable = device.prepare(params.machine.device, precision="float32", seed=1, xla=True)
    if not (device.has_gpu() or device.multiplies_bfloat16() or arguments.emulated):
        raise UserError("this CPU emulates bfloat16: nothing is gained; --emulated measures it")
    faces = cut_faces(arguments.archive, arguments.images + arguments.test, params)
    task = make_task(params, arguments.variant, faces, arguments.epochs)
    wanted = usable and task.structure.backbone in params.train.xla
    xla = {"float32": wanted, "mixed_bfloat16": wanted and device.has_gpu()}
    networks = {precision: network(task, precision) for precision in PRECISIONS}
    proven = prove_equal(networks, task.images[:16])
    steps = {
        precision: training_step(task, model, arguments.steps, xla[precision])
        for precision, model in networks.items()
    }
    for step in steps.values():
        step()  # compiles
    seconds = take_turns(steps, arguments.rounds)
    work = arguments.steps * task.recipe.batch_size
    less, full = (rates(seconds[precision], work) for precision in PRECISIONS)
    lines = [compare("bfloat16 / float32", less, full, "images/s, training", 1.6)]
    print_report(
        arguments,
        proven,
        lines,
        cpu_multiplies_bfloat16=device.multiplies_bfloat16(),
        xla=xla,
        accuracy=accuracies(task, len(faces.names) - arguments.test, xla, arguments.seeds),
    )


def network(task: Task, precision: str, seed: int = 1) -> "keras.Model":
    """The network under a dtype policy, with the same weights for all of a seed."""
    import keras

    keras.config.set_dtype_policy(precision)
    try:
        return task.network(seed)
    finally:
        keras.config.set_dtype_policy("float32")


def prove_equal(networks: "dict[str, keras.Model]", images: np.ndarray) -> list[str]:
    """That both start from the same weights, and say nearly the same."""
    first, second = networks.values()
    same = map(np.array_equal, first.get_weights(), second.get_weights())
    outputs = [model.predict_on_batch(images) for model in (first, second)]
    apart = max(float(np.abs(outputs[0][task] - outputs[1][task]).max()) for task in outputs[0])
    return [
        prove(all(same), "weights identical before training"),
        prove(apart < TOLERANCE, f"probabilities within {apart:.4f} before training"),
    ]


def training_step(task: Task, model: "keras.Model", steps: int, xla: bool) -> Callable[[], object]:
    """A function that trains some steps on one batch."""
    learner = compiled(task, model, xla)
    size = task.recipe.batch_size
    rows = np.resize(task.train.rows, size)
    labels = {name: np.resize(values, size) for name, values in task.train.labels.items()}
    images = np.ascontiguousarray(task.images[rows])

    def run() -> None:
        for _ in range(steps):
            learner.train_on_batch(images, labels)

    return run


def compiled(task: Task, model: "keras.Model", xla: bool) -> "Learner":
    """A learner as the stage train makes it."""
    from stages.learning.fit import Execution, compile_learner

    return compile_learner(model, task.images, task.train, task.recipe, Execution(xla))


def accuracies(task: Task, cut: int, xla: dict[str, bool], seeds: int) -> dict[str, object]:
    """Train in both precisions on the images before `cut`, test on the others.

    Returns:
        By task the accuracy in each precision and the interval of the difference.
    """
    right = {
        precision: [
            trained_and_tested(task, network(task, precision, seed), cut, xla[precision], seed)
            for seed in range(1, seeds + 1)
        ]
        for precision in PRECISIONS
    }
    tested = len(task.images) - cut
    found: dict[str, object] = {"trained_on": cut, "tested_on": tested, "seeds": seeds}
    for name in task.classes:
        by_precision = [np.array([run[name] for run in right[p]], float) for p in PRECISIONS]
        found[name] = dict(
            zip(PRECISIONS, (round(float(each.mean()), 4) for each in by_precision), strict=True)
        ) | difference(*by_precision)
    return found


def difference(ours: np.ndarray, rival: np.ndarray) -> dict[str, object]:
    """The mean difference of two arrays (seeds, images), and its interval over both axes."""
    apart = ours - rival
    chance = np.random.default_rng(1)
    seeds, images = (
        chance.multinomial(number, np.full(number, 1 / number), RESAMPLES) / number
        for number in apart.shape
    )
    means = ((seeds @ apart) * images).sum(axis=1, keepdims=True)
    low, high = (round(float(bound[0]), 4) for bound in interval(means, CONFIDENCE))
    mean = round(float(apart.mean()), 4)
    return {"difference": mean, "low": low, "high": high, "met": low <= 0 <= high}


def trained_and_tested(
    task: Task, model: "keras.Model", cut: int, xla: bool, seed: int
) -> dict[str, np.ndarray]:
    """Whether each test image is classified right after a training, by task."""
    from stages.learning.fit import Examples, Execution
    from stages.networks.prediction import predict_rows

    labels = {
        name: np.concatenate([task.train.labels[name], task.val.labels[name]])
        for name in task.train.labels
    }
    rows = np.arange(len(task.images))
    parts = [rows[: cut * 4 // 5], rows[cut * 4 // 5 : cut]]
    train, val = (
        Examples(part, {n: values[part] for n, values in labels.items()}) for part in parts
    )
    with tempfile.TemporaryDirectory() as folder:
        part = replace(task, train=train, val=val)
        part.fit(model, Path(folder), seed, execution=Execution(xla))
    outputs = predict_rows(model, task.images, rows[cut:], 64)
    return {n: outputs[n].argmax(axis=1) == labels[n][cut:] for n in task.classes}


if __name__ == "__main__":
    run_stage(main)
