"""Findings by the hundred: with the constructor of the frozen dataclass most of the time of judging a window would go into making them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from typing import overload

from detectors.finding import Finding, Severity, State

Detail = dict[str, float | int | str | None]

_PUT = {field.name: getattr(Finding, field.name).__set__ for field in fields(Finding)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingColumns:
    """Fields of findings, an entry for each."""

    subject: Sequence[str]
    check: Sequence[str]
    state: Sequence[State]
    severity: Sequence[Severity | None]
    value: Sequence[float | None]
    interval: Sequence[tuple[float, float] | None]
    baseline: Sequence[float | None]
    threshold: Sequence[float | None]
    unit: Sequence[str]
    p_value: Sequence[float | None]
    q_value: Sequence[float | None]
    rows: Sequence[int]
    smallest_visible: Sequence[float | None]
    detail: Sequence[Detail]


class Findings(Sequence[Finding]):
    """Findings that are still columns. Most windows are healthy and only stored: their findings are made when somebody looks at one."""

    def __init__(self, columns: FindingColumns) -> None:
        self.columns = columns
        self._made: list[Finding] | None = None

    def __len__(self) -> int:
        return len(self.columns.subject)

    @overload
    def __getitem__(self, place: int) -> Finding: ...
    @overload
    def __getitem__(self, place: slice) -> list[Finding]: ...
    def __getitem__(self, place: int | slice) -> Finding | list[Finding]:
        if self._made is None:
            self._made = findings(self.columns)
        return self._made[place]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self[:])


def states_of(found: Sequence[Finding]) -> set[State]:
    """The states present, without making findings that are not there yet."""
    if isinstance(found, Findings):
        return set(found.columns.state)
    return {finding.state for finding in found}


def findings(columns: FindingColumns) -> list[Finding]:
    """The findings of `columns`, `since_ms` None. Slots are filled a column at a time, past the frozen `__setattr__`, before anyone sees them."""
    made = [Finding.__new__(Finding) for _ in columns.subject]
    for name, put in _PUT.items():
        column = repeat(None) if name == "since_ms" else getattr(columns, name)
        deque(map(put, made, column), maxlen=0)
    return made
