"""Does the delay of a label say something about it? Simulated losses with and without such a relation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.performance.delay_bias import EFFECT, LEVEL, delay_tells


def by_delay(rng: np.random.Generator, rows: int, rates: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rows spread over as many delays as there are rates, each with its own error rate."""
    delays = rng.integers(0, len(rates), rows)
    wrong = rng.random(rows) < np.array(rates)[delays]
    return np.bincount(delays, minlength=len(rates)), np.bincount(delays, weights=wrong, minlength=len(rates))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("rows", [200, 5_000, 200_000])
def test_a_delay_that_says_nothing_is_not_accused(rate, rows):
    rng = np.random.default_rng([11, int(rate * 100), rows])
    assert sum(delay_tells(*by_delay(rng, rows, [rate] * 12)) for _ in range(400)) == 0  # LEVEL makes .0004 of them


@pytest.mark.parametrize("rows", [2_000, 50_000])
def test_bad_news_that_comes_first_is_seen(rows):
    rng = np.random.default_rng([12, rows])
    rates = [0.6, 0.4, 0.1, 0.05, 0.05, 0.05]
    assert all(delay_tells(*by_delay(rng, rows, rates)) for _ in range(100))


def test_a_difference_that_nobody_would_mind_is_let_pass_however_sure_it_is():
    rng = np.random.default_rng(13)
    rows, loss = by_delay(rng, 4_000_000, [0.10, 0.11])
    p = stats.chi2_contingency([loss, rows - loss]).pvalue
    assert p < LEVEL
    assert np.std([0.10, 0.11]) < EFFECT[0] + EFFECT[1] * 0.105
    assert not delay_tells(rows, loss)


@pytest.mark.parametrize(
    ("rows", "loss"), [([], []), ([29, 29], [29, 0]), ([5_000], [100]), ([500, 500], [0, 0]), ([500, 500], [500, 500])]
)
def test_where_there_is_nothing_to_compare_nothing_is_said(rows, loss):
    assert not delay_tells(np.array(rows, dtype=np.int64), np.array(loss, dtype=np.float64))
