"""Finding: one subject of one window, judged. The vocabulary every room after the tests speaks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """States in the order in which a window takes one: its state is the first present among its findings'."""

    ERROR = "error"
    DRIFT = "drift"
    WARNING = "warning"
    STALE = "stale"
    OK = "ok"
    INSUFFICIENT_DATA = "insufficient_data"
    NO_DATA = "no_data"
    NOT_CONFIGURED = "not_configured"


class Severity(StrEnum):
    """Only a finding in state `drift` has one."""

    WARNING = "warning"
    CRITICAL = "critical"


class Monitor(StrEnum):
    """What a window's findings are about. `volume` belongs to the model (version None), the others to one version."""

    DATA = "data"
    PREDICTION = "prediction"
    QUALITY = "quality"
    VOLUME = "volume"
    PERFORMANCE = "performance"
    CONCEPT = "concept"
    JOINT = "joint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`value`, `interval`, `baseline`, `threshold` and `smallest_visible` share `unit` ("sd", "share", "rows"); None is unknown.

    `rows` is the number of rows behind the judgement. `since_ms` is the start of the first window of the running drift
    (filled in by the closer, None from the tests). `detail` holds plain numbers and strings only.
    """

    subject: str
    check: str
    state: State
    severity: Severity | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    baseline: float | None = None
    threshold: float | None = None
    unit: str | None = None
    p_value: float | None = None
    q_value: float | None = None
    rows: int = 0
    smallest_visible: float | None = None
    since_ms: int | None = None
    detail: Mapping[str, float | int | str | None] = field(default_factory=dict)


def window_state(present: Collection[State], *, empty: State = State.NO_DATA) -> State:
    """A window's state from those of its findings: the first that is present, in the order of State; `empty` when there is none."""
    return next((state for state in State if state in present), empty)
