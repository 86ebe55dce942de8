"""Likelihood, calibration error, and temperature scaling of probabilities."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar

from stages.evaluation.bootstrap import interval
from stages.networks.prediction import FLOOR, scaled

Array = npt.NDArray[np.float64]

COOLEST, WARMEST = 0.05, 20.0  # range of the search for a temperature
BOUND = 1.01  # a temperature within this factor of an end of the range is at the end
NULL_DRAWS = 200
FEWEST_IMAGES = 200  # on fewer, too few are wrong to say how confident to be


def negative_log_likelihood(probabilities: Array, true: npt.NDArray[np.int64]) -> Array:
    """Of each image's true class, in nats (N), from probabilities (N, classes) and indices (N)."""
    return -np.log(np.maximum(probabilities[np.arange(len(true)), true], FLOOR))


def fit_temperature(probabilities: Array, true: npt.NDArray[np.int64]) -> float:
    """The temperature of least mean NLL (Guo et al., On Calibration, ICML 2017, section 4.2).

    It takes probabilities of validation images (N, classes) and class indices (N). The search
    covers 0.05 to 20; it ends at a bound if, for example, every image is correct.
    """

    def loss(log_temperature: float) -> float:
        warmed = scaled(probabilities, float(np.exp(log_temperature)))
        return float(negative_log_likelihood(warmed, true).mean())

    bounds = (np.log(COOLEST), np.log(WARMEST))  # the NLL has one minimum in the logarithm
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x))


def calibrates(temperature: float, right: npt.NDArray[np.bool_]) -> bool:
    """Whether a temperature may be used that was fitted to images, right or wrong (N).

    At an end of the range, or where all are right, it is no minimum.
    """
    at_end = min(temperature / COOLEST, WARMEST / temperature) < BOUND
    return len(right) >= FEWEST_IMAGES and not right.all() and not at_end


def reliability(probabilities: Array, right: npt.NDArray[np.bool_], bins: int) -> pd.DataFrame:
    """Confidence and accuracy in bins of equal width, as a reliability diagram shows them.

    An image lies in bin m of M where (m - 1) / M < confidence <= m / M; the confidence is the
    highest of its probabilities, (N, classes) (Guo et al. 2017, section 2). A row for each bin
    that has an image: bin (from 1), images, confidence and accuracy (means over its images).
    """
    confidence = probabilities.max(axis=1)
    number = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True) + 1
    table = pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": right.astype(float)})
    grouped = table.groupby("bin")
    means = grouped[["confidence", "accuracy"]].mean()
    means.insert(0, "images", grouped.size())
    return means.reset_index()


def calibration_error(diagram: pd.DataFrame) -> float:
    """Expected calibration error of a diagram, in [0, 1] (Naeini et al., AAAI 2015)."""
    gaps = (diagram["accuracy"] - diagram["confidence"]).abs()
    return float((gaps * diagram["images"]).sum() / diagram["images"].sum())


def null_error(
    probabilities: Array, bins: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """The calibration error that perfectly calibrated predictions would show, in [0, 1].

    It is above 0 by chance alone: images are finite. Each of 200 times each image (N) is right with
    the probability that it was given (Vaicenavicius et al., AISTATS 2019, section 5.1). Returns the
    mean, and the ends of the range that holds the share `confidence` of the draws.
    """
    likely = probabilities.max(axis=1)
    drawn = np.random.default_rng(seed).random((NULL_DRAWS, len(likely))) < likely
    errors = [calibration_error(reliability(probabilities, right, bins)) for right in drawn]
    low, high = interval(np.array(errors), confidence)
    return float(np.mean(errors)), float(low), float(high)
