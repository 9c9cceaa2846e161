from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from detectors.metrics.registry import METRICS, metrics
from detectors.performance.layout import performance_layout
from parts.scored_rows import BinaryCells, predicted, profile_of

CELLS = {
    "even": BinaryCells(),
    "a fifth": BinaryCells(mean=-2.0, sd=1.8, overconfident=0.25),
    "sure": BinaryCells(mean=1.0, sd=4.0, overconfident=0.1),
    "far too sure": BinaryCells(mean=-2.0, sd=4.9, overconfident=0.5),
    "not sure enough": BinaryCells(mean=-2.0, sd=1.8, overconfident=-0.3),
}


def agrees(hits, times):
    """That the true coverage is between 93 and 97 %, as far as so many windows can tell (one in 1,000 would be thrown out by chance)."""
    return binom.ppf(0.0005, times, 0.93) <= hits <= binom.ppf(0.9995, times, 0.97)


def covered(found, truth, name):
    return sum(f[name].low <= truth[name] <= f[name].high for f in found)


@pytest.mark.parametrize("n", [500, 5000])
@pytest.mark.parametrize("kind", list(CELLS))
def test_binary_intervals_hold_the_truth_in_95_of_100_windows(kind, n):
    cells, times = CELLS[kind], 800
    truth = {name: m.value for name, m in metrics(cells.layout, cells.profile(cells.expected())).items()}
    truth["ece"] = truth["ece"] if truth["ece"] > 1e-4 else 0.0  # rounding of the expected counts
    found = [metrics(cells.layout, cells.profile(c)) for c in cells.draw(np.random.default_rng(n), n, times)]
    hits = {name: covered(found, truth, name) for name in METRICS["binary"]}
    assert {name: hit / times for name, hit in hits.items() if not agrees(hit, times)} == {}


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_intervals_of_rare_positives_do_not_break_down(share):
    """10 to 25 positives in a window."""
    cells, times = BinaryCells(mean=np.log(share) - 1.0, sd=1.5, threshold=0.15), 800
    truth = {name: m.value for name, m in metrics(cells.layout, cells.profile(cells.expected())).items()}
    found = [metrics(cells.layout, cells.profile(c)) for c in cells.draw(np.random.default_rng(1), 500, times)]
    whole = [f for f in found if all(f[name].low is not None for name in METRICS["binary"])]
    assert len(whole) > 0.98 * times
    low = {name: covered(whole, truth, name) / len(whole) for name in METRICS["binary"]}
    assert {name: share for name, share in low.items() if share < 0.9} == {}


@pytest.mark.parametrize(("n", "times"), [(500, 400), (5000, 120)])
@pytest.mark.parametrize(("classes", "skew"), [(3, 0.0), (3, 1.0), (5, 0.3), (10, 0.1)])
def test_multiclass_intervals_hold_the_truth_in_95_of_100_windows(classes, skew, n, times):
    rng = np.random.default_rng(classes)

    def draw(rows):
        z = rng.normal(size=(rows, classes)) * 1.5 - skew * np.arange(classes)
        scores = np.exp(z)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores, np.minimum((scores.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1), classes - 1)

    layout = performance_layout(task="multiclass", classes=tuple("abcdefghij"[:classes]), scores=draw(20_000)[0])

    def measure(rows):
        scores, y = draw(rows)
        return metrics(
            layout, profile_of(layout, predicted(rows, scores=scores, decision=scores.argmax(axis=1)), label=y)
        )

    truth = {name: m.value for name, m in measure(200_000).items()}
    found = [measure(n) for _ in range(times)]
    hits = {name: covered(found, truth, name) for name in METRICS["multiclass"]}
    assert {name: hit / times for name, hit in hits.items() if not agrees(hit, times)} == {}


@pytest.mark.parametrize(("n", "times"), [(500, 400), (5000, 200)])
@pytest.mark.parametrize("errors", ["normal", "laplace", "in proportion"])
def test_regression_intervals_hold_the_truth_in_95_of_100_windows(errors, n, times):
    rng = np.random.default_rng(len(errors))

    def draw(rows):
        truth = rng.gamma(4.0, 10.0, rows)
        noise = {
            "normal": lambda: rng.normal(0.5, 5.0, rows),
            "laplace": lambda: rng.laplace(0.0, 5.0, rows),
            "in proportion": lambda: truth * rng.normal(0.0, 0.2, rows),
        }[errors]()
        return truth, truth + noise

    truth, value = draw(1_000_000)
    e = value - truth
    exact = {
        "mae": np.abs(e).mean(), "rmse": np.sqrt((e * e).mean()), "mape": np.abs(e / truth).mean(), "bias": e.mean(),
        "smape": (2 * np.abs(e) / (np.abs(truth) + np.abs(value))).mean(), "wape": np.abs(e).sum() / truth.sum(),
        "r2": 1 - (e * e).mean() / truth.var(),
    }  # fmt: skip
    layout = performance_layout(task="regression", predicted_value=value[:20_000], truth=truth[:20_000])
    found = []
    for _ in range(times):
        truth, value = draw(n)
        found.append(metrics(layout, profile_of(layout, predicted(n, score=value), truth=truth)))
    hits = {name: covered(found, exact, name) for name in METRICS["regression"]}
    assert {name: hit / times for name, hit in hits.items() if not agrees(hit, times)} == {}


def test_weights_widen_intervals_as_much_as_they_spread_the_metric():
    rng = np.random.default_rng(4)
    layout = performance_layout(task="binary", classes=("no", "yes"), score=rng.random(20_000))
    found = []
    for _ in range(400):
        score = rng.random(1_000)
        w = rng.choice([0.5, 1.0, 8.0], 1_000)
        y = rng.random(1_000) < score
        found.append(
            metrics(layout, profile_of(layout, predicted(1_000, score=score, decision=score > 0.5, weight=w), label=y))
        )
    for name, exact in (("accuracy", 0.75), ("brier", 1 / 6), ("roc_auc", 5 / 6), ("f1", 0.75), ("mcc", 0.5)):
        assert agrees(covered(found, {name: exact}, name), 400), name
    assert found[0]["accuracy"].effective_rows < 600


def test_effective_rows_are_rows_without_weights():
    cells = CELLS["even"]
    found = metrics(cells.layout, cells.profile(cells.draw(np.random.default_rng(1), 700, 1)[0]))
    assert {m.effective_rows == pytest.approx(m.rows) for m in found.values()} == {True}
