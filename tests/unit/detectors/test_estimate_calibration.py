"""Isotonic curves and reweightings against scikit-learn's, and against what they must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from detectors.estimate.calibration import blend, calibrate, isotonic, rates, recalibrate
from detectors.estimate.reweighted import PSEUDO_ROWS, effective_rows, rake, reweight, sample_places
from detectors.estimate.types import SCORE_GROUPS, ReferenceSample

GROUP_CELLS = 3 * (SCORE_GROUPS + 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_isotonic_agrees_with_scikit_learn(pairs):
    values, weights = np.array(pairs).T
    wanted = IsotonicRegression().fit_transform(np.arange(len(values)), values, sample_weight=weights)
    found = isotonic(values, weights)
    assert np.allclose(found, wanted, atol=1e-9)
    assert (np.diff(found) >= 0).all()


def test_isotonic_refuses_weights_that_are_not_positive():
    with pytest.raises(ValueError, match="positive weight"):
        isotonic(np.array([0.1, 0.2]), np.array([1.0, 0.0]))


def test_rates_interpolate_unused_cells_and_keep_cells_without_a_score_apart():
    totals, hits = np.zeros((3, 6)), np.zeros((3, 6))
    totals[0, 0], totals[1, 4] = 10, 10
    hits[0, 0], hits[1, 4] = 1, 9
    totals[1, 5], hits[1, 5] = 4, 3
    found = rates("binary", hits, totals)
    assert found[0, :5] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert (found[0, :5] == found[2, :5]).all()
    assert found[1, 5] == pytest.approx(0.75)
    assert found[0, 5] == pytest.approx(0.1)  # of its own decision, which it has no other row of


def test_raking_gives_the_shares_that_were_asked_for():
    random = np.random.default_rng(1)
    a = random.integers(0, 4, 20_000).astype(np.uint8)
    b = ((a + random.integers(0, 3, 20_000)) % 5).astype(np.uint8)
    targets = [np.array([100.0, 4000, 900, 5000, *[0] * 12]), np.array([3000.0, 1000, 2500, 2500, 1000, *[0] * 11])]
    weight = rake([a, b], targets, np.ones(20_000))
    for column, target in zip((a, b), targets, strict=True):
        drawn = (target + PSEUDO_ROWS * np.bincount(column, minlength=16) / 20_000) / (target.sum() + PSEUDO_ROWS)
        assert np.abs(np.bincount(column, weights=weight, minlength=16) - drawn).max() < 2e-3
    assert weight.sum() == pytest.approx(1.0)


def test_raking_finds_a_known_density_ratio():
    random = np.random.default_rng(2)
    codes = random.integers(0, 3, (30_000, 2)).astype(np.uint8)
    true = np.exp(0.8 * (codes[:, 0] == 2) - 0.5 * (codes[:, 1] == 0))
    targets = [np.bincount(column, weights=true, minlength=16) * 5 for column in codes.T]
    found = rake(list(codes.T), targets, np.ones(len(codes)))
    assert np.abs(found / found.mean() / (true / true.mean()) - 1).max() < 0.03


def test_raking_leaves_out_values_that_the_reference_never_had():
    column = np.repeat(np.array([0, 1], np.uint8), 500)
    target = np.array([100.0, 300, 600, *[0] * 13])  # code 2 is new
    weight = rake([column], [target], np.ones(1000))
    assert weight[500:].sum() == pytest.approx(0.75, abs=0.01)


def test_effective_rows_are_the_rows_when_weights_are_equal():
    assert effective_rows(np.full(70, 0.3)) == pytest.approx(70)
    assert effective_rows(np.array([1.0, 0, 0])) == pytest.approx(1)


def test_places_of_a_sample_are_spread_evenly_and_few_for_many_features():
    places = sample_places(200_000, 10)
    assert len(places) == 75_000
    assert np.diff(places).min() >= 2
    assert len(sample_places(200_000, 129)) == 10_000
    assert sample_places(5, 3).tolist() == [0, 1, 2, 3, 4]


def sample_of(size: int = 40_000, effect: float = 1.2, seed: int = 3) -> tuple[ReferenceSample, np.ndarray]:
    """Rows with one feature of two codes, on which P(y | score) depends by `effect` in log odds; the score knows only a hidden part."""
    random = np.random.default_rng(seed)
    code = (random.random(size) < 0.2).astype(np.uint8)
    bins = np.minimum((random.beta(2, 2 + code) * 32).astype(np.int32), 31)
    odds = (bins - 15.5) / 6 - effect * code
    truth = 1 / (1 + np.exp(-odds))
    decision = (bins >= 16).astype(np.int32)
    sample = ReferenceSample(
        codes=code[:, None],
        group=(decision * (SCORE_GROUPS + 1) + bins * SCORE_GROUPS // 32).astype(np.uint8),
        places=(decision * 33 + bins)[:, None].astype(np.int32),
        hits=(random.random(size) < truth).astype(np.uint8)[:, None],
        weight=np.ones(size),
        group_cells=GROUP_CELLS,
    )
    return sample, truth


def test_a_reweighting_learns_what_scores_are_worth_where_the_window_is():
    sample, truth = sample_of()
    plain, _ = calibrate("binary", sample, sample.weight, (3, 33))
    inside = sample.codes[:, 0] == 1
    code_rows = np.zeros((1, 16))
    code_rows[0, 1] = 5000
    group_rows = np.bincount(sample.group[inside], minlength=GROUP_CELLS) * 5000 / inside.sum()
    found = reweight(sample, code_rows, group_rows, plain)
    weighted, _ = recalibrate("binary", sample, found.weight, found.effective_rows, plain)
    cells = sample.places[inside, 0]
    wanted, before, after = truth[inside].mean(), plain.reshape(-1)[cells].mean(), weighted.reshape(-1)[cells].mean()
    assert found.trust > 0.9
    assert abs(after - wanted) < 0.01
    assert abs(before - wanted) > 0.08


def test_a_reweighting_is_not_trusted_when_it_does_not_explain_the_scores():
    sample, _ = sample_of()
    plain, _ = calibrate("binary", sample, sample.weight, (3, 33))
    code_rows = np.zeros((1, 16))
    code_rows[0, :2] = 1000, 4000
    group_rows = np.zeros(GROUP_CELLS)
    group_rows[SCORE_GROUPS + 1 + 14] = 5000  # all scores high, which more of code 1 cannot explain
    assert reweight(sample, code_rows, group_rows, plain).trust == 0.0


def test_a_reweighting_is_shrunk_away_where_features_change_nothing():
    sample, _ = sample_of(effect=0.0)
    plain, _ = calibrate("binary", sample, sample.weight, (3, 33))
    inside = sample.codes[:, 0] == 1
    code_rows = np.zeros((1, 16))
    code_rows[0, 1] = 5000
    group_rows = np.bincount(sample.group[inside], minlength=GROUP_CELLS) * 5000 / inside.sum()
    assert reweight(sample, code_rows, group_rows, plain).trust < 0.5


def test_blending_ends_at_both_calibrations():
    a, b = (np.full(3, 0.2), np.full(3, 0.01)), (np.full(3, 0.4), np.full(3, 0.04))
    assert [x.tolist() for x in blend(a, b, 0.0)] == [x.tolist() for x in a]
    assert np.allclose(blend(a, b, 1.0), b)
    assert np.allclose(blend(a, b, 0.5), (np.full(3, 0.3), np.full(3, 0.0225)))
