"""Training steps with the layers of stages.learning.layers against Keras's own layers and Adam.

Both train the same network on one batch of random pixels; a frozen part whose outputs are stored is
in neither. In float32 and on a GPU only normalisation and Adam differ. The proof: from the same
weights, the losses of both agree after as many steps as a turn has. That the gradients agree is
proven by tests/model/test_layers.py.

    python -m benchmarks.layers
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

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
from stages.core.stage import run_stage
from stages.networks import device

if TYPE_CHECKING:
    from stages.learning.objective import Learner

VARIANTS = ["mtl-mobilenet-tuned", "mtl-vgg16-imagenet-block5", "mtl-vgg16-imagenet-full"]
IMAGES = 128  # at least a batch of each
TOLERANCE = 0.03  # of the loss, after the steps of a turn


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__)
    add_number(parser, "--steps", 10, "training steps a turn")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="of variants.toml")
    arguments = parser.parse_args()
    params = load_params()
    setup = (params.machine.device, params.machine.memory_growth, params.train.precision)
    precision, _ = device.prepare(*setup, seed=1, threads=params.train.threads)
    faces = noise(IMAGES, params.detect.size)
    proven, lines = [], []
    for variant in arguments.variants:
        task = make_task(params, variant, faces, 1, real=False)
        sides = {"ours": Side(task), "rival": Side(task, keras_layers)}
        proven.append(f"{variant}: {prove_equal(sides, arguments.steps)}")
        turns = {name: side.turn(arguments.steps) for name, side in sides.items()}
        seconds = take_turns(turns, arguments.rounds)
        work = arguments.steps * task.recipe.batch_size
        ours, rival = (rates(seconds[side], work) for side in ("ours", "rival"))
        lines.append(compare(variant, ours, rival, "images/s, training"))
    print_report(arguments, proven, lines, precision=precision)


@contextmanager
def keras_layers() -> Iterator[None]:
    """Within it, learners are compiled and traced with Keras's layers and Adam alone."""
    import keras

    from stages.learning import fit, optimizer

    with (
        patch.object(fit, "for_training", lambda network, _: network),
        patch.object(optimizer.Adam, "update_step", keras.optimizers.Adam.update_step),
    ):
        yield


class Side:
    """A learner and the batch that it trains on."""

    def __init__(self, task: Task, layers: Callable[[], Any] = nullcontext) -> None:
        from stages.learning.fit import Examples, Execution, compile_learner

        size = task.recipe.batch_size
        inputs, network = task.learning_part(task.network())
        self.inputs = inputs[:size]
        self.labels = {name: np.resize(v, size) for name, v in task.train.labels.items()}
        examples = Examples(np.arange(size), self.labels)
        # A warm-up over one epoch of one step would leave the rate at 0.
        recipe = task.with_recipe(warmup_epochs=0.0).recipe
        with layers():
            self.learner: Learner = compile_learner(
                network, self.inputs, examples, recipe, Execution()
            )
            self.step()

    def step(self) -> float:
        """Train once; the loss."""
        return float(self.learner.train_on_batch(self.inputs, self.labels)[0])

    def turn(self, steps: int) -> Callable[[], float]:
        """Train several times; the last loss."""
        return lambda: [self.step() for _ in range(steps)][-1]


def prove_equal(sides: dict[str, Side], steps: int) -> str:
    """That both learn the same."""
    ours, rival = (side.turn(steps)() for side in sides.values())
    return prove(abs(ours - rival) < TOLERANCE * rival, f"loss {ours:.4f}, Keras's {rival:.4f}")


if __name__ == "__main__":
    run_stage(main)
