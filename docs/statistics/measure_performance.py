"""Measures the judging of realised performance on simulated windows and writes performance.md. From the root of the repository:

    python docs/statistics/measure_performance.py

The models are those of tests/unit/detectors/test_performance.py, which holds the promises.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402 - the path comes first
from numpy.typing import NDArray  # noqa: E402

from detectors.finding import Finding, State  # noqa: E402
from detectors.performance.judge import LEVEL, TOLERATED_LEVEL, WARNING_P, PerformancePolicy, judge_performance  # noqa: E402
from detectors.performance.profile import PerformanceProfile  # noqa: E402
from parts.scored_rows import BinaryCells  # noqa: E402

SEED = 20_261_125
KNOWN = 15_000  # labelled rows of a reference
MODELS = {
    "errs in 10 %": BinaryCells(mean=-2.0, sd=4.88, threshold=0.5),
    "rare positives": BinaryCells(mean=-3.5, sd=1.5, threshold=0.3),
    "even classes": BinaryCells(),
}
HEALTHY, REFERENCES = 500, 4  # windows a reference, references a model
ROWS = (100, 300, 1000, 5000)
FOUND = 200  # windows a line of power
ERRORS = (0.105, 0.11, 0.12, 0.13, 0.15)
POLICY = PerformancePolicy()
HEAD = f"""# Performance by labels: the rule and measurements

Written by `python docs/statistics/measure_performance.py` (a minute on one core, seed {SEED}); do not edit. The promises are held by
`tests/unit/detectors/test_performance.py`, those of the intervals by `tests/unit/detectors/test_metrics_intervals.py`.

**Two keys.** A metric of a window drifts when it is surely worse than in the reference, and surely beyond what is tolerated:

| key | question | level |
|---|---|---|
| evidence | how likely is so bad a value where the metric is truly the reference's? | q <= {LEVEL:g} |
| effect | how likely is it where the metric is truly worse by the whole tolerance? And does the 95 % interval lie wholly beyond that? | q <= {TOLERATED_LEVEL:g}, and yes |

q is Benjamini-Hochberg's over the metrics of the window. With the first key alone, or with a value beyond the tolerance and p <= {WARNING_P:g},
the finding is a `warning`: shown, never sent. Only a change for the worse counts; a bias is worse to either side.

**Why so sharp a level.** A window has a dozen metrics, is judged again and again as labels come, and there may be a window an hour, each
of several versions and segments. A healthy model that is asked so often must almost never fail.

**Tolerance**, unless the policy says otherwise: a twentieth of the way to perfection and at least half a point (an accuracy of .90 may be
.895, a ROC AUC of .80 may be .79); of losses a twentieth, at least .005 of the log loss, .0025 of the Brier score, .02 of the calibration
error; of a regression's bias a tenth of the RMSE.

**Tails.** Accuracy, precision, recall, specificity and F1 are shares of counted rows: the binomial tail counts where it is larger than the
normal one. The calibration error has a noncentral chi-square. All others are normal, with the sides of the two intervals that look at each other; a
window's error is never taken to be smaller than the reference's would be with as few rows. The reference's own doubt is always in.

**Too little.** 100 labelled rows are needed, 30 in the denominator of a ratio and of each of two classes for a metric of both, 10 of every
class for a mean over three or more. Below that the finding is `insufficient_data` and says what is missing. A reference with fewer than 100
labelled rows makes it `not_configured`.

**Severity.** `critical` for accuracy, balanced accuracy, log loss, ROC AUC, F1, MAE and RMSE; `warning` for the others and for every
estimate. `smallest_visible` is the value from which on 80 % of such windows would be found, by a normal approximation.

**Assumed**: rows are independent, and the labelled ones stand for all. The second is looked at by a finding of its own (`selective`).
"""


def drawn(
    cells: BinaryCells, rows: int, times: int, random: np.random.Generator, error: float | None
) -> NDArray[np.int64]:
    chance = None if error is None else cells.with_error(error)
    counts: NDArray[np.int64] = cells.draw(random, rows, times, chance)
    return counts


def judged(cells: BinaryCells, known: PerformanceProfile, counts: NDArray[np.int64]) -> dict[str, Finding]:
    return {f.subject: f for f in judge_performance(cells.layout, known, cells.profile(counts), POLICY)}


def healthy(random: np.random.Generator) -> Iterator[str]:
    times = HEALTHY * REFERENCES
    yield "## Healthy models\n"
    yield (
        f"A binary model with 256 scores, {REFERENCES} references of {KNOWN:,} rows each, {HEALTHY} windows each. `drift`, `warning`: windows with at"
        f" least one. The least q of each window is counted at two levels that so many windows can show; the level in use, {LEVEL:g}, is beyond"
        " what can be counted.\n"
    )
    yield "| model | labels a window | windows | drift | warning | least q <= .01 | least q <= .001 |\n|---|---|---|---|---|---|---|"
    for name, cells in MODELS.items():
        for rows in ROWS:
            drift, warning, least = 0, 0, []
            for _ in range(REFERENCES):
                known = cells.profile(drawn(cells, KNOWN, 1, random, None)[0])
                for counts in drawn(cells, rows, HEALTHY, random, None):
                    found = judged(cells, known, counts).values()
                    states = {f.state for f in found}
                    drift, warning = drift + (State.DRIFT in states), warning + (State.WARNING in states)
                    least.append(min((f.q_value for f in found if f.q_value is not None), default=1.0))
            share = " | ".join(f"{100 * np.mean(np.array(least) <= level):.2f} %" for level in (0.01, 0.001))
            yield f"| {name} | {rows:,} | {times:,} | {drift} | {warning} | {share} |"
    yield ""


def power(random: np.random.Generator) -> Iterator[str]:
    cells = MODELS["errs in 10 %"]
    known = cells.profile(cells.expected(KNOWN))
    yield "## A model that becomes worse\n"
    yield (
        f"The first of these models, a reference of {KNOWN:,} rows, {FOUND} windows a line. Its errors rise from .10 (.105 is tolerated) to the rate"
        " below, in proportion at every score: so confident decisions turn wrong too, which the log loss sees first.\n"
    )
    yield "| labels a window | error rate | drift in accuracy | drift in any metric | smallest visible accuracy |\n|---|---|---|---|---|"
    for rows in ROWS[1:]:
        for error in ERRORS:
            found = [judged(cells, known, counts) for counts in drawn(cells, rows, FOUND, random, error)]
            own = np.mean([f["accuracy"].state is State.DRIFT for f in found])
            some = np.mean([any(one.state is State.DRIFT for one in f.values()) for f in found])
            seen = np.mean([f["accuracy"].smallest_visible or np.nan for f in found])
            yield f"| {rows:,} | {error:.3f} | {100 * own:.0f} % | {100 * some:.0f} % | {seen:.3f} |"
    yield ""


def main() -> None:
    random = np.random.default_rng(SEED)
    lines = [HEAD, *healthy(random), *power(random)]
    (ROOT / "docs" / "statistics" / "performance.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
