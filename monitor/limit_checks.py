"""Limits name figures. A limit that no figure ever meets would never fire, so it is refused at the start."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from detectors.limits import parse_limit
from detectors.metrics.registry import METRICS
from detectors.reference.build import Reference
from monitor.config import Model
from monitor.errors import UserError


def check_limits(model: Model, references: Sequence[Reference]) -> None:
    """Raises UserError for a limit about something that none of the model's references knows. Without a reference nothing is known yet."""
    if not references:
        return
    metrics = {name for known in references if known.performance for name in METRICS[known.performance.layout.task]}
    metrics |= {"value_sum", "value_mean"} if metrics else set()
    subjects = {subject.name for known in references for subject in known.layout.subjects}
    for name in model.limits:
        target = parse_limit(name)
        path = f"models.{model.name}.limits.{name}"
        if target.check is None and not metrics:
            raise UserError(f"{path}: performance is unknown without labels (add a label column to the reference)")
        known = sorted(metrics if target.check is None else subjects)
        if target.subject not in known:
            close = difflib.get_close_matches(target.subject, known, n=1, cutoff=0.6)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known[:12])}"
            what = "metric" if target.check is None else "feature"
            raise UserError(f"{path}: no {what} is called {target.subject} ({hint})")
