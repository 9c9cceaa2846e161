"""What the detectors that read single losses in order (ADWIN, DDM, Page-Hinkley) have in common: signals become episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectors.concept.baseline import Baseline
from detectors.concept.episode import Episode
from detectors.concept.types import ArrivalPane, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A change announced at the loss with this place in the sequence; `worse`: the mean rose."""

    index: int
    worse: bool


def losses_in_order(pane: ArrivalPane, detector: str) -> list[float]:
    """The pane's sequence. ValueError when it has labels but no sequence."""
    if pane.sequence is None:
        if pane.labels:
            raise ValueError(f"{detector} needs the losses of a pane in order")
        return []
    return [float(loss) for loss in pane.sequence]


def followed(
    *,
    baseline: Baseline,
    pane: ArrivalPane,
    before: Episode | None,
    signals: Sequence[Signal],
    ignore_improvements: bool,
    evidence: float | None,
    watched: int,
) -> tuple[Episode | None, Verdict]:
    """The open episode (or None) after a pane with these signals, and the verdict.

    A signal opens an episode whose onset is this pane; one of an improvement only where they are not ignored. It closes when the newest
    500 labels or more are at or under the baseline's tolerated mean, unless this very pane brings another signal: these detectors take
    a new level for normal, so that their own silence says nothing about recovery.
    """
    threshold = baseline.threshold(pane.start_ms, pane.end_ms)
    signalled = any(signal.worse or not ignore_improvements for signal in signals)
    seen = None
    if before is not None:
        seen = before.then(pane.labels, pane.loss_sum, pane.loss_squared, threshold)
    elif signalled:
        seen = Episode(
            opened_ms=pane.start_ms,
            onset_ms=pane.start_ms,
            labels=pane.labels,
            loss_sum=pane.loss_sum,
            loss_squared=pane.loss_squared,
            allowed=pane.labels * threshold,
        )
    closes = before is not None and seen is not None and seen.recovered and not signalled
    verdict = Verdict(
        drifting=seen is not None and not closes,
        opened=seen is not None and before is None,
        closed=closes,
        value=pane.mean,
        baseline=baseline.mean,
        threshold=threshold,
        evidence=evidence,
        onset_ms=None if seen is None else seen.onset_ms,
        labels_watched=watched,
        episode=seen,
        detail={"signals": len(signals), "signals_worse": sum(signal.worse for signal in signals)},
    )
    return None if closes else seen, verdict
