"""How steps are run changes nothing of what is learnt."""

from pathlib import Path

import keras
import numpy as np
import pytest
from specs import network_of

from stages.core.sections import TaskWeights
from stages.core.variants import Augmentation, LabelSmoothing, Training
from stages.learning.checkpoints import Checkpoints
from stages.learning.fit import Data, Examples, Execution, fit

CLASSES = {"gender": 2, "race": 5}
IMAGES = np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), np.uint8)
FLIP = dict.fromkeys(
    (name for name in Augmentation.model_fields if name != "flip"),
    0.0,
)
RECIPE = Training(
    seed=1,
    learning_rate=0.001,
    batch_size=6,
    epochs=2,
    schedule="cosine",
    constant_epochs=0,
    decay=0.0,
    warmup_epochs=1.0,
    patience=0,
    clipnorm=1.0,
    weight_decay=0.01,
    weight_average=0.9,
    progressive_epochs=1,
    progressive_size=32,  # the least that params.yaml admits
    balance="sampling",
    task_weights=TaskWeights(age=0.0, gender=0.5, race=0.5),
    loss_weights=TaskWeights(age=0.0, gender=0.5, race=0.5),
    label_smoothing=LabelSmoothing(age=0.0, gender=0.0, race=0.1),
    age_sigma=2.0,
    age_error_weight=0.0,
    conflicting_labels="own",
    mixup=0.2,
    augmentation=Augmentation.model_validate(FLIP | {"flip": True}),
)


def learnt(folder: Path, execution: Execution) -> tuple[list[np.ndarray], dict[int, dict]]:
    keras.utils.set_random_seed(1)
    model = network_of("cnn", "all", "plain", "unit", CLASSES, 32, dropout=0.3)
    random, figures = np.random.default_rng(2), {}

    def examples(number: int) -> Examples:
        rows = random.permutation(len(IMAGES))[:number]
        return Examples(rows, {task: random.integers(0, n, number) for task, n in CLASSES.items()})

    fit(
        model,
        # Four steps an epoch, the last one of three images.
        Data(IMAGES, examples(21), examples(8)),
        RECIPE.model_copy(update={"progressive_size": 16}),
        lambda frozen: pytest.fail(f"{frozen.name} has nothing frozen"),
        Checkpoints(folder / "checkpoints", "it"),
        figures.__setitem__,
        execution,
    )
    return model.get_weights(), figures


def test_several_steps_at_once_on_images_kept_on_the_device_learn_the_same(tmp_path: Path):
    plain, figures = learnt(tmp_path, Execution())
    other = Execution(steps_at_once=3, on_device=True)
    weights, others = learnt(tmp_path, other)
    assert all(np.array_equal(a, b) for a, b in zip(weights, plain, strict=True))
    assert others == figures
