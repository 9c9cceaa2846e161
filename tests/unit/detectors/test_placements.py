from __future__ import annotations

import numpy as np
import pytest

from detectors.metrics.counts import multiclass_counts
from detectors.performance.layout import performance_layout
from detectors.performance.placements import placements
from parts.scored_rows import predicted, profile_of


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(rng, rows, classes):
    scores = softmax(rng.normal(size=(rows, classes)) * 1.5 - 0.3 * np.arange(classes))
    return scores, np.minimum((scores.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1), classes - 1)


def together(scores, label):
    """Variance of the sum of the classes' areas over the sum of their variances, from ranks."""
    influence = np.zeros(scores.shape)
    for k in range(scores.shape[1]):
        own = label == k
        positive, negative = np.sort(scores[own, k]), np.sort(scores[~own, k])
        below = np.searchsorted(negative, scores[own, k]) / len(negative)
        above = 1 - np.searchsorted(positive, scores[~own, k]) / len(positive)
        influence[own, k] = (below - below.mean()) / own.mean()
        influence[~own, k] = (above - above.mean()) / (1 - own.mean())
    return (influence.sum(axis=1) ** 2).sum() / (influence**2).sum()


@pytest.mark.parametrize("classes", [3, 10])
def test_placements_are_the_shares_below_and_above_where_scores_mean_what_they_say(classes):
    rng = np.random.default_rng(classes)
    scores, label = drawn(rng, 100_000, classes)
    layout = performance_layout(task="multiclass", classes=tuple("abcdefghij"[:classes]), scores=scores[:20_000])
    table, half_a_bin = placements(layout), 0.1  # of what a bin may hold of the rarest class
    for k in range(classes):
        own = label == k
        bins = np.searchsorted(layout.score_bins[k].edges, scores[:, k], side="right")
        below = np.searchsorted(np.sort(scores[~own, k]), scores[own, k]) / (~own).sum()
        above = 1 - np.searchsorted(np.sort(scores[own, k]), scores[~own, k]) / own.sum()
        assert np.abs(table.own[k, bins[own]] - below).max() < half_a_bin
        assert np.abs(table.other[k, bins[~own]] * table.scale * (1 - own.mean()) - above).max() < half_a_bin
    assert (table.own[:, -1] == 0).all()
    assert table.other.max(axis=1).sum() <= 1 + 1e-12


@pytest.mark.parametrize("classes", [3, 5, 10])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_areas_move_together_as_the_ranks_say(classes, power):
    """Scores to a power are under- or overconfident, for which the foretold placements are wrong."""
    rng = np.random.default_rng(classes)
    scores, label = drawn(rng, 40_000, classes)
    scores = softmax(power * np.log(scores))
    layout = performance_layout(task="multiclass", classes=tuple("abcdefghij"[:classes]), scores=scores[:20_000])
    found = multiclass_counts(layout, profile_of(layout, predicted(40_000, scores=scores), label=label).vector).together
    assert found == pytest.approx(together(scores, label), rel=0.01 if power == 1.0 else 0.06)


def test_weights_count_squared_and_rows_without_all_scores_not_at_all():
    rng = np.random.default_rng(1)
    scores, label = drawn(rng, 3000, 3)
    layout = performance_layout(task="multiclass", classes=tuple("abc"), scores=scores)

    def found(scores, label, weight=None):
        rows = predicted(len(label), scores=scores, weight=weight)
        return multiclass_counts(layout, profile_of(layout, rows, label=label).vector).together

    plain = found(scores, label)
    assert found(scores, label, np.full(3000, 8.0)) == pytest.approx(plain, rel=1e-9)
    assert found(scores, label, rng.choice([0.5, 4.0], 3000)) == pytest.approx(plain, rel=0.05)
    partly = scores.copy()
    partly[:, 2] = np.nan
    assert found(partly, label) is None
