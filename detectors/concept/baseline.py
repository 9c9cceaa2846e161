"""The loss that is nobody's concern: an upper bound of the reference's mean loss, with a tolerance, by hour of the week."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

DOUBT = 0.05  # that the reference's true mean loss is above the bound
ENOUGH_LABELS = 5_000  # with fewer reference labels the bound is so far up that small drifts stay unseen
AMPLE_LABELS = 15_000
TOLERANCE, TOLERANCE_AMPLE = 0.05, 0.02  # relative; the smaller from AMPLE_LABELS on
HOURS = 168  # of a week, from Monday 00:00 UTC
_HOUR_MS = 3_600_000
_MONDAY = 72  # hours from 1970-01-01 (a Thursday) back to the Monday before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Of a reference: number of labels, mean loss, its 95 % upper confidence bound, relative tolerance, hour-of-week factors.

    `factors`: how many times the mean loss a healthy model has in each of the 168 hours of the week (UTC, from Monday 00:00); None: 1.
    """

    labels: int
    mean: float
    bound: float
    tolerance: float
    factors: tuple[float, ...] | None = None

    @property
    def thin(self) -> bool:
        """Too few reference labels to see small drifts: worth a warning."""
        return self.labels < ENOUGH_LABELS

    def threshold(self, start_ms: int, end_ms: int) -> float:
        """The largest mean loss that is tolerated in [start_ms, end_ms): bound * (1 + tolerance) * factor, of hours by their share."""
        return self.bound * (1.0 + self.tolerance) * self._factor(start_ms, end_ms)

    def _factor(self, start_ms: int, end_ms: int) -> float:
        if self.factors is None:
            return 1.0
        weeks, rest = divmod(end_ms - start_ms, HOURS * _HOUR_MS)
        total = weeks * _HOUR_MS * math.fsum(self.factors)
        at, end = start_ms, start_ms + rest
        while at < end:
            hour = at // _HOUR_MS
            until = min((hour + 1) * _HOUR_MS, end)
            total += (until - at) * self.factors[(hour + _MONDAY) % HOURS]
            at = until
        return total / (end_ms - start_ms)


def baseline_of(
    *,
    labels: int,
    loss_sum: float,
    loss_squared: float,
    zero_one: bool,
    tolerance: float | None = None,
    factors: Sequence[float] | None = None,
) -> Baseline:
    """From the losses of a reference, each in [0, 1]: their number, sum, and sum of squares. Assumes that rows are independent.

    `zero_one`: every loss is 0 or 1 (the bound is Clopper and Pearson's, exact); otherwise it is the empirical Bernstein bound of
    Maurer and Pontil (2009, theorem 4), valid for every distribution on [0, 1] and about 1.7 times as far from the mean. `tolerance`:
    relative, by default 5 %, 2 % from 15,000 labels on. ValueError without labels, for impossible sums, or for factors that are not
    168 positive numbers.
    """
    if labels <= 0 or not 0.0 <= loss_sum <= labels or loss_squared < 0.0:
        raise ValueError(f"no reference losses in [0, 1]: {labels} labels, sum {loss_sum}")
    if factors is not None and (len(factors) != HOURS or not all(math.isfinite(f) and f > 0.0 for f in factors)):
        raise ValueError(f"hour-of-week factors must be {HOURS} positive numbers")
    if tolerance is None:
        tolerance = TOLERANCE_AMPLE if labels >= AMPLE_LABELS else TOLERANCE
    if not (math.isfinite(tolerance) and tolerance >= 0.0):
        raise ValueError(f"tolerance must be 0 or more, not {tolerance}")
    bound = clopper_pearson(labels, loss_sum) if zero_one else empirical_bernstein(labels, loss_sum, loss_squared)
    return Baseline(
        labels=labels,
        mean=loss_sum / labels,
        bound=bound,
        tolerance=tolerance,
        factors=None if factors is None else tuple(map(float, factors)),
    )


def clopper_pearson(labels: int, errors: float) -> float:
    """Upper 95 % confidence bound of the error rate behind `errors` errors in `labels` independent labels."""
    if errors >= labels:
        return 1.0
    return float(special.betaincinv(errors + 1.0, labels - errors, 1.0 - DOUBT))


def empirical_bernstein(labels: int, loss_sum: float, loss_squared: float) -> float:
    """Upper 95 % confidence bound of the mean behind `labels` independent losses in [0, 1]; at most 1, which it is for one label."""
    if labels < 2:
        return 1.0
    mean = loss_sum / labels
    variance = max(loss_squared - labels * mean * mean, 0.0) / (labels - 1)
    doubt = math.log(2.0 / DOUBT)
    return min(mean + math.sqrt(2.0 * variance * doubt / labels) + 7.0 * doubt / (3.0 * (labels - 1)), 1.0)
