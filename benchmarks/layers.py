"""Training steps with the layers of stages.learning.layers against Keras's own layers and Adam.

Both train the same network on the same random pixels, which cost as much as real ones; a frozen
part whose outputs are stored is in neither. In float32 and on a GPU only normalisation and Adam
differ. The proof: from the same weights, both have the same loss after as many steps as a turn has.

    python -m benchmarks.layers
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from benchmarks.side_by_side import (
    add_number,
    compare,
    make_parser,
    print_report,
    prove,
    rates,
    take_turns,
)
from stages.core.params import load_params
from stages.core.stage import run_stage
from stages.networks import device
from stages.runs.resolve import Plan, resolve

if TYPE_CHECKING:
    from stages.learning.objective import Learner

VARIANTS = ["mtl-mobilenet-tuned", "mtl-vgg16-imagenet-block5", "mtl-vgg16-imagenet-full"]
TOLERANCE = 0.05  # of the loss, after the steps of a turn


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__)
    add_number(parser, "--steps", 10, "training steps a turn")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="of variants.toml")
    arguments = parser.parse_args()
    params = load_params()
    setup = (params.machine.device, params.machine.memory_growth, params.train.precision)
    precision, _ = device.prepare(*setup, seed=1, threads=params.train.threads)
    proven, lines = [], []
    for variant in arguments.variants:
        plan = resolve(params, variant, 1)
        sides = {"ours": Side(plan), "rival": Side(plan, keras_layers)}
        proven.append(f"{variant}: {prove_equal(sides, arguments.steps)}")
        turns = {name: side.turn(arguments.steps) for name, side in sides.items()}
        seconds = take_turns(turns, arguments.rounds)
        work = arguments.steps * plan.training.batch_size
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
    """A learner and a batch of noise."""

    def __init__(self, plan: Plan, layers: Callable[[], Any] = nullcontext) -> None:
        import keras

        from stages.learning.fit import Examples, Execution, caches_features, compile_learner
        from stages.networks.heads import AGE_YEARS
        from stages.networks.network import build_network, split_frozen

        random = np.random.default_rng(1)
        keras.utils.set_random_seed(1)
        network, number = build_network(plan.network), plan.training.batch_size
        self.inputs = random.integers(0, 256, (number, *network.input.shape[1:]), np.uint8)
        self.labels = {
            name: random.integers(0, int(output.shape[-1]), number)
            for name, output in network.output.items()
        }
        if AGE_YEARS in self.labels:
            self.labels[AGE_YEARS] += 1  # they begin with year 1
        if caches_features(plan.training) and (parts := split_frozen(network)) is not None:
            frozen, network = parts
            self.inputs = np.asarray(frozen.predict_on_batch(self.inputs))
        examples = Examples(np.arange(number), self.labels)
        settings = plan.training.model_copy(update={"warmup_epochs": 0.0})
        with layers():
            self.learner: Learner = compile_learner(
                network, self.inputs, examples, settings, Execution()
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
