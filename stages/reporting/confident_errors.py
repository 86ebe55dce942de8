"""The errors that a run was surest of."""

from dataclasses import dataclass

import numpy as np

from stages.evaluation.predictions import Predictions


@dataclass(frozen=True)
class ConfidentError:
    """A wrong prediction: image, true and predicted class, their probabilities in [0, 1]."""

    name: str
    true: str
    predicted: str
    confidence: float
    of_true: float


def confident_errors(predictions: Predictions, task: str, number: int) -> list[ConfidentError]:
    """The wrong predictions of the highest probability, the surest first.

    Args:
        predictions: of a run.
        task: that the run predicts.
        number: how many at most.
    """
    probabilities, classes = predictions.probabilities[task], predictions.classes[task]
    wrong = np.flatnonzero(~predictions.right(task))
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:number]
    true, predicted = predictions.true[task], predictions.predicted[task]
    return [
        ConfidentError(
            predictions.names[i],
            classes[true[i]],
            classes[predicted[i]],
            float(probabilities[i, predicted[i]]),
            float(probabilities[i, true[i]]),
        )
        for i in surest
    ]
