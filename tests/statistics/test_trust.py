"""The promises of docs/statistics/trust.md, on fewer windows: what these seeds gave when the limits were set is in that table.

Limits on counts of false windows are binomial: a rate that just keeps the promise exceeds them in fewer than 1 of 100 runs, a rate
four times as high is caught in most. Seeds are fixed, so a failure is a change of the code, never bad luck.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.drift import resemblance
from detectors.drift.resemblance import Sample
from detectors.finding import Monitor, State
from detectors.judge import Policy, judge_distribution
from parts.traffic import CATEGORIES, NUMBERS, Kind, profile, reference, rows, windows

pytestmark = pytest.mark.statistics

HEALTHY = reference(101)


def shift(by, *names):
    def change(table):
        for name in names:
            table[name] = table[name] + by

    return change


@pytest.mark.parametrize(("n", "count"), [(200, 1000), (1000, 500), (5000, 60), (50_000, 6)])
def test_at_most_two_healthy_windows_in_a_thousand_drift(n, count):
    false = sum(bool(judged.drifting()) for judged in windows(HEALTHY, 102, n=n, count=count))
    assert false <= stats.binom.ppf(0.99, count, 0.002)


def test_dependent_rows_drift_in_at_most_five_of_a_thousand_feature_windows():
    kind = Kind(rho=0.9)
    false = sum(
        len(judged.drifting("data")) for judged in windows(reference(103, kind), 104, n=1000, count=300, kind=kind)
    )
    # Features are independent of each other; false findings of one feature in different windows nearly so.
    assert false <= stats.binom.ppf(0.99, 300 * 50, 0.005)


def test_a_shuffled_reference_of_a_daily_swing_gives_warnings_and_no_drift():
    kind = Kind(rows_per_day=24_000, ordered=False)
    judged = list(windows(reference(105, kind), 106, n=1000, count=96, kind=kind))
    assert not any(window.drifting("data", "prediction") for window in judged)
    assert any(finding.state is State.WARNING for window in judged for finding in window.data)


def test_a_daily_swing_that_the_reference_shows_in_order_is_healthy():
    kind = Kind(rows_per_day=24_000)
    false = sum(
        len(judged.drifting("data")) for judged in windows(reference(105, kind), 106, n=1000, count=96, kind=kind)
    )
    assert false <= stats.binom.ppf(0.99, 96 * 50, 0.005)


def test_a_shift_nobody_minds_is_no_drift_on_any_number_of_rows():
    everywhere = shift(0.05, *NUMBERS[:20])
    assert not any(judged.drifting() for judged in windows(HEALTHY, 107, n=50_000, count=6, change=everywhere))


@pytest.mark.parametrize(("n", "by", "count"), [(200, 0.5, 100), (1000, 0.3, 100), (5000, 0.25, 30)])
def test_one_feature_of_fifty_that_moves_is_found_at_once(n, by, count):
    found = [judged.drifting() for judged in windows(HEALTHY, 108, n=n, count=count, change=shift(by, "n07"))]
    # A median delay of one window is a power above one half; .7 leaves room for bad luck on neither side of it.
    assert sum("n07.distribution" in names for names in found) > 0.7 * count
    assert sum(len(set(names) - {"n07.distribution"}) for names in found) <= 0.05 * count * 2


def test_new_nulls_on_one_row_in_a_hundred_are_found_at_once():
    def change(table):
        table["n03"] = np.where(np.random.default_rng(1).random(len(table["n03"])) < 0.01, np.nan, table["n03"])

    found = [judged.drifting() for judged in windows(HEALTHY, 109, n=5000, count=20, change=change)]
    assert found == [["n03.missing"]] * 20


def test_one_outlier_changes_no_verdict():
    def change(table):
        for name in NUMBERS:
            table[name] = table[name].copy()
            table[name][::1000] = 1e9

    for healthy_change in (None, shift(0.5, "n07")):

        def spoiled(table, first=healthy_change):
            if first is not None:
                first(table)
            change(table)

        plain = windows(HEALTHY, 110, n=1000, count=20, change=healthy_change)
        odd = windows(HEALTHY, 110, n=1000, count=20, change=spoiled)
        assert [judged.drifting() for judged in plain] == [judged.drifting() for judged in odd]


def test_a_spoiled_reference_does_not_hide_a_shift():
    """One value of a billion in the reference blinds tests on equal-width bins; quantile bins do not see it."""

    def one_billion(table):
        table["n07"] = np.append(1e9, table["n07"][1:])

    spoiled, table = reference(101, change=one_billion), rows(np.random.default_rng(1), 1000)
    table["n07"] = table["n07"] + 0.5
    findings = judge_distribution(spoiled, profile(spoiled, table), Policy(), Monitor.DATA)
    assert [finding.subject for finding in findings if finding.state is State.DRIFT] == ["n07"]


@pytest.mark.parametrize(
    ("n", "groups", "by"), [(200, 10, 0.2), (200, 10, 0.5), (1000, 10, 0.3), (5000, 32, 0.1), (5000, 32, 1.0)]
)
def test_the_interval_covers_the_true_effect(n, groups, by):
    rng, m, repeats = np.random.default_rng(111), 30_000, 4000
    cuts = stats.norm.ppf(np.arange(1, groups) / groups)
    p, q = np.full(groups, 1 / groups), np.diff(np.r_[0, stats.norm.cdf(cuts, by), 1])
    truth = np.sqrt(((q - p) * np.log(q / p)).sum())
    everywhere = np.ones((repeats, groups), dtype=bool)
    now = Sample(
        resemblance.smoothed(rng.multinomial(n, q, repeats).astype(float), everywhere), np.full(repeats, float(n))
    )
    before = Sample(
        resemblance.smoothed(rng.multinomial(m, p, repeats).astype(float), everywhere), np.full(repeats, float(m))
    )
    seen = resemblance.compare(now, before, np.ones(repeats), np.full(repeats, groups - 1.0))
    coverage = np.mean((seen.low <= truth) & (truth <= seen.high))
    # Nominal .95. The standard error of 4,000 repeats is .0034; the chi-square law itself is off by less than a point.
    # Above it where little moved: an interval never ends below what noise alone would hide.
    assert 0.935 < coverage < 0.985


@pytest.mark.parametrize("n", [1000, 5000])
def test_the_smallest_visible_shift_is_found_in_four_of_five_windows(n):
    visible = next(iter(windows(HEALTHY, 112, n=n, count=1))).data[5]
    assert visible.subject in NUMBERS[:20]
    count = 150
    changed = windows(HEALTHY, 113, n=n, count=count, change=shift(visible.smallest_visible, visible.subject))
    found = sum(f"{visible.subject}.distribution" in judged.drifting("data") for judged in changed)
    # PSI of a mean shift of d sd is a little less than d**2 on 10 groups (.96 of it), hence some less power than the .8 promised
    # for an effect of this size; and never much less: P(binomial(150, .65) < 85) is below .02.
    assert found >= 85


def test_the_traffic_is_what_it_says():
    table = rows(np.random.default_rng(1), 20_000)
    assert len(table) == 51
    assert 0.6 < np.mean(table["n42"] == 0) < 0.75
    assert len(np.unique(table["n35"])) < 30
    assert set(CATEGORIES) < set(table)
