"""Do outcomes bear labels that the reference knows? One producer says `1`, another `yes`, and every figure would be of the rest."""

from __future__ import annotations

import math

from detectors.finding import Finding, Severity, State
from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import PerformanceProfile

SUBJECT, CHECK = "labels", "unknown"
FEWEST = 20  # strange labels; fewer are shown and tell nobody
SHARE, CRITICAL_SHARE = 0.01, 0.2
_TWO_SIDED_95 = 1.959963984540054


def unknown_labels(layout: PerformanceLayout, profile: PerformanceProfile) -> Finding | None:
    """None where every label is known. `value`: share of the labels that are none of the layout's classes (regression: no finite number).

    error: none is known, so the label sets do not meet. drift: at least 20 and 1 % of them; critical above 20 %. No test: a strange label is
    no matter of chance.
    """
    strange = int(layout.view(profile.vector, "unknown_labels")[0])
    labels = strange + profile.labelled_rows
    if strange <= 0 or labels <= 0:
        return None
    share = strange / labels
    state = State.OK
    if strange >= FEWEST and share >= SHARE:
        state = State.DRIFT if profile.labelled_rows > 0 else State.ERROR
    severity = None
    if state is State.DRIFT:
        severity = Severity.CRITICAL if share > CRITICAL_SHARE else Severity.WARNING
    return Finding(
        subject=SUBJECT,
        check=CHECK,
        state=state,
        severity=severity,
        value=share,
        interval=_wilson(share, labels),
        baseline=0.0,
        threshold=SHARE,
        unit="share",
        rows=labels,
        detail={"unknown": strange, "known": ", ".join(layout.classes[:8]) or "numbers"},
    )


def _wilson(share: float, rows: int) -> tuple[float, float]:
    z2 = _TWO_SIDED_95**2 / rows
    middle, half = share + z2 / 2, _TWO_SIDED_95 * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows))
    return max((middle - half) / (1 + z2), 0.0), min((middle + half) / (1 + z2), 1.0)
