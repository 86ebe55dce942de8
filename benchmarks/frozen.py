"""Training with a frozen part: features computed once against the frozen part inside each step.

The rival is the same Keras model, fitted on images by `fit` with the same optimiser, losses and
order of batches; Keras chooses how to compile it. Ours computes the frozen part once per image,
which is in its time, as is compilation in both; its cache is empty at each turn. Nothing is
extrapolated: all epochs are run, on few images.

The proof compares the weights after one epoch. Adam divides each gradient by its own size: where
one is no larger than its rounding, the rounding becomes a step like any other, and two programs
that differ in nothing else soon differ in such weights. In the proof its epsilon, which is added
to that size, is therefore above the rounding; then they have to agree to its last bits.

    python -m benchmarks.frozen --archive UTKFace.tar.gz
    python -m benchmarks.frozen --archive UTKFace.tar.gz --variants mtl-vgg16-imagenet-frozen \
        --images 1000 --epochs 30 --rounds 3
"""

import tempfile
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

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

BARS = {"none": 20.0, "block5": 3.5}  # by the part of the backbone that learns
TOLERANCE = 1e-3  # of the way that the weights went
LIMIT = 2**40  # bytes of the cache: never reached
PROOF_RATE = 1e-4  # a high rate would blow up the last float bit
PROOF_EPSILON = 1e-2  # Adam's own is 1e-7


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__, rounds=1)
    add_archive(parser, 60)
    add_number(parser, "--epochs", 30, "passes over the images")
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["mtl-vgg16-imagenet-frozen", "mtl-vgg16-imagenet-block5"],
        help="of params.yaml",
    )
    arguments = parser.parse_args()
    params = load_params()
    _, usable = device.prepare(params.machine.device, precision="float32", seed=1, xla=True)
    faces = cut_faces(arguments.archive, arguments.images, params)
    proven, lines = [], []
    for variant in arguments.variants:
        task = make_task(params, variant, faces, arguments.epochs)
        xla = usable and task.structure.backbone in params.train.xla
        proven += [f"{variant}: {each}" for each in prove_equal(task, xla)]
        seconds = take_turns(
            {"ours": partial(fit_ours, task, xla), "rival": partial(fit_whole, task)},
            arguments.rounds,
        )
        ours, rival = (rates(seconds[side], arguments.epochs) for side in ("ours", "rival"))
        bar = BARS.get(task.structure.trainable)
        lines.append(compare(variant, ours, rival, "epochs/s, all counted", bar))
    print_report(arguments, proven, lines)


def fit_ours(task: Task, xla: bool) -> "keras.Model":
    """As the stage train does it, from an empty cache of features."""
    from stages.learning.features import frozen_features
    from stages.learning.fit import Execution

    model = task.network()
    with tempfile.TemporaryDirectory() as folder:
        cached = Path(folder)
        task.fit(
            model,
            cached,
            features=lambda frozen: frozen_features(frozen, task.images, "images", cached, LIMIT),
            execution=Execution(xla),
        )
    return model


def fit_whole(task: Task) -> "keras.Model":
    """The same training written for Keras alone, images through the whole network."""
    import keras

    from stages.learning.batches import Batches
    from stages.learning.optimizer import learning_rate

    model = task.network()
    recipe = task.recipe
    train = Batches(task.images, task.train.rows, task.train.labels, recipe.batch_size, 1)
    model.compile(
        keras.optimizers.Adam(recipe.learning_rate, clipnorm=recipe.clipnorm or None),
        loss=dict.fromkeys(task.classes, "sparse_categorical_crossentropy"),
        loss_weights={name: getattr(recipe.loss_weights, name) for name in task.classes},
        metrics=dict.fromkeys(task.classes, "accuracy"),
    )

    def at_the_epoch(epoch: int) -> float:
        train.set_epoch(epoch)  # before the epoch's first batch is asked for
        return learning_rate(recipe, epoch)

    model.fit(
        train,
        validation_data=Batches(task.images, task.val.rows, task.val.labels, recipe.batch_size),
        epochs=recipe.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LearningRateScheduler(at_the_epoch)],
    )
    return model


def prove_equal(task: Task, xla: bool) -> list[str]:
    """That one epoch of both leads to the same weights."""
    import keras

    adam = keras.optimizers.Adam
    short = task.with_recipe(epochs=1, learning_rate=PROOF_RATE)
    with patch.object(adam, "__init__", partialmethod(adam.__init__, epsilon=PROOF_EPSILON)):
        start, ours, whole = (
            _flat(model) for model in (task.network(), fit_ours(short, xla), fit_whole(short))
        )
    way, apart = float(np.abs(ours - start).max()), float(np.abs(ours - whole).max())
    return [prove(way > 0 and apart <= TOLERANCE * way, told(apart, way))]


def told(apart: float, way: float) -> str:
    """How far the weights of both are apart."""
    return f"weights after one epoch within {apart:.1e}, having moved by up to {way:.1e}"


def _flat(model: Any) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


if __name__ == "__main__":
    run_stage(main)
