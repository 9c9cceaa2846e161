from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.concept import e_sr as concept_e_sr
from detectors.concept.baseline import Baseline, baseline_of, clopper_pearson, empirical_bernstein
from detectors.concept.e_sr import ESr, ESrState, log_growth
from detectors.concept.registry import DETECTORS, ArrivalPane, detector

HOUR = 3_600_000
MONDAY = 1_767_571_200_000  # 2026-01-05T00:00Z
BETS = np.geomspace(0.01, 0.9, 12)


def pane(k: int, losses: np.ndarray, hours: int = 1) -> ArrivalPane:
    start = MONDAY + k * hours * HOUR
    return ArrivalPane(
        start_ms=start,
        end_ms=start + hours * HOUR,
        labels=len(losses),
        loss_sum=float(losses.sum()),
        loss_squared=float((losses * losses).sum()),
    )


def errors(k: int, labels: int, wrong: float) -> ArrivalPane:
    start = MONDAY + k * HOUR
    return ArrivalPane(start_ms=start, end_ms=start + HOUR, labels=labels, loss_sum=wrong, loss_squared=wrong)


def reference(rate: float, labels: int = 5000, **options) -> Baseline:
    wrong = round(rate * labels)
    return baseline_of(labels=labels, loss_sum=wrong, loss_squared=wrong, zero_one=True, **options)


def at_threshold(m: float) -> Baseline:
    """A baseline that tolerates a mean loss of exactly m."""
    return Baseline(labels=5000, mean=m, bound=m, tolerance=0.0)


def run(machine: ESr, panes: list[ArrivalPane]):
    state, verdicts = machine.start(), []
    for each in panes:
        state, verdict = machine.step(state, each)
        verdicts.append(verdict)
    return state, verdicts


# --- what is tolerated


@pytest.mark.parametrize(("labels", "wrong"), [(1, 0), (40, 0), (40, 40), (200, 3), (5000, 1000), (15_000, 1700)])
def test_the_bound_of_an_error_rate_is_clopper_and_pearsons(labels, wrong):
    exact = stats.binomtest(wrong, labels, alternative="less").proportion_ci(0.95, method="exact").high
    assert clopper_pearson(labels, wrong) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    "draw", [lambda r, n: r.beta(2, 30, n), lambda r, n: r.random(n) < 0.02, lambda r, n: r.random(n) ** 6]
)
def test_the_bound_of_a_general_loss_covers_at_least_as_often_as_promised(draw):
    rng = np.random.default_rng(3)
    truth = float(np.mean(draw(rng, 4_000_000)))
    bounds = [
        empirical_bernstein(300, float(x.sum()), float((x * x).sum())) for x in (draw(rng, 300) for _ in range(500))
    ]
    # 95 % of 500 less four standard errors
    assert np.mean(np.array(bounds) >= truth) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 500)
    assert np.median(bounds) < 1.0


def test_the_tolerance_is_5_percent_and_2_from_15000_labels_on():
    assert reference(0.2, 14_999).tolerance == 0.05
    assert reference(0.2, 15_000).tolerance == 0.02
    assert reference(0.2, 15_000, tolerance=0.1).threshold(0, HOUR) == pytest.approx(
        1.1 * clopper_pearson(15_000, 3000)
    )
    assert reference(0.2, 4999).thin
    assert not reference(0.2, 5000).thin


@given(st.integers(-400, 400), st.integers(1, 30 * 168))
def test_the_factor_of_a_pane_is_the_mean_over_its_quarter_hours(start, length):
    factors = (0.5 + np.random.default_rng(1).random(168)).tolist()
    base = replace(at_threshold(0.1), factors=tuple(factors))
    quarter = HOUR // 4
    begins, ends = MONDAY + start * quarter, MONDAY + (start + length) * quarter
    # from Monday 00:00 UTC, counted without the code's own arithmetic
    hours = [factors[((start + i) * quarter // HOUR) % 168] for i in range(length)]
    assert base.threshold(begins, ends) == pytest.approx(0.1 * float(np.mean(hours)), rel=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": 0, "loss_sum": 0.0},
        {"labels": 5, "loss_sum": 6.0},
        {"labels": 5, "loss_sum": float("nan")},
        {"tolerance": -0.1},
        {"factors": [1.0] * 167},
        {"factors": [1.0] * 167 + [0.0]},
    ],
)
def test_an_impossible_reference_is_refused(wrong):
    with pytest.raises(ValueError):
        baseline_of(**{"labels": 100, "loss_sum": 20.0, "loss_squared": 20.0, "zero_one": True, **wrong})


# --- the bets


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_no_bet_is_credited_with_more_than_it_won(losses, m):
    x = np.array(losses)
    true = np.log1p(np.outer(BETS, x / m - 1.0)).sum(axis=1)
    # a part in 1e9 of the largest term for rounding
    slack = 1e-9 * (1.0 + len(x) * (1.0 + (x / m).max() ** 2))
    assert (log_growth(len(x), float(x.sum()), float((x * x).sum()), m) <= true + slack).all()


@given(st.integers(1, 500), st.data(), st.floats(0.001, 0.999))
def test_for_errors_a_bet_is_credited_with_exactly_what_it_won(labels, data, m):
    wrong = data.draw(st.integers(0, labels))
    x = np.repeat([1.0, 0.0], [wrong, labels - wrong])
    true = np.log1p(np.outer(BETS, x / m - 1.0)).sum(axis=1)
    assert log_growth(labels, wrong, wrong, m) == pytest.approx(true, rel=1e-9, abs=1e-9)


def test_a_loss_that_hardly_varies_is_told_apart_far_sooner_than_its_mean_alone_would_allow():
    x = np.full(200, 0.03)
    assert log_growth(200, 6.0, float((x * x).sum()), 0.02).max() > 10 * log_growth(200, 6.0, 6.0, 0.02).max() > 0


# --- the promise


def run_length(machine: ESr, draw, most: int) -> int:
    state = machine.start()
    for k in range(most):
        state, verdict = machine.step(state, pane(k, draw()))
        if verdict.opened:
            return k + 1
    return most  # counted as an alarm: the mean run length is understated, which is the safe side


@pytest.mark.statistics
@pytest.mark.parametrize("kind", ["errors", "small losses", "dependent losses"])
def test_on_the_worst_tolerated_stream_false_alarms_are_no_more_frequent_than_promised(kind):
    rng = np.random.default_rng(17)
    before = {"mean": 0.2}

    def draw():
        if kind == "errors":
            return (rng.random(50) < 0.2).astype(float)
        if kind == "small losses":
            return 0.4 * rng.beta(5, 5, 50)  # mean .2
        # mean .2 whatever came before, but the worse the last pane was, the wilder this one
        wild = before["mean"] > 0.2
        x = (rng.random(50) < 0.2).astype(float) if wild else 0.4 * (rng.random(50) < 0.5)
        before["mean"] = float(x.mean())
        return x

    hours = 40
    machine = ESr(baseline=at_threshold(0.2), guarantee_days=hours / 24)
    lengths = [run_length(machine, draw, most=12 * hours) for _ in range(120)]
    # about exponential, so the standard error of the mean is mean / sqrt(120); lengths are cut at 12 times the promise
    assert np.mean(lengths) * (1 - 3 / math.sqrt(120)) >= hours


@pytest.mark.statistics
def test_a_healthy_model_is_left_alone_for_its_90_days():
    rng = np.random.default_rng(23)
    alarms = 0
    for _ in range(4):
        rate = rng.beta(1000 + 1, 4000)  # what a true rate may be where the reference shows .20
        drawn = rng.binomial(100, rate, 24 * 90)
        _, verdicts = run(ESr(baseline=reference(0.2)), [errors(k, 100, float(e)) for k, e in enumerate(drawn)])
        alarms += sum(v.opened for v in verdicts)
    # at most 4 on average on the boundary of the tolerance, where these are far from
    assert alarms == 0


def test_segments_share_one_budget():
    base = at_threshold(0.2)
    one, ten = ESr(baseline=base), ESr(baseline=base, segments=10)
    stream = [errors(k, 100, 26.0) for k in range(200)]
    first = [next(i for i, v in enumerate(run(machine, stream)[1]) if v.opened) for machine in (one, ten)]
    assert first[1] > first[0]
    alone = next(i for i, v in enumerate(run(ESr(baseline=base, guarantee_days=900.0), stream)[1]) if v.opened)
    assert alone == first[1]


@pytest.mark.statistics
def test_an_improvement_never_alarms():
    rng = np.random.default_rng(5)
    for rate in (0.0, 0.05, 0.15):
        drawn = [*rng.binomial(500, 0.2, 50), *rng.binomial(500, rate, 300)]
        _, verdicts = run(
            ESr(baseline=reference(0.2), guarantee_days=2.0), [errors(k, 500, float(e)) for k, e in enumerate(drawn)]
        )
        assert not any(v.drifting or v.opened for v in verdicts)


# --- power, onset, recovery


@pytest.mark.statistics
@pytest.mark.parametrize(
    ("before", "after", "target", "noise"), [(0.20, 0.30, 400, 0), (0.20, 0.25, 1200, 250), (0.05, 0.10, 400, 50)]
)
def test_the_median_delay_in_batches_of_100_reaches_its_target(before, after, target, noise):
    """5,000 reference labels, 5 % tolerance, one false alarm in 10,000 labels, a change after 10,000.

    Medians of 800 to 1,500 runs were 300, 1,300 and 400; `noise`: about two standard errors of the median of these 80.
    """
    rng = np.random.default_rng(7)
    delays = []
    for _ in range(80):
        wrong = rng.binomial(5000, before)
        base = baseline_of(labels=5000, loss_sum=wrong, loss_squared=wrong, zero_one=True)
        machine = ESr(baseline=base, guarantee_days=100 / 24)  # 100 batches of an hour
        drawn = [*rng.binomial(100, before, 100), *rng.binomial(100, after, 60)]
        _, verdicts = run(machine, [errors(k, 100, float(e)) for k, e in enumerate(drawn)])
        alarm = next((k for k, v in enumerate(verdicts) if v.opened and k >= 100), None)
        delays.append(math.inf if alarm is None else (alarm - 99) * 100)
    assert np.median(delays) <= target + noise


def stream(rng, *parts: tuple[float, int], labels: int = 200) -> list[ArrivalPane]:
    rates = [rate for rate, count in parts for _ in range(count)]
    return [errors(k, labels, float(rng.binomial(labels, rate))) for k, rate in enumerate(rates)]


@pytest.mark.statistics
@pytest.mark.parametrize("seed", range(8))
def test_an_episode_lasts_as_long_as_the_trouble(seed):
    rng = np.random.default_rng(seed)
    _, verdicts = run(ESr(baseline=reference(0.2)), stream(rng, (0.2, 30), (0.4, 40), (0.2, 60)))
    opened = [k for k, v in enumerate(verdicts) if v.opened]
    closed = [k for k, v in enumerate(verdicts) if v.closed]
    assert len(opened) == len(closed) == 1
    assert 30 <= opened[0] <= 34
    # three panes hold the 500 labels that tell: in a good draw one of the bad panes may be among them, a bad draw takes a few more
    assert 71 <= closed[0] <= 76
    assert [v.drifting for v in verdicts] == [opened[0] <= k < closed[0] for k in range(130)]
    onset = (verdicts[opened[0]].onset_ms - MONDAY) // HOUR
    assert 28 <= onset <= opened[0]
    assert verdicts[closed[0]].onset_ms == verdicts[opened[0]].onset_ms


def test_after_closing_the_detector_starts_anew():
    machine = ESr(baseline=reference(0.2))
    panes = [errors(k, 1000, 900.0) for k in range(3)] + [errors(3, 1000, 150.0)]
    state, verdicts = run(machine, panes)
    assert [v.drifting for v in verdicts] == [True, True, True, False]
    assert verdicts[3].closed
    assert verdicts[3].episode.labels == 4000
    assert state == ESrState()


def test_a_loss_back_to_just_about_the_tolerated_closes_but_not_a_small_drift():
    machine = ESr(baseline=at_threshold(0.2), guarantee_days=1.0)
    _, verdicts = run(machine, [errors(0, 1000, 900.0), errors(1, 1000, 210.0)])
    assert verdicts[1].closed
    _, verdicts = run(machine, [errors(k, 1000, 230.0) for k in range(60)] + [errors(60, 1000, 210.0)])
    assert any(v.opened for v in verdicts)
    assert verdicts[-1].drifting


def test_a_few_labels_that_are_all_right_close_an_episode_by_their_evidence():
    machine = ESr(baseline=at_threshold(0.5), guarantee_days=1.0)
    state, verdict = machine.step(machine.start(), errors(0, 200, 180.0))
    assert verdict.opened
    closed = []
    for k in range(1, 20):
        state, verdict = machine.step(state, errors(k, 20, 1.0))
        closed.append(verdict.closed)
        if verdict.closed:
            break
    assert closed[-1]
    assert len(closed) * 20 < 200


def test_still_bad_is_never_taken_for_recovered():
    rng = np.random.default_rng(11)
    _, verdicts = run(ESr(baseline=at_threshold(0.2), guarantee_days=10.0), stream(rng, (0.3, 500), labels=500))
    assert sum(v.opened for v in verdicts) == 1
    assert not any(v.closed for v in verdicts)


def test_a_season_inside_the_baseline_is_no_drift():
    rng = np.random.default_rng(13)
    factors = [1.0 + 0.5 * math.sin(2 * math.pi * (hour % 24) / 24) for hour in range(168)]
    drawn = [float(rng.binomial(400, 0.1 * factors[k % 168])) for k in range(24 * 28)]
    panes = [errors(k, 400, e) for k, e in enumerate(drawn)]
    assert any(v.opened for v in run(ESr(baseline=reference(0.1)), panes)[1])
    assert not any(v.opened for v in run(ESr(baseline=reference(0.1, factors=factors)), panes)[1])


# --- state


def test_a_pane_without_labels_changes_nothing():
    machine = ESr(baseline=reference(0.2))
    panes = [errors(0, 300, 90.0), errors(1, 300, 200.0), errors(2, 0, 0.0)]
    state, verdicts = run(machine, panes[:2])
    after, verdict = machine.step(state, panes[2])
    assert after == state
    assert verdict.drifting
    assert not verdict.opened
    assert verdict.value is None
    assert verdict.onset_ms == verdicts[1].onset_ms
    quiet, verdict = machine.step(machine.start(), panes[2])
    assert quiet == machine.start()
    assert not verdict.drifting
    assert verdict.evidence is None


def test_nothing_overflows():
    machine = ESr(baseline=at_threshold(0.001))
    state, verdicts = run(machine, [errors(k, 10**7, 1e7) for k in range(300)])
    assert all(v.evidence is None or math.isfinite(v.evidence) for v in verdicts)
    assert machine.decode(machine.encode(state)) == state
    state, verdicts = run(machine, [errors(k, 10**9, 0.0) for k in range(300)])
    assert not any(v.drifting for v in verdicts)
    assert machine.decode(machine.encode(state)) == state


@pytest.mark.parametrize("m", [1.0, 1.7])
def test_what_cannot_be_exceeded_never_alarms(m):
    _, verdicts = run(ESr(baseline=at_threshold(m)), [errors(k, 100, 100.0) for k in range(100)])
    assert not any(v.drifting for v in verdicts)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), max_size=40))
def test_going_on_from_a_written_state_gives_the_same(parts):
    machine = ESr(baseline=reference(0.3), guarantee_days=0.5)
    panes = [errors(k, labels, float(round(labels * share))) for k, (labels, share) in enumerate(parts)]
    plain, through = machine.start(), machine.start()
    for each in panes:
        plain, expected = machine.step(plain, each)
        through, verdict = machine.step(machine.decode(machine.encode(through)), each)
        assert verdict == expected
        assert machine.encode(through) == machine.encode(plain)
        assert machine.decode(machine.encode(plain)) == plain


def test_damaged_states_are_refused():
    machine = ESr(baseline=reference(0.2))
    state, _ = run(machine, [errors(0, 300, 90.0), errors(1, 1000, 900.0), errors(2, 300, 200.0)])
    text = machine.encode(state)
    damaged = [text[:cut] for cut in range(0, len(text), 7)]
    damaged += [text.replace("e_sr", "adwin"), text.replace('"version":1', '"version":2'), "[]", "null", "{}"]
    damaged += [text.replace('"evidence":["', '"evidence":["x'), text.replace('"since_ms":[', '"since_ms":[1,')]
    for each in damaged:
        with pytest.raises(ValueError):
            machine.decode(each)


def test_impossible_panes_and_options_are_refused():
    for labels, loss, squared in ((-1, 0.0, 0.0), (3, 4.0, 4.0), (3, -1.0, 0.0), (3, 1.0, 2.0), (3, math.nan, 0.0)):
        with pytest.raises(ValueError):
            ArrivalPane(start_ms=0, end_ms=1, labels=labels, loss_sum=loss, loss_squared=squared)
    with pytest.raises(ValueError):
        ArrivalPane(start_ms=1, end_ms=1, labels=0, loss_sum=0.0, loss_squared=0.0)
    for options in ({"guarantee_days": 0.0}, {"segments": 0}, {"guarantee_days": math.inf}):
        with pytest.raises(ValueError):
            ESr(baseline=reference(0.2), **options)


def test_detectors_are_made_by_name():
    base = reference(0.2)
    assert list(DETECTORS) == ["e_sr", "adwin", "ddm", "page_hinkley"]
    assert detector("e_sr", base, {"guarantee_days": 30.0}) == ESr(baseline=base, guarantee_days=30.0)
    for name in DETECTORS:
        assert detector(name, base).name == name
    with pytest.raises(ValueError, match="eddm"):
        detector("eddm", base)
    with pytest.raises(ValueError, match="delta"):
        detector("e_sr", base, {"delta": 0.1})
    assert concept_e_sr.GUARANTEE_DAYS == 90.0
