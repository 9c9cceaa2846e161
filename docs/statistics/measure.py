"""Measures what the verdicts promise and writes trust.md. From the root of the repository, in about a quarter of an hour on one core:

    python docs/statistics/measure.py

Everything is seeded: the table changes only when the code, numpy's generators or scipy's tails do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402 - the path comes first
from scipy import stats  # noqa: E402

from detectors.drift import resemblance  # noqa: E402
from detectors.finding import State  # noqa: E402
from parts.traffic import NUMBERS, Change, Kind, Table, reference, windows  # noqa: E402

SEED = 20_261_124
STEADY, DEPENDENT = Kind(), Kind(rho=0.9)
SWINGING, SHUFFLED = Kind(rows_per_day=24_000), Kind(rows_per_day=24_000, ordered=False)

HEAD = """# Trust: what the verdicts were measured to do

Written by `python docs/statistics/measure.py` (seed {seed}); do not edit. The promises are held by `tests/statistics/test_trust.py`.

Traffic: 50 features (20 normal, 10 with heavy tails `exp z`, 10 with ties `round 2z`, 5 that are two thirds zeros, 5 categorical, Zipf over
20 values) and a uniform score, independent of each other; a reference of 30,000 rows, folded, built and judged by the code that
runs in production, with its defaults. Windows follow each other in one stream. "Upper bound" is the one-sided 95 % Clopper-Pearson limit.
What whole quarters of healthy traffic page, and what a smaller budget of false pages costs: [false_alarms.md](false_alarms.md).
"""


def main() -> None:
    parts = [HEAD.format(seed=SEED), *false_alarms(), *power(), *faults(), *intervals()]
    (ROOT / "docs" / "statistics" / "trust.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


def false_alarms() -> Iterator[str]:
    yield "## Healthy traffic\n"
    yield "Windows with at least one `drift`, by monitor, and `warning` windows of the data monitor (shown, never notified).\n"
    yield row("traffic", "rows a window", "windows", "data", "prediction", "quality", "volume", "any, per 1000 (upper bound)",
              "data findings per 1000", "warning")  # fmt: skip
    yield rule(10)
    cases: list[tuple[str, Kind, int, int, Change | None]] = [
        ("independent rows", STEADY, 200, 5000, None),
        ("independent rows, three months of hours", STEADY, 1000, 2190, None),
        ("independent rows", STEADY, 5000, 1500, None),
        ("independent rows", STEADY, 50_000, 1500, None),
        ("AR(1) .9, reference in time order", DEPENDENT, 200, 1000, None),
        ("AR(1) .9, reference in time order", DEPENDENT, 1000, 1000, None),
        ("AR(1) .9, reference in time order", DEPENDENT, 5000, 300, None),
        ("daily swing of .3 sd, reference in time order", SWINGING, 1000, 500, None),
        ("daily swing of .3 sd, reference shuffled, `order: unknown`", SHUFFLED, 1000, 500, None),
        ("all normal features moved by .05 sd", STEADY, 50_000, 100, shift(0.05, *NUMBERS[:20])),
    ]
    for name, kind, n, count, change in cases:
        progress(name, n)
        judged = list(windows(reference(SEED, kind), SEED + 1, n=n, count=count, kind=kind, change=change))
        by_monitor = [sum(bool(w.drifting(m)) for w in judged) for m in ("data", "prediction", "quality", "volume")]
        any_drift = sum(bool(w.drifting()) for w in judged)
        findings = sum(len(w.drifting("data")) for w in judged)
        warning = sum(any(f.state is State.WARNING for f in w.data) for w in judged)
        yield row(name, f"{n:,}", f"{count:,}", *by_monitor, f"{1000 * any_drift / count:.1f} ({1000 * upper(any_drift, count):.1f})",
                  f"{1000 * findings / (50 * count):.2f}", warning)  # fmt: skip
    yield ""


def power() -> Iterator[str]:
    yield "## Drift in one of 50 features\n"
    yield 'Median delay counts windows from any window on; 1 is the first. "Others": windows in which another feature drifted as well.\n'
    yield row(
        "change", "rows a window", "windows", "found", "median delay", "others", "median of the reported effect (sd)"
    )
    yield rule(7)
    cases: list[tuple[str, int, int, Change]] = [
        ("mean by .5 sd", 200, 1000, shift(0.5, "n07")),
        ("mean by .2 sd", 1000, 500, shift(0.2, "n07")),
        ("mean by .3 sd", 1000, 500, shift(0.3, "n07")),
        ("spread by 1.3", 1000, 500, scaled("n07", 1.3)),
        ("heavy tail: all values by 1.5", 1000, 500, scaled("n22", 1.5)),
        ("mean by .2 sd", 5000, 200, shift(0.2, "n07")),
        ("mean by .25 sd", 5000, 200, shift(0.25, "n07")),
    ]
    for name, n, count, change in cases:
        progress(name, n)
        subject = "n22" if "tail" in name else "n07"
        judged = list(windows(reference(SEED), SEED + 2, n=n, count=count, change=change))
        found = [f"{subject}.distribution" in w.drifting("data") for w in judged]
        others = sum(bool(set(w.drifting("data")) - {f"{subject}.distribution"}) for w in judged)
        effect = median(f.value or 0.0 for w in judged for f in w.data if f.subject == subject)
        yield row(name, f"{n:,}", count, f"{100 * sum(found) / count:.0f} %", delay(found), others, f"{effect:.3f}")
    yield ""


def faults() -> Iterator[str]:
    yield "## Faults and outliers\n"
    yield row("change", "rows a window", "windows", "found")
    yield rule(4)
    cases: list[tuple[str, int, Change, str]] = [
        ("nulls from 0 to 1 %", 5000, nulls(0.01), "n03.missing"),
        ("nulls from 0 to 5 %", 200, nulls(0.05), "n03.missing"),
        ("a category nobody knew on 2 % of rows", 1000, unseen(0.02), "c03.unseen"),
        ("unit change: all values by 1000", 1000, scaled("n03", 1000.0), "n03.out_of_range"),
    ]
    for name, n, change, wanted in cases:
        progress(name, n)
        found = [
            wanted in w.drifting("quality") for w in windows(reference(SEED), SEED + 3, n=n, count=200, change=change)
        ]
        yield row(name, f"{n:,}", 200, f"{100 * sum(found) / 200:.0f} %")
    for name, change in (("healthy", None), ("mean of one feature by .5 sd", shift(0.5, "n07"))):
        progress("outlier", 1000)
        plain = windows(reference(SEED), SEED + 4, n=1000, count=100, change=change)
        odd = windows(reference(SEED), SEED + 4, n=1000, count=100, change=with_outliers(change))
        changed = sum(a.drifting() != b.drifting() for a, b in zip(plain, odd, strict=True))
        yield row(f"{name}; one value of 1e9 in every feature: windows with another verdict", "1,000", 100, changed)
    yield ""


def intervals() -> Iterator[str]:
    yield "## Intervals and the smallest visible effect\n"
    yield (
        "Share of 20,000 windows whose 95 % interval holds the true effect (PSI of the two populations on the test's groups), and share in\n"
        "which an effect of the reported `smallest_visible` passes at the uncorrected level of one among 50 (promised: 80 %).\n"
    )
    yield row(
        "rows a window", "groups", "shift 0", ".1 sd", ".3 sd", ".5 sd", "1 sd", "2 sd", "power at smallest visible"
    )
    yield rule(9)
    for n, groups in ((200, 10), (1000, 10), (5000, 32), (50_000, 32)):
        progress("intervals", n)
        covered = [f"{100 * coverage(n, groups, by):.1f} %" for by in (0.0, 0.1, 0.3, 0.5, 1.0, 2.0)]
        yield row(f"{n:,}", groups, *covered, f"{100 * visible_power(n, groups):.0f} %")


def coverage(n: int, groups: int, by: float) -> float:
    seen, truth = simulated(n, groups, by)
    return float(np.mean((seen.low <= truth) & (truth <= seen.high)))


def visible_power(n: int, groups: int) -> float:
    level, noise = np.full(1, (0.01 if n < 500 else 0.05) / 50), np.full(1, 1 / n + 1 / 30_000)
    nu, tolerated = np.full(1, groups - 1.0), np.full(1, 0.02)
    visible = float(resemblance.smallest_visible(noise, nu, tolerated, level)[0])
    # The shift whose PSI on these groups is that effect.
    tries = np.linspace(visible * 0.9, visible * 1.3, 400)
    by = tries[np.argmin([abs(true_effect(groups, shifted) - visible) for shifted in tries])]
    seen, _ = simulated(n, groups, float(by))
    many = len(seen.psi)
    p = resemblance.tail(seen.psi, seen.noise, np.full(many, nu[0]), np.full(many, 0.02))
    return float(np.mean((p <= level[0]) & (seen.effect >= 0.02**0.5)))


def simulated(
    n: int, groups: int, by: float, m: int = 30_000, repeats: int = 20_000
) -> tuple[resemblance.Comparison, float]:
    rng, everywhere = np.random.default_rng([SEED, n, groups]), np.ones((repeats, groups), dtype=bool)
    p, q = populations(groups, by)

    def sample(rows: int, shares: np.ndarray) -> resemblance.Sample:
        counts = rng.multinomial(rows, shares, repeats).astype(float)
        return resemblance.Sample(resemblance.smoothed(counts, everywhere), np.full(repeats, float(rows)))

    seen = resemblance.compare(sample(n, q), sample(m, p), np.ones(repeats), np.full(repeats, groups - 1.0))
    return seen, true_effect(groups, by)


def true_effect(groups: int, by: float) -> float:
    p, q = populations(groups, by)
    return float(np.sqrt(((q - p) * np.log(q / p)).sum()))


def populations(groups: int, by: float) -> tuple[np.ndarray, np.ndarray]:
    cuts = stats.norm.ppf(np.arange(1, groups) / groups)
    return np.full(groups, 1 / groups), np.diff(np.r_[0, stats.norm.cdf(cuts, by), 1])


def shift(by: float, *names: str) -> Change:
    def change(table: Table) -> None:
        for name in names:
            table[name] = table[name] + by

    return change


def scaled(name: str, by: float) -> Change:
    def change(table: Table) -> None:
        table[name] = table[name] * by

    return change


def nulls(share: float) -> Change:
    return replaced("n03", np.nan, share)


def unseen(share: float) -> Change:
    return replaced("c03", "new word", share)


def replaced(name: str, value: float | str, share: float) -> Change:
    def change(table: Table) -> None:
        hit = np.random.default_rng(SEED).random(len(table[name])) < share
        table[name] = np.where(hit, np.array(value, dtype=table[name].dtype), table[name])

    return change


def with_outliers(first: Change | None) -> Change:
    def change(table: Table) -> None:
        if first is not None:
            first(table)
        for name in NUMBERS:
            table[name] = table[name].copy()
            table[name][500::1000] = 1e9

    return change


def delay(found: list[bool]) -> str:
    """Median number of windows until the next one that drifts."""
    places = [i for i, hit in enumerate(found) if hit]
    waits = [next(place for place in places if place >= i) - i + 1 for i in range(places[-1] + 1)] if places else []
    return f"{median(waits):.0f}" if waits else "never"


def upper(hits: int, count: int) -> float:
    return float(stats.beta.ppf(0.95, hits + 1, count - hits))


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def rule(columns: int) -> str:
    return "|" + "---|" * columns


def progress(name: str, n: int) -> None:
    sys.stderr.write(f"{name}, {n:,} rows a window\n")


if __name__ == "__main__":
    main()
