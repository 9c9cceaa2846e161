"""An alert as the pipeline sees it: one transition, and the labels that matchers, groups and inhibition read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alerts.lifecycle import Severity

DATA_FAULTS = frozenset({"quality", "volume"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`id` is the episode's, the same in all its transitions; `seq` the transition's own, rising with each one stored.

    `labels` are what `alerts.routing.labels` makes of it. `stale`: the window behind it was too old to page anyone when
    it was judged. `acknowledged`: somebody has it in hand, so it is not told again while nothing changes.
    """

    id: str
    seq: int
    incident: str
    model: str
    monitor: str
    subject: str
    severity: Severity
    firing: bool
    starts_at_ms: int
    at_ms: int
    check: str = ""
    version: str | None = None
    segment: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    stale: bool = False
    acknowledged: bool = False
