"""How things are timed: CPU time of the whole process, medians over interleaved repeats, so that a busy machine hits every case alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report. `cpu_us` is CPU time of one `unit`; `per_second` counts units by the wall clock.

    `ratio` says how many times the figure named in `against` this one costs. Either may be unknown.
    """

    name: str
    what: str
    unit: str = "event"
    cpu_us: float | None = None
    per_second: float | None = None
    ratio: float | None = None
    against: str | None = None
    more: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(slots=True)
class Spent:
    """Seconds of CPU of this process, all threads, and of the wall clock."""

    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def timed() -> Iterator[Spent]:
    """What the block takes, filled in at its end. What stands before it is the input, not the program: the collector leaves it alone."""
    gc.collect()
    gc.freeze()
    spent = Spent()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        yield spent
    finally:
        spent.cpu, spent.wall = time.process_time() - cpu, time.perf_counter() - wall
        gc.unfreeze()


def interleaved(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each case; every repeat runs all of them once, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    for _ in range(repeats):
        for name, case in cases.items():
            with timed() as spent:
                case()
            taken[name].append(spent.cpu)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}
