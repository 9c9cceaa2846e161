from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.drift import resemblance
from detectors.drift.grouping import psi
from detectors.drift.resemblance import Sample


def shares(counts):
    counts = np.asarray(counts, dtype=np.float64)
    return resemblance.smoothed(counts, counts >= 0)


def compare(window, reference, phi=1.0):
    window, reference = np.atleast_2d(np.asarray(window, float)), np.atleast_2d(np.asarray(reference, float))
    ones = np.ones(len(window))
    now, before = Sample(shares(window), window.sum(axis=1)), Sample(shares(reference), reference.sum(axis=1))
    return resemblance.compare(now, before, phi * ones, (window.shape[1] - 1) * ones)


def test_psi_is_the_textbook_formula_with_half_counts():
    window, reference = [30, 50, 120], [1000, 1500, 2500]
    q = (np.array(window) + 0.5) / 201.5
    p = (np.array(reference) + 0.5) / 5001.5
    assert compare(window, reference).psi[0] == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=1e-12)


def test_psi_agrees_with_the_one_that_measures_the_reference_blocks():
    rng = np.random.default_rng(1)
    window, reference = rng.poisson(40, (7, 10)), rng.poisson(3000, (7, 10))
    assert compare(window, reference).psi == pytest.approx(psi(reference, window), rel=1e-12)


def test_padding_adds_nothing():
    cells = np.array([[True, True, True, False, False]])
    window = Sample(resemblance.smoothed(np.array([[30.0, 50, 120, 0, 0]]), cells), np.array([200.0]))
    reference = Sample(resemblance.smoothed(np.array([[1000.0, 1500, 2500, 0, 0]]), cells), np.array([5000.0]))
    padded = resemblance.compare(window, reference, np.ones(1), np.array([2.0]))
    plain = compare([30, 50, 120], [1000, 1500, 2500])
    for name in ("psi", "js", "effect", "low", "high", "noise"):
        assert getattr(padded, name) == pytest.approx(getattr(plain, name), rel=1e-12)


def test_js_is_scipys_distance():
    from scipy.spatial.distance import jensenshannon

    window, reference = [30, 50, 120], [1000, 1500, 2500]
    expected = jensenshannon(shares([window])[0], shares([reference])[0], base=2)
    assert compare(window, reference).js[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [200, 1_000, 5_000, 50_000, 10_000_000])
def test_p_values_are_those_of_the_non_central_chi_square(n):
    noise, nu, tolerated = 1 / n + 1 / 30_000, 9.0, 0.02
    levels = np.array([0.9, 0.5, 1e-2, 1e-4, 1e-7, 1e-9, 1e-12, 1e-30])
    values = stats.ncx2.isf(levels, nu, tolerated / noise) * noise
    many = np.full(len(values), 1.0)
    p = resemblance.tail(values, noise * many, nu * many, tolerated * many)
    assert p == pytest.approx(stats.ncx2.sf(values / noise, nu, tolerated / noise), rel=1e-6)
    assert p == pytest.approx(levels, rel=1e-4)


def test_the_p_value_of_a_window_far_away_is_tiny_and_never_nil_or_unknown():
    one = np.ones(1)
    p = resemblance.tail(12.0 * one, 5e-5 * one, 31.0 * one, 0.02 * one)
    assert p[0] == 1e-300


def test_benjamini_hochberg_is_scipys():
    rng = np.random.default_rng(2)
    for k in (1, 2, 50, 400):
        p = rng.random(k) ** 3
        assert resemblance.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), rel=1e-12)
    assert len(resemblance.benjamini_hochberg(np.zeros(0))) == 0


def test_effect_of_a_mean_shift_is_that_shift_in_sd():
    cuts = stats.norm.ppf(np.arange(1, 32) / 32)
    moved = np.diff(np.r_[0, stats.norm.cdf(cuts, 0.3), 1])
    seen = compare(moved * 1e6, np.full(32, 1e6 / 32))
    assert seen.effect[0] == pytest.approx(0.3, abs=0.01)
    assert seen.low[0] < seen.effect[0] < seen.high[0]


def test_the_interval_of_a_window_like_the_reference_reaches_from_nothing_to_what_noise_hides():
    seen = compare(np.full(10, 20), np.full(10, 3000))
    assert seen.effect[0] == seen.low[0] == 0.0
    assert 0.1 < seen.high[0] < 0.4


def test_more_dispersion_means_a_wider_interval_and_a_greater_p_value():
    window, reference = [60, 90, 250], [1000, 1500, 2500]
    plain, dispersed = compare(window, reference), compare(window, reference, phi=4.0)
    assert dispersed.low[0] < plain.low[0]
    assert dispersed.high[0] > plain.high[0]
    tolerated, nu = np.full(1, 0.02), np.full(1, 2.0)
    p = [resemblance.tail(seen.psi, seen.noise, nu, tolerated)[0] for seen in (plain, dispersed)]
    assert p[0] < p[1]


@pytest.mark.parametrize(("nu", "n"), [(9, 200), (9, 1_000), (31, 5_000), (31, 50_000)])
@pytest.mark.parametrize("tests", [1, 50])
def test_smallest_visible_has_at_least_the_power_it_promises_by_the_exact_law(nu, n, tests):
    noise, level = 1 / n + 1 / 30_000, 0.05 / tests
    one = np.ones(1)
    visible = resemblance.smallest_visible(noise * one, nu * one, 0.02 * one, level * one)[0]
    critical = stats.ncx2.isf(level, nu, 0.02 / noise)
    power = stats.ncx2.sf(critical, nu, visible**2 / noise)
    assert 0.795 < power < 0.85
    assert visible >= 0.02**0.5
