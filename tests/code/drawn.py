"""Prediction files like those of a run, drawn at random from a seed."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from stages.evaluation.predictions import Predictions, prediction_table

CLASSES = {
    "age": ["1-14", "15-25", "26-40", "41-60", "61-116"],
    "gender": ["male", "female"],
    "race": ["White", "Black", "Asian", "Indian", "Others"],
}

Draw = Callable[..., Predictions]


def draw_table(
    images: int, seed: int, skill: float = 1.5, tasks: Sequence[str] = tuple(CLASSES)
) -> pd.DataFrame:
    """A prediction table: the same seed has the same true classes, whatever the skill."""
    truth, chance = np.random.default_rng(seed), np.random.default_rng([seed, int(skill * 100)])
    labels = {task: truth.integers(len(names), size=images) for task, names in CLASSES.items()}
    outputs = {}
    for task in tasks:
        logits = chance.normal(size=(images, len(CLASSES[task])))
        logits[np.arange(images), labels[task]] += skill
        values = np.exp(2 * logits)
        outputs[task] = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    names = [f"{seed}_{i:05}.jpg" for i in range(images)]
    return prediction_table(names, labels, outputs, CLASSES, np.full(images, 30))
