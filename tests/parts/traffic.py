"""Seeded traffic of a model with 50 features whose truth is known, and its windows judged: what the statistical claims are measured on.

20 normal features, 10 with heavy tails (exp z), 10 with ties (round 2z), 5 that are two thirds zeros, 5 categories (Zipf over 20), and a
uniform score. With `rho`, the numeric features follow AR(1) from row to row. With `daily`, the normal ones swing by .3 sd a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from detectors.columns import CategoryColumn, Column, NumericColumn
from detectors.finding import Finding, Monitor, State
from detectors.judge import Policy, judge_distribution, judge_quality, judge_silence
from detectors.profile import Profile, fold
from detectors.reference.build import Reference, ReferenceSettings, ReferenceTable, build_reference

REFERENCE_ROWS = 30_000
NUMBERS = [f"n{i:02d}" for i in range(45)]
CATEGORIES = [f"c{i:02d}" for i in range(5)]
WORDS = np.array([f"word{i}" for i in range(20)], dtype=object)
ZIPF = (1 / np.arange(1, 21)) / (1 / np.arange(1, 21)).sum()

DEFAULT = Policy()

Table = dict[str, NDArray[np.float64] | NDArray[np.object_]]
Change = Callable[[Table], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of traffic: `rows_per_day` > 0 makes it swing, `ordered` False shuffles the reference."""

    rho: float = 0.0
    rows_per_day: int = 0
    ordered: bool = True


def rows(rng: np.random.Generator, count: int, kind: Kind = Kind(), first: int = 0) -> Table:
    z = rng.standard_normal((45, count))
    if kind.rho:
        z = lfilter([np.sqrt(1 - kind.rho**2)], [1, -kind.rho], z, axis=1)
    if kind.rows_per_day:
        z[:20] += 0.3 * np.sin(2 * np.pi * np.arange(first, first + count) / kind.rows_per_day)
    z[20:30] = np.exp(z[20:30])
    z[30:40] = np.round(2 * z[30:40])
    z[40:45] = np.where(z[40:45] < 0.5, 0.0, z[40:45])
    table: Table = dict(zip(NUMBERS, z, strict=True))
    table |= {name: WORDS[np.searchsorted(ZIPF.cumsum()[:-1], rng.random(count))] for name in CATEGORIES}
    table["score"] = rng.random(count)
    return table


def columns(table: Mapping[str, NDArray[np.float64] | NDArray[np.object_]]) -> dict[str, Column]:
    return {
        name: CategoryColumn(values.tolist()) if name in CATEGORIES else NumericColumn(values.astype(np.float64))
        for name, values in table.items()
    }


def reference(seed: int, kind: Kind = Kind(), change: Change | None = None) -> Reference:
    rng = np.random.default_rng([seed, 0])
    table = rows(rng, REFERENCE_ROWS, kind)
    if change is not None:
        change(table)
    if not kind.ordered:
        order = rng.permutation(REFERENCE_ROWS)
        table = {name: values[order] for name, values in table.items()}
    found = columns(table)
    score = found.pop("score")
    settings = ReferenceSettings(task="binary", positive_label="1", order="time" if kind.ordered else "unknown")
    return build_reference(ReferenceTable(rows=REFERENCE_ROWS, features=found, score=score), settings)


def profile(known: Reference, table: Table, start: int = 0, stop: int | None = None) -> Profile:
    part = columns({name: values[start:stop] for name, values in table.items()})
    return fold(known.layout, [part[subject.name] for subject in known.layout.subjects])


@dataclass(frozen=True)
class Judged:
    data: list[Finding]
    prediction: list[Finding]
    quality: list[Finding]
    volume: list[Finding]

    def drifting(self, *monitors: str) -> list[str]:
        names = monitors or ("data", "prediction", "quality", "volume")
        return [f"{f.subject}.{f.check}" for m in names for f in getattr(self, m) if f.state is State.DRIFT]


def windows(
    known: Reference,
    seed: int,
    *,
    n: int,
    count: int,
    kind: Kind = Kind(),
    change: Change | None = None,
    policy: Policy = DEFAULT,
) -> Iterator[Judged]:
    """`count` windows of `n` rows, judged by all monitors. They are cut from runs of rows, so that dependence goes on across windows."""
    history: list[int] = []
    per_run = max(1, 200_000 // n)
    for run in range(0, count, per_run):
        here = min(per_run, count - run)
        table = rows(np.random.default_rng([seed, 1, run]), n * here, kind, first=n * run)
        if change is not None:
            change(table)
        for i in range(here):
            found = profile(known, table, i * n, (i + 1) * n)
            yield Judged(
                data=judge_distribution(known, found, policy, Monitor.DATA),
                prediction=judge_distribution(known, found, policy, Monitor.PREDICTION),
                quality=judge_quality(known, found, policy),
                volume=[judge_silence(found.rows, history[-168:], policy)],
            )
            history.append(found.rows)
