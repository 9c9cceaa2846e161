"""Names without end, through the real intake from the memory source into a real store: models that nobody configured, versions of one that
somebody did, categories of a feature. `python -m tests.parts.bomb [NAMES]` (1,000,000) sends so many of each and says what they have cost.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.exposition import facts
from monitor.metrics import Metrics
from tests.parts.exposition import scrape
from tests.parts.world import HOUR, T0, World, event

CHUNK = 10_000
HOURS = 6


@dataclass(frozen=True, slots=True)
class Cost:
    """`grown_bytes`: of resident memory, from the first tenth of the names to the last."""

    world: World
    grown_bytes: int
    database_bytes: int
    seconds: float
    metrics: dict[tuple[str, ...], float]


def models(names: int) -> Iterator[bytes]:
    for number in range(names):
        yield event(_at(number, names), 0.5, "a", model=f"model-{number}", name=f"p{number}")


def versions(names: int) -> Iterator[bytes]:
    for number in range(names):
        yield event(_at(number, names), 0.5, "a", version=f"build-{number}", name=f"p{number}")


def categories(names: int) -> Iterator[bytes]:
    for number in range(names):
        yield event(_at(number, names), 0.5, f"category-{number}", name=f"p{number}")


def _at(number: int, names: int) -> int:
    return T0 + number * HOURS * HOUR // names


def send(folder: Path, names: int, kind: Callable[[int], Iterator[bytes]]) -> Cost:
    """All of them, read and closed as a service would."""
    folder.mkdir(exist_ok=True)
    world = World(folder, log_records=2 * CHUNK)
    begun, waiting, first = time.monotonic(), [], 0
    for number, value in enumerate(kind(names), 1):
        waiting.append(value)
        if len(waiting) == CHUNK or number == names:
            world.send(waiting)
            world.turn(HOURS * number / names)
            waiting = []
        if number == names // 10:
            first = _resident_bytes()
    world.send([event(T0 + (HOURS + 2) * HOUR, 0.5, "a", name="last")])
    world.turn(HOURS + 3)
    grown = _resident_bytes() - first
    seconds = time.monotonic() - begun
    metrics = scrape(Metrics(world.store, world.runtime.telemetry, facts(world.runtime)))
    return Cost(world, grown, sum(path.stat().st_size for path in folder.glob("world.db*")), seconds, metrics)


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(names: int) -> None:
    for kind in (models, versions, categories):
        with tempfile.TemporaryDirectory() as name:
            cost = send(Path(name), names, kind)
            print(
                f"{names:,} {kind.__name__}: {cost.seconds:.0f} s, memory grew by {cost.grown_bytes / 1e6:.0f} MB, "
                f"database {cost.database_bytes / 1e6:.0f} MB, {cost.metrics['exported_series',]:,.0f} series"
            )
            cost.world.store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
