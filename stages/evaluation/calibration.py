"""Are the probabilities true? Likelihood, calibration error, and temperature scaling."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

Array = npt.NDArray[np.float64]

# A probability of 0 is what the file's digits left of a tiny one. It counts as the smallest
# step of a float64 at 1, as in scikit-learn's log_loss, for else one image made all infinite.
FLOOR = float(np.finfo(np.float64).eps)
COOLEST, WARMEST = 0.05, 20.0  # where a temperature is sought
BOUND = 1.01  # factor up to which one is taken for an end of that


def negative_log_likelihood(probabilities: Array, true: npt.NDArray[np.int64]) -> Array:
    """Of each image's true class, in nats, >= 0 (N).

    Args:
        probabilities: (N, classes).
        true: class indices (N).
    """
    return -np.log(np.maximum(probabilities[np.arange(len(true)), true], FLOOR))


def scaled(probabilities: Array, temperature: float) -> Array:
    """Probabilities (N, classes) at a temperature; their logarithms serve as logits.

    Args:
        probabilities: (N, classes).
        temperature: > 0; above 1 makes them less sure.
    """
    logits = np.log(np.maximum(probabilities, FLOOR)) / temperature
    return np.exp(log_softmax(logits, axis=1))


def fit_temperature(probabilities: Array, true: npt.NDArray[np.int64]) -> float:
    """The temperature of least mean NLL (Guo et al., On Calibration, ICML 2017, section 4.2).

    Sought from 0.05 to 20; ends at a bound where, for example, every image is right.

    Args:
        probabilities: of validation images, (N, classes).
        true: class indices (N).
    """

    def loss(log_temperature: float) -> float:
        warmed = scaled(probabilities, float(np.exp(log_temperature)))
        return float(negative_log_likelihood(warmed, true).mean())

    bounds = (np.log(COOLEST), np.log(WARMEST))  # the NLL has one minimum in the logarithm
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x))


def at_bound(temperature: float) -> bool:
    """Whether a fitted temperature is where the search ends, and so no minimum."""
    return min(temperature / COOLEST, WARMEST / temperature) < BOUND


def reliability(probabilities: Array, right: npt.NDArray[np.bool_], bins: int) -> pd.DataFrame:
    """Confidence and accuracy in bins of equal width, as a reliability diagram shows them.

    An image lies in bin m of M where (m - 1) / M < confidence <= m / M; the confidence is the
    highest probability (Guo et al. 2017, section 2).

    Args:
        probabilities: (N, classes).
        right: whether the predicted class is the true one (N).
        bins: M.

    Returns:
        A row for each bin that has an image: bin (from 1), images, confidence and accuracy
        (means over its images).
    """
    confidence = probabilities.max(axis=1)
    number = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True) + 1
    table = pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": right.astype(float)})
    grouped = table.groupby("bin")
    means = grouped[["confidence", "accuracy"]].mean()
    means.insert(0, "images", grouped.size())
    return means.reset_index()


def calibration_error(diagram: pd.DataFrame) -> float:
    """Expected calibration error, in [0, 1], of a reliability diagram.

    The mean over the images of |accuracy - confidence| of their bin (Naeini et al., AAAI 2015).
    """
    gaps = (diagram["accuracy"] - diagram["confidence"]).abs()
    return float((gaps * diagram["images"]).sum() / diagram["images"].sum())
