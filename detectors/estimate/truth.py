"""Truth check: do labels, as they come, contradict what an estimate takes for granted?

Every method assumes that what a score is worth has not changed. Labels test that: in each window the hits among the labelled rows are
compared with the calibrated probabilities c of their cells. For a direction a(cell), under the hypothesis that the rates are at most a
tolerance from c towards a, the tilted likelihood

    e = prod over cells of exp(t a k) / (1 - c' + c' exp(t a)) ** n        (k hits of n rows)

has mean 1 or less, for every t > 0 (an e-value); so has the mean of several. Directions: hits more, and fewer, than expected in each of a
few groups of scores, and (y - c)**2 beyond c (1 - c), which is a = 1 - 2c. Windows are chained by the Shiryaev-Roberts recursion
R <- (R + 1) e, whose mean time to a false alarm is at least ALARM windows (Shin, Ramdas and Rinaldo 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.estimate.cells import window_table
from detectors.estimate.estimate import estimate, window_rates
from detectors.estimate.types import Estimator, Floats
from detectors.metrics.measured import Detail
from detectors.metrics.registry import metrics
from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import PerformanceProfile

ALARM = 10_000.0  # windows
TOLERANCE = 0.03  # of a rate: estimates are wrong by so much without a change of what scores mean
GROUPS = 8
FEWEST_ROWS = 50  # labelled rows of a window that is judged
CALM_WINDOWS = 2  # windows in a row that speak for the estimate end a contradiction
TILTS = (0.1, 0.3, 1.0)
REGRESSION_TOLERANCE = 0.1  # of the expected loss
_LOG_LIMIT = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthState:
    """`log_evidence`: natural logarithm of R; alarms at log(ALARM). `since`: which labelled window (from 1) contradicted the estimate, 0: none."""

    log_evidence: float = -math.inf
    contradicted: bool = False
    calm: int = 0
    windows: int = 0
    since: int = 0

    def encode(self) -> dict[str, Any]:
        """What JSON can hold."""
        evidence = self.log_evidence.hex() if math.isfinite(self.log_evidence) else None
        return {"format": 1, "log_evidence": evidence, "contradicted": self.contradicted, "calm": self.calm, "windows": self.windows, "since": self.since}  # fmt: skip

    @classmethod
    def decode(cls, content: dict[str, Any]) -> TruthState:
        """ValueError for what `encode` did not make."""
        try:
            if content["format"] != 1:
                raise ValueError("a state of another format")
            evidence = content["log_evidence"]
            return cls(
                log_evidence=-math.inf if evidence is None else float.fromhex(evidence),
                contradicted=bool(content["contradicted"]),
                calm=int(content["calm"]),
                windows=int(content["windows"]),
                since=int(content["since"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a state of the truth check: {error}") from None


def truth_check(
    state: TruthState | None, estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile
) -> tuple[TruthState, bool]:
    """The state after one more window, in time order, and whether its estimate is contradicted.

    `profile` holds the window's predictions and the labels known of it. A window with fewer than 50 of them changes nothing.
    """
    state = state or TruthState()
    evidence = window_evidence(estimator, layout, profile)
    if evidence is None:
        return state, state.contradicted
    windows = state.windows + 1
    log_r = min(max(evidence + float(np.logaddexp(state.log_evidence, 0.0)), -_LOG_LIMIT), _LOG_LIMIT)
    if state.contradicted:
        calm = state.calm + 1 if evidence < 0.0 else 0
        if calm >= CALM_WINDOWS:
            return TruthState(windows=windows), False
        return TruthState(
            log_evidence=log_r, contradicted=True, calm=calm, windows=windows, since=state.since
        ), True  # fmt: skip
    alarm = log_r >= math.log(ALARM)
    return TruthState(
        log_evidence=log_r, contradicted=alarm, windows=windows, since=windows if alarm else 0
    ), alarm  # fmt: skip


def window_evidence(estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile) -> float | None:
    """Logarithm of the e-value of one window; None with too few labels to judge it, or where there is no estimate."""
    if layout.task == "regression":
        return _loss_evidence(estimator, layout, profile)
    known = labelled_cells(estimator, layout, profile)
    if float(known.rows.sum()) < FEWEST_ROWS:
        return None
    logs = [_log_e(known, direction, tilt) for direction in _directions(known) for tilt in TILTS]
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs)) if logs else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Labelled `rows`, `hits` among them, `rates` that the estimate takes for granted and their variances `doubt`, by cell."""

    rows: Floats
    hits: Floats
    rates: Floats
    doubt: Floats


def labelled_cells(estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile) -> Cells:
    """Binary: by decision and score bin, a hit is a positive label. Multiclass: a cell is a decided class, a hit a right decision."""
    detail: Detail = {"validity": "ok"}
    window = window_rates(estimator, layout, profile, detail)
    rates, doubt = window.rates, window.doubt
    labels = np.maximum(layout.view(profile.vector, "labelled"), 0).astype(np.float64)
    table = window_table(layout, profile.vector)
    if layout.task == "binary":
        if estimator.method == "raw":
            rates = np.where(np.isnan(table.mean_scores), rates, table.mean_scores)
        rows, hits = labels.sum(axis=2).T.reshape(-1), labels[:, :, 1].T.reshape(-1)
        return Cells(rows=rows, hits=hits, rates=rates.reshape(-1), doubt=doubt.reshape(-1))
    classes = len(layout.classes)
    mass = table.mass[:classes]
    total = mass.sum(axis=1)
    some = np.maximum(total, 1e-300)
    return Cells(
        rows=np.where(total > 0, labels[:classes].sum(axis=1), 0.0),
        hits=np.where(total > 0, labels[:classes].diagonal(), 0.0),
        rates=(mass * rates[:classes]).sum(axis=1) / some,
        doubt=(mass**2 * doubt[:classes]).sum(axis=1) / some**2,
    )


def _directions(known: Cells) -> Iterator[Floats]:
    """Up and down in each of GROUPS groups of cells of like rates and about equal rows, and towards a larger (y - c)**2."""
    cells, rates = known.rows, known.rates
    order = np.argsort(rates, kind="stable")
    before = cells[order].cumsum() - cells[order] / 2.0
    group = np.empty(len(cells), np.int64)
    group[order] = np.minimum(before * GROUPS / max(float(cells.sum()), 1.0), GROUPS - 1).astype(np.int64)
    for place in range(GROUPS):
        inside = ((group == place) & (cells > 0)).astype(np.float64)
        if inside.any():
            yield inside
            yield -inside
    yield 1.0 - 2.0 * rates


def _log_e(known: Cells, direction: Floats, tilt: float) -> float:
    """Rates are moved by the tolerance and two standard deviations of their calibration over the direction's cells, towards the direction."""
    used = (known.rows > 0.0) & (direction != 0.0)
    n, k, a = known.rows[used], known.hits[used], direction[used]
    weight = n * np.abs(a)
    spread = math.sqrt(float(weight**2 @ known.doubt[used])) / float(weight.sum())
    c = np.clip(known.rates[used] + np.sign(a) * (TOLERANCE + 2.0 * spread), 0.0, 1.0)
    return float((tilt * a * k - n * np.log1p(c * np.expm1(tilt * a))).sum())


def _loss_evidence(estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile) -> float | None:
    """A normal e-value, two-sided, for the mean absolute error beyond a tenth of the expected one and its own doubt."""
    guessed = estimate(estimator, layout, profile)["mae"]
    real = metrics(layout, profile)["mae"]
    if guessed.value is None or real.value is None or real.rows < FEWEST_ROWS or estimator.loss is None:
        return None
    sampling = guessed.detail["sampling_error"]
    model, calibration = guessed.detail["model_error"], guessed.detail["calibration_error"]
    known = [part for part in (sampling, model, calibration) if isinstance(part, float)]
    if len(known) < 3 or known[0] <= 0.0:
        return None
    error = known[0] * math.sqrt(profile.rows / real.rows)
    slack = REGRESSION_TOLERANCE * guessed.value + 2.0 * math.hypot(known[1], known[2])
    beyond = [(side * (real.value - guessed.value) - slack) / error for side in (1.0, -1.0)]
    logs = [tilt * z - tilt * tilt / 2.0 for z in beyond for tilt in (1.0, 3.0, 6.0)]
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs))


__all__ = ["ALARM", "TruthState", "truth_check", "window_evidence"]
