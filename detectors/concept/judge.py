"""A concept detector's verdict on an arrival pane as a finding."""

from __future__ import annotations

import math
from typing import Any, Literal

from detectors.concept.baseline import Baseline
from detectors.concept.types import ArrivalPane, ConceptDetector, Verdict
from detectors.finding import Finding, Severity, State

MIN_LABELS = 50  # watched since the detector (re)started; before, that it is quiet says nothing
_TWO_SIDED_95 = 1.959963984540054


def judge_concept(
    detector: ConceptDetector[Any],
    verdict: Verdict,
    pane: ArrivalPane,
    *,
    subject: Literal["error", "loss"],
    min_labels: int = MIN_LABELS,
) -> Finding:
    """`verdict`: of `detector` on this `pane`. `subject`: "error" where losses are 0 or 1 (a classification), otherwise "loss".

    drift while an episode is open, whatever this pane holds; it is critical while the mean loss since the alarm lies beyond the
    tolerated one with its whole 95 % interval. Otherwise insufficient_data for a pane without labels, or before `min_labels` have been
    watched, and else ok. `value` is the pane's mean loss with a 95 % interval, `threshold` the largest tolerated one, `rows` the
    pane's labels.
    """
    state, severity = State.OK, None
    if verdict.drifting:
        state, severity = State.DRIFT, _severity(verdict, subject)
    elif pane.labels == 0 or (verdict.labels_watched < min_labels and not verdict.closed):
        state = State.INSUFFICIENT_DATA
    return Finding(
        subject=subject,
        check=detector.name,
        state=state,
        severity=severity,
        value=pane.mean,
        interval=mean_interval(pane.labels, pane.loss_sum, pane.loss_squared, zero_one=subject == "error"),
        baseline=verdict.baseline,
        threshold=verdict.threshold,
        unit="share" if subject == "error" else "loss",
        rows=pane.labels,
        detail=_detail(verdict, detector.baseline, state, min_labels),
    )


def mean_interval(labels: int, loss_sum: float, loss_squared: float, *, zero_one: bool) -> tuple[float, float] | None:
    """95 % interval of the mean behind `labels` losses in [0, 1]: Wilson's for losses of 0 and 1, else a normal one.

    None without labels, and for a single general loss. A normal interval is too narrow for few labels of a skewed loss.
    """
    if labels == 0 or (labels == 1 and not zero_one):
        return None
    mean = loss_sum / labels
    if zero_one:
        z2 = _TWO_SIDED_95**2 / labels
        middle, scale = (mean + z2 / 2.0) / (1.0 + z2), _TWO_SIDED_95 / (1.0 + z2)
        half = scale * math.sqrt(max(mean * (1.0 - mean), 0.0) / labels + z2 / (4.0 * labels))
    else:
        middle = mean
        half = _TWO_SIDED_95 * math.sqrt(max(loss_squared - labels * mean * mean, 0.0) / (labels - 1) / labels)
    low = 0.0 if zero_one and mean == 0.0 else max(middle - half, 0.0)
    high = 1.0 if zero_one and mean == 1.0 else min(middle + half, 1.0)
    return low, high


def _severity(verdict: Verdict, subject: str) -> Severity:
    episode = verdict.episode
    if episode is None or episode.labels == 0:
        return Severity.WARNING
    interval = mean_interval(episode.labels, episode.loss_sum, episode.loss_squared, zero_one=subject == "error")
    beyond = interval is not None and interval[0] > episode.allowed / episode.labels
    return Severity.CRITICAL if beyond else Severity.WARNING


def _detail(verdict: Verdict, baseline: Baseline, state: State, min_labels: int) -> dict[str, float | int | str | None]:
    detail: dict[str, float | int | str | None] = {
        **verdict.detail,
        "evidence": verdict.evidence,
        "onset_ms": verdict.onset_ms,
        "tolerance": baseline.tolerance,
        "bound": baseline.bound,
        "reference_labels": baseline.labels,
        "thin_reference": int(baseline.thin),
        "labels_watched": verdict.labels_watched,
    }
    if verdict.episode is not None and verdict.episode.labels:
        detail["episode_labels"] = verdict.episode.labels
        detail["episode_loss"] = verdict.episode.loss_sum / verdict.episode.labels
    if state is State.INSUFFICIENT_DATA:
        detail["reason"] = f"{verdict.labels_watched} labels, {min_labels} are needed"
        detail["needed"] = min_labels
    return detail
