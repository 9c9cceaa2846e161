"""Do labels that come early tell the same as those that come late? Where they do not, labels in order of arrival are no fair sample:
of frauds that are reported at once and of good payments that nobody ever reports, the first labels of any day are all frauds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

FEWEST_ROWS = 30  # of a delay, to be looked at
LEVEL = 1e-6  # of calling a fair order unfair, for each look
EFFECT = (0.01, 0.2)  # spread of the mean loss over delays that matters: a point and a fifth of the mean


def delay_tells(rows: NDArray[np.int64], loss: NDArray[np.float64]) -> bool:
    """Whether the mean loss depends on the delay. `rows`, `loss` (sum of losses in [0, 1]) by delay, equal lengths.

    Evidence: a chi-square of equal means, with the largest variance that losses in [0, 1] of that mean can have. Effect: the spread of the
    means over rows. Rows are taken to be independent.
    """
    used = rows >= FEWEST_ROWS
    if int(used.sum()) < 2:
        return False
    n = rows[used].astype(np.float64)
    means = loss[used] / n
    overall = float((n * means).sum() / n.sum())
    variance = overall * (1.0 - overall)
    if variance <= 0.0:
        return False
    spread = float(np.sqrt((n * (means - overall) ** 2).sum() / n.sum()))
    chi2 = float((n * (means - overall) ** 2).sum() / variance)
    return bool(special.chdtrc(len(n) - 1, chi2) <= LEVEL and spread >= EFFECT[0] + EFFECT[1] * overall)
