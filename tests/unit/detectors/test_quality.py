from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.columns import ABSENT, INVALID, CategoryColumn, NumericColumn, Status
from detectors.drift import quality
from detectors.finding import Severity, State
from detectors.judge import Policy, judge_quality
from detectors.profile import empty, fold
from detectors.reference.build import ReferenceSettings, ReferenceTable, build_reference

ROWS = 20_000


def numbers(rng, n, nulls=0.0):
    values = rng.standard_normal(n)
    values[rng.random(n) < nulls] = np.nan
    return NumericColumn(values)


def words(rng, n):
    return CategoryColumn(rng.choice(np.array(["DE", "FR", "IT"], dtype=object), n).tolist())


def known(seed=1):
    rng = np.random.default_rng(seed)
    features = {
        "x": numbers(rng, ROWS),
        "holes": numbers(rng, ROWS, 0.2),
        "country": words(rng, ROWS),
        "one": NumericColumn(np.ones(ROWS)),
    }
    return build_reference(
        ReferenceTable(rows=ROWS, features=features), ReferenceSettings(task="unlabelled", order="time")
    )


REFERENCE = known()


def judge(n=5000, seed=2, **change):
    rng = np.random.default_rng(seed)
    columns = {
        "x": numbers(rng, n),
        "holes": numbers(rng, n, 0.2),
        "country": words(rng, n),
        "one": NumericColumn(np.ones(n)),
    } | change
    counts = fold(REFERENCE.layout, [columns[subject.name] for subject in REFERENCE.layout.subjects])
    return {(finding.subject, finding.check): finding for finding in judge_quality(REFERENCE, counts, Policy())}


def nulls(n, share, seed=3):
    values = np.random.default_rng(seed).standard_normal(n)
    values[: round(n * share)] = np.nan
    return NumericColumn(values)


def test_a_healthy_window_is_ok_in_all_checks_of_all_subjects():
    found = judge()
    assert len(found) == 16
    assert {finding.state for finding in found.values()} == {State.OK}
    assert {check for _, check in found} == {"missing", "absent", "invalid", "out_of_range", "unseen"}


@pytest.mark.parametrize(("n", "share"), [(5000, 0.01), (200, 0.05), (50, 0.2), (1000, 0.03)])
def test_new_nulls_are_found(n, share):
    finding = judge(n, x=nulls(n, share))["x", "missing"]
    assert (finding.state, finding.severity, finding.unit) == (State.DRIFT, Severity.WARNING, "share")
    assert finding.value == pytest.approx(share)
    assert finding.interval[0] < share < finding.interval[1]
    assert finding.baseline == 0.0 < finding.threshold < share


def test_more_than_a_fifth_of_the_rows_is_critical():
    assert judge(x=nulls(5000, 0.19))["x", "missing"].severity is Severity.WARNING
    assert judge(x=nulls(5000, 0.21))["x", "missing"].severity is Severity.CRITICAL
    assert judge(holes=nulls(5000, 0.35))["holes", "missing"].severity is Severity.WARNING, (
        "15 points above the reference"
    )


def test_usual_nulls_may_wander_a_little_and_must_not_double():
    assert judge(holes=nulls(5000, 0.21))["holes", "missing"].state is State.OK
    assert judge(50_000, holes=nulls(50_000, 0.22))["holes", "missing"].state is State.OK
    assert judge(holes=nulls(5000, 0.3))["holes", "missing"].state is State.DRIFT


def test_fewer_nulls_are_no_fault():
    assert judge(holes=nulls(5000, 0.0))["holes", "missing"].state is State.OK


def test_each_fault_is_found_under_its_own_name():
    n = 1000
    rng = np.random.default_rng(4)
    status = np.zeros(n, np.uint8)
    status[:100], status[100:200] = Status.ABSENT, Status.INVALID
    x = NumericColumn(np.where(status > 0, np.nan, rng.standard_normal(n)), status)
    country = CategoryColumn(["XX"] * 100 + [ABSENT] * 100 + [INVALID] * 100 + [None] * 100 + ["DE"] * 600)
    holes = NumericColumn(np.where(np.arange(n) < 100, 1e6, rng.standard_normal(n)))
    one = NumericColumn(np.where(np.arange(n) < 100, 2.0, 1.0))
    found = judge(n, x=x, country=country, holes=holes, one=one)
    drifting = {name for name, finding in found.items() if finding.state is State.DRIFT}
    assert drifting == {
        ("x", "absent"), ("x", "invalid"), ("country", "unseen"), ("country", "absent"), ("country", "invalid"),
        ("country", "missing"), ("holes", "out_of_range"), ("one", "out_of_range"),
    }  # fmt: skip
    assert [found[name].value for name in drifting] == pytest.approx([0.1] * 8, abs=0.0011)


def test_one_outlier_is_no_fault():
    rng = np.random.default_rng(5)
    for n in (50, 200, 1000):
        values = rng.standard_normal(n)
        values[0] = 1e9
        assert judge(n, x=NumericColumn(values))["x", "out_of_range"].state is State.OK


def test_below_fifty_rows_nothing_is_judged():
    found = judge(49, x=nulls(49, 1.0))
    assert {finding.state for finding in found.values()} == {State.INSUFFICIENT_DATA}
    assert judge(50, x=nulls(50, 1.0))["x", "missing"].severity is Severity.CRITICAL


def test_no_rows_no_findings():
    assert judge_quality(REFERENCE, empty(REFERENCE.layout), Policy()) == []


def test_p_values_are_binomial_tails_at_the_tolerated_share():
    finding = judge(1000, x=nulls(1000, 0.02))["x", "missing"]
    upper = 1 - 0.001 ** (1 / ROWS)  # the 99.9 % upper bound of a share of which none was seen
    assert finding.p_value == pytest.approx(stats.binom.sf(19, 1000, upper + 0.0025), rel=1e-6)
    q = stats.false_discovery_control([f.p_value for f in judge(1000, x=nulls(1000, 0.02)).values()])
    assert finding.q_value == pytest.approx(q.min(), rel=1e-9)


def test_intervals_are_wilsons():
    finding = judge(1000, x=nulls(1000, 0.02))["x", "missing"]
    expected = stats.binomtest(20, 1000).proportion_ci(0.95, "wilson")
    assert finding.interval == pytest.approx((expected.low, expected.high), rel=1e-6)


@pytest.mark.parametrize("n", [200, 1000, 5000, 50_000])
def test_the_smallest_visible_share_is_found_in_at_least_four_of_five_windows(n):
    finding = judge(n)["x", "missing"]
    tolerated = 1 - 0.001 ** (1 / ROWS) + 0.0025
    critical = stats.binom.isf(quality.LEVEL / 16, n, tolerated) + 1
    power = stats.binom.sf(critical - 1, n, finding.smallest_visible)
    assert power > 0.78
    assert finding.smallest_visible >= finding.threshold


@pytest.mark.parametrize("n", [50, 100, 200, 1000, 5000, 50_000])
def test_fifty_features_at_their_usual_share_fail_in_fewer_than_one_of_fifty_thousand_windows(n):
    """All of them at the worst usual share, and a reference that by bad luck (1.5 standard errors) holds too few of them."""
    m = 30_000
    usual = np.array([3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 0.8])
    found = np.maximum(0, np.round(m * usual - 1.5 * np.sqrt(m * usual * (1 - usual)))) / m
    tolerated = quality.tolerated_share(found, np.full(len(usual), float(m)))
    by_evidence = stats.binom.isf(quality.LEVEL / 204, n, tolerated) + 1
    needed = np.maximum(by_evidence, np.ceil(n * quality.effect_share(found)))
    assert 50 * stats.binom.sf(needed - 1, n, usual).max() < 2e-5
