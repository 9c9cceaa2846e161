"""What a row is about to tell of each class's area under the ROC curve, by its score bins alone: how much do the areas of classes move together?

An area is the mean, over rows of the class, of the share of other rows below, and the mean, over the others, of the share of the class above
(DeLong 1988). The shares of a window are known only when it is over, and its counts by class do not say which bins came together in one row.
So each row is counted by shares that the layout alone foretells: bins as likely as in a reference, scores that mean what they say. They need
only move as the true shares do: the variance of their sum over that of single ones is all that is asked of them (detectors.metrics.multiclass).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from detectors.bins import NumericBins, usual_shares
from detectors.performance.layout import PerformanceLayout

_LEAST_SCORE = 1e-3
_MOST_FREQUENT = 0.9  # share of a class that is reckoned with at most

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placements:
    """(K, B+1), 0 in the last column. `own`: share of other rows below, for a row of the class. `other`: share of the class above, for a row of
    others, over the share of such rows and over `scale`, which keeps sums over classes within 1."""

    own: Floats
    other: Floats
    scale: float


@lru_cache(maxsize=256)  # layouts in use; some kB each
def placements(layout: PerformanceLayout) -> Placements:
    """Of a multiclass layout. Made with +, -, *, / in a fixed order, so that every machine has the same."""
    shape = (len(layout.classes), layout.bins + 1)
    own, other = np.zeros(shape), np.zeros(shape)
    scale = 0.0
    for place, bins in enumerate(layout.score_bins):
        score, mass = _middles(bins), usual_shares(bins.count)
        rate = float((mass * score).cumsum()[-1])
        factor = 1.0 / (1.0 - min(rate, _MOST_FREQUENT))
        own[place, : len(score)] = _ranks(mass * (1.0 - score))
        other[place, : len(score)] = (1.0 - _ranks(mass * score)) * factor
        scale += factor
    return Placements(own=own, other=other / scale, scale=scale)


def _middles(bins: NumericBins) -> Floats:
    ends = np.clip(np.concatenate([[bins.lo], bins.edges, [bins.hi]]), _LEAST_SCORE, 1.0 - _LEAST_SCORE)
    return np.asarray((ends[1:] + ends[:-1]) / 2.0, dtype=np.float64)


def _ranks(mass: Floats) -> Floats:
    """Share of `mass` below the middle of each bin."""
    sums = mass.cumsum()
    return np.asarray((sums - mass / 2.0) / sums[-1], dtype=np.float64)
