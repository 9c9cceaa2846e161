"""Which panes are judged alone and which together: the pool for models with little traffic. Pure; times in ms, aligned to UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monitor.store.records import PaneKey, PerformanceKey

DAY_MS = 86_400_000


def pane_start(time_ms: int, size_ms: int) -> int:
    """The start of the pane that holds this time; panes are aligned to the Unix epoch."""
    return time_ms // size_ms * size_ms


def correction_horizon_ms(size_ms: int) -> int:
    """How long after a window's end, in the model's watermark, late predictions still revise it: 24 hours or 7 windows, the longer."""
    return max(DAY_MS, 7 * size_ms)


@dataclass(frozen=True, slots=True)
class PaneCount:
    """Rows of one version in one pane, under one reference."""

    start_ms: int
    rows: int
    reference: str


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive panes judged together. `full` is False where the pool became as long as allowed and still holds too few rows."""

    start_ms: int
    end_ms: int
    starts_ms: tuple[int, ...]
    rows: int
    reference: str
    full: bool


def versions_at(panes: Iterable[tuple[PaneKey | PerformanceKey, int]], enough: int) -> dict[int, int]:
    """Start of a pane -> how many versions have `enough` rows in it; at least 1. Who has fewer is not judged, so it alarms nobody."""
    found: dict[int, set[str]] = {}
    for pane, rows in panes:
        versions = found.setdefault(pane.start_ms, set())
        if rows >= enough:
            versions.add(pane.version)
    return {start_ms: max(len(versions), 1) for start_ms, versions in found.items()}


def pooled_runs(panes: Iterable[PaneCount], *, size_ms: int, min_rows: int, max_ms: int) -> list[Run]:
    """The pooled windows of these panes (sorted by start; the first one follows a judged window).

    A pane with enough rows is judged alone and discards the pool, as does a new reference. Runs do not overlap. A run is decided by the
    panes up to its own end only, so later panes never change it. An unfinished pool at the end gives no run.
    """
    runs: list[Run] = []
    pool: list[PaneCount] = []
    for pane in panes:
        if pane.rows >= min_rows:
            pool = []
            continue
        if pool and pane.reference != pool[0].reference:
            pool = []
        if pool and pane.start_ms + size_ms - pool[0].start_ms > max_ms:
            runs.append(_run(pool, size_ms, min_rows))
            pool = []
        pool.append(pane)
        span_ms = pane.start_ms + size_ms - pool[0].start_ms
        if sum(member.rows for member in pool) >= min_rows or span_ms >= max_ms:
            runs.append(_run(pool, size_ms, min_rows))
            pool = []
    return [run for run in runs if len(run.starts_ms) > 1]


def _run(pool: Sequence[PaneCount], size_ms: int, min_rows: int) -> Run:
    rows = sum(member.rows for member in pool)
    return Run(
        start_ms=pool[0].start_ms,
        end_ms=pool[-1].start_ms + size_ms,
        starts_ms=tuple(member.start_ms for member in pool),
        rows=rows,
        reference=pool[0].reference,
        full=rows >= min_rows,
    )
