"""Measures what the false-alarm budget promises and writes false_alarms.md. From the root of the repository, in about ten minutes on two idle cores:

    python docs/statistics/measure_false_alarms.py

Quarters of healthy traffic go through the whole service (`tests/parts/healthy.py`) on virtual time, so the table is the same on every machine.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402 - the path comes first

from alerts.record import poisson_interval  # noqa: E402
from detectors.concept.baseline import baseline_of  # noqa: E402
from detectors.concept.e_sr import ESr  # noqa: E402
from detectors.concept.types import ArrivalPane  # noqa: E402
from detectors.judge import Policy  # noqa: E402
from monitor.false_alarms import Budget  # noqa: E402
from parts.healthy import HOUR_MS, QUARTER_HOURS, Fleet, Told, play  # noqa: E402
from parts.traffic import Change, Table, reference, windows  # noqa: E402

SEED = 20_261_125
TRUST_SEED = 20_261_124  # that of trust.md: at level 1 the power is what it says there
SCALES = (1.0, 1 / 4, 1 / 12, 1 / 48)
MINUTE_MS = 60_000

HEAD = """# The false-alarm budget: what was measured

Written by `python docs/statistics/measure_false_alarms.py` (seed {seed}); do not edit. The promises are held by
`tests/statistics/test_false_alarms.py`, on less traffic. How the budget works, and where it is approximate:
[decision 0022](../decisions/0022-a-budget-of-false-pages-lowers-the-levels.md).
"""

QUARTERS = """## Quarters of healthy traffic

Through the real service: events are read, stored, closed and turned into alerts, on virtual time, in SQLite. A model has eight features
(one of them a segment) and a score; with labels, these come six hours later on average, and performance and concept drift are
judged of the whole and of two segments. Every incident that an on-call receiver is told of is a page. "Upper bound" is the end of the exact 95 % Poisson interval, per
model and quarter; it is what so much traffic can show, not what is to be expected.
"""

POWER = """## What a smaller budget costs: drift

One of 50 features moves (traffic of [trust.md](trust.md)). In each cell: windows that find it, and the median number of windows until it is
found. 1 is the default at hourly windows, 1/4 a promise of .25, 1/12 windows of five minutes, 1/48 both.
"""

CONCEPT = """## What a smaller budget costs: concept drift

An error rate of .10 in a reference of 5,000 labels, then the rate below; 250 labels an hour, {runs} runs. In each cell: runs that alarmed
within 20,000 labels, and the median delay in labels.
"""


def main() -> None:
    parts = [HEAD.format(seed=SEED), *quarters(), *power(), *concept()]
    (ROOT / "docs" / "statistics" / "false_alarms.md").write_text("\n".join(parts), encoding="utf-8")


def quarters() -> Iterator[str]:
    yield QUARTERS
    yield row("promise a model", "models", "window", "rows an hour", "hours", "labels", "level", "windows with a verdict", "pages", "promised", "upper bound")  # fmt: skip
    yield rule(11)
    hourly = Fleet(seed=SEED, close_hours=6)
    fleets = (
        replace(hourly, rows=250, hours=QUARTER_HOURS // 2),
        replace(hourly, models=4, pages=0.25, labels=False, seed=SEED + 1),
        replace(hourly, models=2, labels=False, close_hours=1, seed=SEED + 2),
        replace(hourly, window="5m", rows=2_400, hours=QUARTER_HOURS // 8, labels=False, seed=SEED + 3),
    )
    with ProcessPoolExecutor(2) as pool:
        played = list(pool.map(played_out, fleets))
    for fleet, told in zip(fleets, played, strict=True):
        share = fleet.models * fleet.hours / QUARTER_HOURS
        budget = Budget(pages_per_quarter=fleet.pages, window_ms=5 * MINUTE_MS if fleet.window == "5m" else HOUR_MS)
        yield row(
            fleet.pages, fleet.models, fleet.window, f"{fleet.rows:,}", f"{fleet.hours:,}", "yes" if fleet.labels else "no",
            f"{budget.level_scale():.3g}", f"{sum(told.judged.values()):,}", len(told.pages), f"{fleet.pages * share:.2g}",
            f"{poisson_interval(len(told.pages))[1] / share:.2g}",
        )  # fmt: skip
    yield ""


def played_out(fleet: Fleet) -> Told:
    progress(f"{fleet}")
    with tempfile.TemporaryDirectory() as folder:
        told = play(Path(folder), fleet)
    for alert in told.fired:
        progress(f"false: {alert.text}")
    return told


def power() -> Iterator[str]:
    yield POWER
    yield row("change", "rows a window", "windows", *(_fraction(scale) for scale in SCALES))
    yield rule(3 + len(SCALES))
    known = reference(TRUST_SEED)
    for by, n, count in ((0.5, 200, 400), (0.3, 1_000, 200), (0.4, 1_000, 200), (0.2, 5_000, 100), (0.25, 5_000, 100)):
        progress(f"power {by} {n}")
        cells = []
        for scale in SCALES:
            policy = Policy(level_scale=scale)
            judged = windows(known, TRUST_SEED + 2, n=n, count=count, change=shift(by), policy=policy)
            found = ["n07.distribution" in one.drifting("data") for one in judged]
            cells.append(f"{100 * sum(found) / count:.0f} %, {delay(found)}")
        yield row(f"mean by {by:g} sd", f"{n:,}", count, *cells)
    yield ""


def concept(runs: int = 40) -> Iterator[str]:
    yield CONCEPT.format(runs=runs)
    days = (90.0, 360.0)
    yield row("error rate", *(f"one in {d:g} days" for d in days))
    yield rule(1 + len(days))
    baseline = baseline_of(labels=5_000, loss_sum=500.0, loss_squared=500.0, zero_one=True)
    for rate in (0.13, 0.15, 0.2):
        progress(f"concept {rate}")
        cells = []
        for guarantee in days:
            waits = [
                w
                for w in (wait(ESr(baseline=baseline, guarantee_days=guarantee), rate, run) for run in range(runs))
                if w
            ]
            cells.append(f"{len(waits)} of {runs}, {median(waits):,.0f}" if waits else f"0 of {runs}")
        yield row(f"{rate:g}", *cells)
    yield ""


def wait(watcher: ESr, rate: float, run: int, labels: int = 250, most: int = 20_000) -> int | None:
    """Labels from the rise to the end of the pane that told; 5,000 healthy ones come before it. None: never, or too early."""
    rng, state = np.random.default_rng([SEED, run]), watcher.start()
    for pane in range(-5_000 // labels, most // labels):
        errors = float(rng.binomial(labels, 0.1 if pane < 0 else rate))
        start_ms = pane * HOUR_MS
        state, verdict = watcher.step(
            state,
            ArrivalPane(
                start_ms=start_ms, end_ms=start_ms + HOUR_MS, labels=labels, loss_sum=errors, loss_squared=errors
            ),
        )
        if verdict.drifting:
            return (pane + 1) * labels if pane >= 0 else None
    return None


def shift(by: float) -> Change:
    def change(table: Table) -> None:
        table["n07"] = table["n07"] + by

    return change


def delay(found: list[bool]) -> str:
    """Median number of windows until the next one that drifts."""
    places = [i for i, hit in enumerate(found) if hit]
    waits = [next(place for place in places if place >= i) - i + 1 for i in range(places[-1] + 1)] if places else []
    return f"{median(waits):.0f}" if waits else "never"


def _fraction(scale: float) -> str:
    return "1" if scale == 1.0 else f"1/{round(1 / scale)}"


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def rule(columns: int) -> str:
    return "|" + "---|" * columns


def progress(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
