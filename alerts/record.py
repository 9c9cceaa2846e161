"""How far a model's pages can be trusted: how many were sent, what people said of them, and what was promised.

False alarms are promised as pages per quarter. They are counted from people's verdicts, so the figure comes with how
many pages were judged at all, and with an interval: three false pages in a quarter may well be one per quarter and bad
luck.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alerts.lifecycle import Verdict

QUARTER_MS = 91.25 * 86_400_000
_TAIL = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One incident that people were told of. `at_ms` is when it was sent; the newest verdict counts."""

    incident: str
    model: str
    at_ms: int
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`share_real` is of the judged pages, expected changes counted as real ones: the monitor was right to see them.

    `false_per_quarter` scales the false ones up to the pages nobody judged, as if those were like the judged; `low` and
    `high` are its exact 95 % Poisson interval. All of that is None where nothing was judged or no time has passed.
    `kept`: False only when even `low` is above the promise; None where it cannot be said.
    """

    model: str
    pages: int
    real: int
    expected: int
    false: int
    share_real: float | None
    false_per_quarter: float | None
    low: float | None
    high: float | None
    promised: float | None
    kept: bool | None

    @property
    def judged(self) -> int:
        return self.real + self.expected + self.false


def record(model: str, pages: Iterable[Page], *, watched_ms: int, promised: float | None) -> Record:
    """The record of one model that was watched for `watched_ms`. An incident that was sent several times is one page."""
    mine = {page.incident: page for page in sorted(pages, key=lambda page: page.at_ms) if page.model == model}
    real, expected, false = (sum(page.verdict is verdict for page in mine.values()) for verdict in Verdict)
    judged = real + expected + false
    rate = low = high = None
    if judged and watched_ms > 0:
        scale = len(mine) / judged * QUARTER_MS / watched_ms
        rate, (low, high) = false * scale, (bound * scale for bound in poisson_interval(false))
    return Record(
        model=model,
        pages=len(mine),
        real=real,
        expected=expected,
        false=false,
        share_real=(real + expected) / judged if judged else None,
        false_per_quarter=rate,
        low=low,
        high=high,
        promised=promised,
        kept=None if promised is None or low is None else low <= promised,
    )


def records(
    pages: Iterable[Page], *, watched_ms: Mapping[str, int], promised: Mapping[str, float | None]
) -> dict[str, Record]:
    """One record for each model that was watched, also for those without a page."""
    known = list(pages)
    return {
        model: record(model, known, watched_ms=span, promised=promised.get(model))
        for model, span in sorted(watched_ms.items())
    }


def poisson_interval(count: int) -> tuple[float, float]:
    """The exact 95 % interval of a Poisson mean of which `count` was seen (Garwood 1936), by bisection on the tails."""
    if count < 0:
        raise ValueError("a count is not negative")
    low = 0.0 if count == 0 else _mean_where(count - 1, 1 - _TAIL)
    return low, _mean_where(count, _TAIL)


def _mean_where(count: int, probability: float) -> float:
    """The mean at which P(X <= count), which falls with it, is as given."""
    low, high = 0.0, count + 10 * math.sqrt(count + 1) + 20
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, middle) > probability else (low, middle)
    return (low + high) / 2


def _at_most(count: int, mean: float) -> float:
    """P(X <= count), summed from logarithms so that large means do not underflow to nothing."""
    if mean == 0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))
