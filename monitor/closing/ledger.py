"""What settled windows teach about later ones: how labels usually come, how far estimates were off, and whether labels contradict them.

A window is settled when nearly all of its labels are there or the model's maturity has passed. Each enters once, in the order of time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from detectors.estimate.estimate import Estimator, decode_estimator, estimate
from detectors.estimate.truth import TruthState, truth_check
from detectors.metrics.registry import metrics
from detectors.performance.delay_bias import delay_tells
from detectors.performance.label_coverage import HISTORY, Covered, covered_at
from detectors.performance.layout import LOSS_SCALE, PerformanceLayout
from detectors.performance.profile import PerformanceProfile, empty
from detectors.performance.reference import PerformanceReference

ENOUGH_COVERAGE = 0.95
ERRORS_KEPT = 30  # settled windows over which an estimate's past error is averaged


def settled(profile: PerformanceProfile) -> bool:
    return profile.rows > 0 and profile.labelled_rows >= ENOUGH_COVERAGE * profile.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """`seen_ms`: start of the last window taken in. `delays`: of the last windows, rows and delay counts (index -> labels). `errors`: metric ->
    distances of estimate and truth, the latest last. `truth`: state of the truth check. `contradicted_ms`: since when labels contradict the estimate.
    `losses`: delay -> (labels with a loss, losses) of all windows; `biased`: early labels tell other than late ones (once so, always so)."""

    seen_ms: int | None = None
    delays: tuple[tuple[int, Mapping[str, int]], ...] = ()
    errors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    truth: dict[str, Any] | None = None
    contradicted_ms: int | None = None
    losses: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    biased: bool = False

    def encode(self) -> str:
        told = [self.seen_ms, self.delays, dict(self.errors), self.truth, self.contradicted_ms]
        return json.dumps([*told, dict(self.losses), self.biased], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Ledger:
        seen_ms, delays, errors, truth, contradicted_ms, losses, biased = json.loads(text)
        return cls(
            seen_ms=seen_ms,
            delays=tuple((rows, counts) for rows, counts in delays),
            errors={name: tuple(values) for name, values in errors.items()},
            truth=truth,
            contradicted_ms=contradicted_ms,
            losses={place: (labels, loss) for place, (labels, loss) in losses.items()},
            biased=biased,
        )

    def past_error(self, metric: str) -> float | None:
        """Mean distance of estimate and truth over the last settled windows."""
        values = self.errors.get(metric, ())
        return sum(values) / len(values) if values else None

    def covered(self, layout: PerformanceLayout, *, age_seconds: float, window_seconds: float) -> list[Covered]:
        """The settled windows as they stood when they were as old."""
        return [
            covered_at(layout, _of_delays(layout, rows, counts), age_seconds=age_seconds, window_seconds=window_seconds)
            for rows, counts in self.delays
        ]

    def mature(self, layout: PerformanceLayout) -> PerformanceProfile | None:
        """Predictions and delays of the settled windows together; None where there is none."""
        if not self.delays:
            return None
        total: dict[str, int] = {}
        for _, counts in self.delays:
            for place, labels in counts.items():
                total[place] = total.get(place, 0) + labels
        return _of_delays(layout, sum(rows for rows, _ in self.delays), total)

    def advance(
        self, known: PerformanceReference, estimator: Estimator | None, profile: PerformanceProfile, start_ms: int
    ) -> Ledger:
        """The ledger after one more settled window."""
        layout = known.layout
        delay = layout.view(profile.vector, "delay")
        counts = {str(place): int(delay[place]) for place in np.flatnonzero(delay > 0).tolist()}
        losses = self._with_losses(layout, profile)
        by_delay = np.array([*losses.values()], dtype=np.float64).reshape(-1, 2)
        later = replace(
            self,
            seen_ms=start_ms,
            delays=(*self.delays, (profile.rows, counts))[-HISTORY:],
            losses=losses,
            biased=self.biased or delay_tells(by_delay[:, 0].astype(np.int64), by_delay[:, 1]),
        )
        if estimator is None or profile.labelled_rows <= 0:
            return later
        state = TruthState.decode(self.truth) if self.truth is not None else None
        state, contradicted = truth_check(state, estimator, layout, profile)
        since = self.contradicted_ms if self.contradicted_ms is not None else start_ms
        return replace(
            later,
            truth=state.encode(),
            contradicted_ms=since if contradicted else None,
            errors=self._with_errors(layout, estimator, profile),
        )

    def _with_losses(self, layout: PerformanceLayout, profile: PerformanceProfile) -> dict[str, tuple[int, float]]:
        found = layout.view(profile.vector, "delay_loss")
        losses = dict(self.losses)
        for place in np.flatnonzero(found[:, 0] > 0).tolist():
            labels, loss = losses.get(str(place), (0, 0.0))
            losses[str(place)] = (labels + int(found[place, 0]), loss + int(found[place, 1]) / LOSS_SCALE)
        return losses

    def _with_errors(
        self, layout: PerformanceLayout, estimator: Estimator, profile: PerformanceProfile
    ) -> dict[str, tuple[float, ...]]:
        realised, estimated = metrics(layout, profile), estimate(estimator, layout, profile)
        errors = dict(self.errors)
        for name, guess in estimated.items():
            truth = realised.get(name)
            if truth is not None and truth.value is not None and guess.value is not None:
                distance = float(f"{abs(guess.value - truth.value):.6g}")
                errors[name] = (*errors.get(name, ()), distance)[-ERRORS_KEPT:]
        return errors


def estimator_of(known: PerformanceReference) -> Estimator | None:
    return _decoded(known.estimator) if known.estimator else None


@lru_cache(maxsize=64)  # of up to about a megabyte
def _decoded(data: bytes) -> Estimator:
    return decode_estimator(data)


def _of_delays(layout: PerformanceLayout, rows: int, counts: Mapping[str, int]) -> PerformanceProfile:
    """A profile that holds these alone."""
    profile = empty(layout)
    layout.view(profile.vector, "rows")[:] = rows
    layout.view(profile.vector, "labelled_rows")[:] = sum(counts.values())
    delay = layout.view(profile.vector, "delay")
    for place, labels in counts.items():
        delay[int(place)] = labels
    return profile
