"""Measures how often the intervals of the calibration error and of the multiclass ROC AUC hold the truth, and writes intervals.md.
From the root of the repository:

    python docs/statistics/measure_intervals.py

The other metrics' are held by tests/unit/detectors/test_metrics_intervals.py, where these two are too, on fewer models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402 - the path comes first
from numpy.typing import NDArray  # noqa: E402

from detectors.metrics.calibration import ece  # noqa: E402
from detectors.metrics.counts import binary_counts, multiclass_counts  # noqa: E402
from detectors.metrics.measured import Measured  # noqa: E402
from detectors.metrics.multiclass import roc_auc  # noqa: E402
from detectors.performance.layout import performance_layout  # noqa: E402
from parts.scored_rows import BinaryCells, predicted, profile_of  # noqa: E402

SEED = 20_261_125
ROWS = (200, 500, 1000, 2000, 5000)
BINARY_WINDOWS, MULTICLASS_WINDOWS = 8000, 3000  # a cell
TRUTH_ROWS, TRUTHS = 200_000, 4  # the truth is the mean of so many populations' areas
FEWEST = 10  # rows of the rarest class that a window has on average, or the cell is left out
SHARES = {"even": (0.0, 1.5), "a fifth positive": (-2.0, 1.8), "4 % positive": (-3.5, 1.5), "sure": (-2.0, 4.9)}
SCORES = {"right": 0.0, "overconfident": 0.25, "far off": 0.5, "underconfident": -0.3}
ONE_FACTOR, SHIFTED = "right, one factor", "right, shifted labels"
POWERS = {"right": 1.0, "underconfident": 0.5, "overconfident": 2.0}
HEAD = f"""# Do 95 % intervals hold the truth? The calibration error and the multiclass ROC AUC

Written by `python docs/statistics/measure_intervals.py` (a quarter of an hour on two cores, seed {SEED}); do not edit. The other metrics stand in
`tests/unit/detectors/test_metrics_intervals.py`.
"""
ECE_HEAD = f"""## Calibration error

Share of {BINARY_WINDOWS:,} windows whose interval holds the error of the whole population, in per cent; chance moves a figure by
about .5 (two standard errors). Scores: log odds are normal; "overconfident" and "far off" are a third and twice too far from even,
"underconfident" not far enough.

Its square, less what chance adds, is a quadratic form: a noncentral chi-square whose unit, degrees and shift are those of groups that are off
in the proportions found. An error of 0 can be missed to one side only; there the whole 5 % are on that side, so that 95 % hold there too.

| positives | scores | error | {" | ".join(f"{rows:,}" for rows in ROWS)} |
|---|---|---|{"---|" * len(ROWS)}"""
AREA_HEAD = f"""## ROC AUC of three or more classes

Mean of one class against the rest. {MULTICLASS_WINDOWS:,} windows a cell: chance moves a figure by about .8. `together`: variance of the sum of the areas over the sum of their variances, of the
population and as the layout foretells it (`detectors/performance/placements.py`). "-": fewer than {FEWEST} rows of the rarest class.
"shifted labels": windows whose rarest class is three times as frequent as in the reference that the layout is made of.

| classes | rarest | scores | area | together | foretold | {" | ".join(f"{rows:,}" for rows in ROWS)} |
|---|---|---|---|---|---|{"---|" * len(ROWS)}"""


def calibration_errors(pool: Executor) -> Iterator[str]:
    yield ECE_HEAD
    yield from pool.map(calibration_error, *zip(*product(SHARES, SCORES), strict=True))
    yield ""


def calibration_error(share: str, scores: str) -> str:
    """A line of the table."""
    mean, sd = SHARES[share]
    cells = BinaryCells(mean=mean, sd=sd, overconfident=SCORES[scores])
    truth = ece(binary_counts(cells.layout, cells.profile(cells.expected()).vector)).value or 0.0
    truth = truth if truth > 1e-4 else 0.0
    held = []
    for rows in ROWS:
        drawn = cells.draw(np.random.default_rng(SEED + rows), rows, BINARY_WINDOWS)
        found = [ece(binary_counts(cells.layout, cells.profile(counts).vector)) for counts in drawn]
        inside = [one.low is not None and one.high is not None and one.low <= truth <= one.high for one in found]
        held.append(f"{100 * np.mean(inside):.1f}")
    progress(f"{share}, {scores}")
    return f"| {share} | {scores} | {truth:.3f} | {' | '.join(held)} |"


Drawn = tuple[NDArray[np.float64], NDArray[np.intp], Measured, float]


class Classes:
    """Softmax scores whose log odds are normal, raised to a power; labels by the true ones. `shifted`: the last class comes three times as often."""

    def __init__(
        self, count: int, skew: float, power: float, *, shifted: bool = False, one_factor: bool = False
    ) -> None:
        self.count, self.power, self.shifted, self.one_factor = count, power, shifted, one_factor
        self.offset = -skew * np.arange(count)
        random = np.random.default_rng(SEED)
        scores, _ = self.drawn(20_000, random, shifted=False)
        self.layout = performance_layout(task="multiclass", classes=tuple("abcdefghij"[:count]), scores=scores)

    def drawn(
        self, rows: int, random: np.random.Generator, *, shifted: bool | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        size = 4 * rows if self.shifted and shifted is None else rows
        z = random.normal(size=(size, self.count)) * (0.5 if self.one_factor else 1.5) + self.offset
        if self.one_factor:
            z += random.normal(size=(size, 1)) * np.linspace(-3.0, 3.0, self.count)
        chance = np.exp(z - z.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        label = np.minimum((chance.cumsum(axis=1) < random.random((size, 1))).sum(axis=1), self.count - 1)
        scores = chance**self.power
        scores /= scores.sum(axis=1, keepdims=True)
        if size > rows:
            kept = np.flatnonzero((label == self.count - 1) | (random.random(size) < 1 / 3))[:rows]
            scores, label = scores[kept], label[kept]
        return scores, label

    def measured(self, rows: int, random: np.random.Generator) -> Drawn:
        scores, label = self.drawn(rows, random)
        counts = multiclass_counts(
            self.layout, profile_of(self.layout, predicted(len(label), scores=scores), label=label).vector
        )
        return scores, label, roc_auc(counts), counts.together


def moves_together(scores: NDArray[np.float64], label: NDArray[np.intp]) -> float:
    """Of all rows, from the ranks of their scores."""
    influence = np.zeros(scores.shape)
    for k in range(scores.shape[1]):
        own = label == k
        positive, negative = np.sort(scores[own, k]), np.sort(scores[~own, k])
        below = np.searchsorted(negative, scores[own, k]) / len(negative)
        above = 1.0 - np.searchsorted(positive, scores[~own, k]) / len(positive)
        influence[own, k] = (below - below.mean()) / own.mean()
        influence[~own, k] = (above - above.mean()) / (1.0 - own.mean())
    return float((influence.sum(axis=1) ** 2).sum() / (influence**2).sum())


def areas(pool: Executor) -> Iterator[str]:
    yield AREA_HEAD
    skews = {3: 1.0, 5: 0.6, 10: 0.25}
    cases: list[tuple[int, float, str]] = [(k, s, name) for k in (3, 5, 10) for s in (0.0, skews[k]) for name in POWERS]
    cases += [(k, 0.0, ONE_FACTOR) for k in (3, 5, 10)] + [(k, skews[k], SHIFTED) for k in (3, 5, 10)]
    yield from pool.map(area, *zip(*cases, strict=True))
    yield ""


def area(count: int, skew: float, name: str) -> str:
    """A line of the table."""
    random = np.random.default_rng(SEED)
    power = POWERS[name.split(",", maxsplit=1)[0]]
    model = Classes(count, skew, power, shifted=name == SHIFTED, one_factor=name == ONE_FACTOR)
    whole = [model.measured(TRUTH_ROWS, random) for _ in range(TRUTHS)]
    truth = float(np.mean([found.value for _, _, found, _ in whole]))
    scores, label, _, foretold = whole[0]
    rarest = np.bincount(label, minlength=count).min() / len(label)
    held = []
    for rows in ROWS:
        if rows * rarest < FEWEST:
            held.append("-")
            continue
        found = [model.measured(rows, random)[2] for _ in range(MULTICLASS_WINDOWS)]
        held.append(f"{100 * np.mean([one.low <= truth <= one.high for one in found]):.1f}")
    together = moves_together(scores, label)
    progress(f"{count} classes, {name}")
    return f"| {count} | {100 * rarest:.0f} % | {name} | {truth:.3f} | {together:.2f} | {foretold:.2f} | {' | '.join(held)} |"


def progress(what: str) -> None:
    sys.stderr.write(f"{what}\n")


def main() -> None:
    with ProcessPoolExecutor() as pool:
        lines = [HEAD, *calibration_errors(pool), *areas(pool)]
    (ROOT / "docs" / "statistics" / "intervals.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
