"""The false-alarm budget: how much stricter a model's tests are than by default, so that it keeps what was promised. Pure.

Levels at their default were measured to give at most one false page a quarter, of one version in hourly windows
(docs/statistics/trust.md). More windows, more versions beside each other or a smaller promise lower them in
proportion; nothing raises them. Decision 0022 says why, and where that is approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

from alerts.record import QUARTER_MS
from detectors.concept.e_sr import GUARANTEE_DAYS
from monitor.config import Config

MEASURED_PAGES, MEASURED_WINDOW_MS = 1.0, 3_600_000
_WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One model's promise. `pages_per_quarter`: false pages at most, on average; ValueError where it is not above 0."""

    pages_per_quarter: float = MEASURED_PAGES
    window_ms: int = MEASURED_WINDOW_MS

    def __post_init__(self) -> None:
        if not self.pages_per_quarter > 0.0 or self.window_ms <= 0:
            raise ValueError("a budget needs pages_per_quarter and window_ms greater than 0")

    def level_scale(self, versions: int = 1) -> float:
        """What every error rate of a window is multiplied by, in (0, 1].

        `versions`: how many are judged in that window's time. Segments need no part of their own: performance and
        concept share a model's level between them, and the other monitors do not look at segments.
        """
        windows = max(versions, 1) * MEASURED_WINDOW_MS / self.window_ms
        return min(1.0, self.pages_per_quarter / MEASURED_PAGES / windows)

    @property
    def guarantee_days(self) -> float:
        """Days without a false alarm of concept drift, on average: its promise is of time, however long windows are."""
        return GUARANTEE_DAYS / min(1.0, self.pages_per_quarter / MEASURED_PAGES)


def promised(*, own: float, rotation_pages_per_week: float | None, models: int) -> float:
    """False pages a quarter of one of `models`: its own promise, or its share of what those on call bear, if that is less."""
    if rotation_pages_per_week is None:
        return own
    return min(own, rotation_pages_per_week * QUARTER_MS / _WEEK_MS / max(models, 1))


def budgets_of(config: Config) -> dict[str, Budget]:
    """Model -> its promise: in its own words, else in those for all, and never more than its share of the rotation's."""
    fleet, out = config.false_alarms, {}
    for name, model in config.models.items():
        own = fleet.pages_per_quarter if model.false_alarms is None else model.false_alarms.pages_per_quarter
        rotation = fleet.rotation_pages_per_week
        pages = promised(own=own, rotation_pages_per_week=rotation, models=len(config.models))
        out[name] = Budget(pages_per_quarter=pages, window_ms=model.window.size_ms)
    return out
