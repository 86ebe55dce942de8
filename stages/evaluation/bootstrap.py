"""Bootstrap over duplicate groups: how much a figure depends on the choice of test images.

Copies of a picture are not independent, so whole groups are drawn with replacement (the cluster
bootstrap: Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Every
figure is a function of sums over images, and one matrix product gives the sums of all resamples;
`scipy.stats.bootstrap` draws single observations and calls the statistic for each resample.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from statsmodels.stats.proportion import proportion_confint

_BLOCK = 250  # resamples drawn at once, which bounds the memory; part of the random stream

Array = npt.NDArray[np.float64]


def resampled_sums(
    values: npt.NDArray[Any], groups: npt.NDArray[np.int64], resamples: int, seed: int
) -> Array:
    """The sums over the images of each of B resamples, (B, K), from values (N, K) and groups (N).

    The same groups and seed give the same resamples.
    """
    _, place = np.unique(groups, return_inverse=True)
    number = int(place.max()) + 1
    member = sparse.csr_matrix((np.ones(len(place)), (place, np.arange(len(place)))))
    sums = member @ values.astype(float)  # (groups, K)
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn = generator.integers(number, size=(size, number))
        drawn += np.arange(size)[:, np.newaxis] * number
        times = np.bincount(drawn.ravel(), minlength=size * number).reshape(size, number)
        parts.append(times.astype(float) @ sums)
    return np.concatenate(parts)


def interval(resampled: Array, confidence: float) -> tuple[Array, Array]:
    """Percentile interval (...) of resamples (B, ...): Efron & Tibshirani 1993, chapter 13."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def effective_number(groups: npt.NDArray[np.int64]) -> float:
    """The number of independent images with the same information; copies are fully dependent.

    Kish's (sum m)^2 / sum m^2 over the groups of m images (Survey Sampling, 1965).
    """
    _, sizes = np.unique(groups, return_counts=True)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def wilson(share: Any, number: Any, confidence: float) -> tuple[Any, Any]:
    """Wilson's interval of a share, valid also for few images and shares near 0 or 1.

    Brown, Cai & DasGupta, Statistical Science 16(2), 2001. From shares of correct predictions in
    [0, 1] and numbers of independent images, both (...), the lower and upper bounds, (...).
    """
    low, high = proportion_confint(share * number, number, alpha=1 - confidence, method="wilson")
    return low, high


def p_value(resampled: Array) -> Array:
    """Two-sided p-value of a difference, from the resamples on either side of 0.

    It is 1 minus the smallest confidence whose percentile interval includes 0. The sample counts
    as one more resample (Davison & Hinkley, 1997, section 4.2). From a difference in each
    resample, (B, ...), values (...) from 2 / (B + 1) to 1.
    """
    below, above = (resampled <= 0).sum(axis=0), (resampled >= 0).sum(axis=0)
    return np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (len(resampled) + 1))
