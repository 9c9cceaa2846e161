"""Findings by the hundred: with the constructor of the frozen dataclass most of the time of judging a window would go into making them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import repeat

from detectors.finding import Finding, Severity, State

Detail = dict[str, float | int | str | None]

_PUT = {field.name: getattr(Finding, field.name).__set__ for field in fields(Finding)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingColumns:
    """Fields of findings, an entry for each; all but `subject` may be endless."""

    subject: Sequence[str]
    check: Iterable[str]
    state: Iterable[State]
    severity: Iterable[Severity | None]
    value: Iterable[float | None]
    interval: Iterable[tuple[float, float] | None]
    baseline: Iterable[float | None]
    threshold: Iterable[float | None]
    unit: Iterable[str]
    p_value: Iterable[float | None]
    q_value: Iterable[float | None]
    rows: Iterable[int]
    smallest_visible: Iterable[float | None]
    detail: Iterable[Detail]


def findings(columns: FindingColumns) -> list[Finding]:
    """The findings of `columns`, `since_ms` None. Slots are filled a column at a time, past the frozen `__setattr__`, before anyone sees them."""
    made = [Finding.__new__(Finding) for _ in columns.subject]
    for name, put in _PUT.items():
        column = repeat(None) if name == "since_ms" else getattr(columns, name)
        deque(map(put, made, column), maxlen=0)
    return made
