from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import ADWIN
from river.drift import PageHinkley as RiverPageHinkley
from river.drift.binary import DDM

from detectors.concept.adwin import Adwin
from detectors.concept.baseline import baseline_of
from detectors.concept.ddm import Ddm
from detectors.concept.page_hinkley import PageHinkley
from detectors.concept.registry import ArrivalPane, detector, needs_sequence

HOUR = 3_600_000
BASELINE = baseline_of(labels=5000, loss_sum=1000.0, loss_squared=1000.0, zero_one=True)
NAMES = ["adwin", "ddm", "page_hinkley"]


def river_signals(oracle, losses) -> list[int]:
    found = []
    for index, loss in enumerate(losses):
        oracle.update(loss)
        if oracle.drift_detected:
            found.append(index)
    return found


def own_signals(machine, losses) -> list[int]:
    return [signal.index for signal in machine.signals(machine.start(), losses)[1]]


def stream(seed: int, *, general: bool = False, parts: int = 5, length: int = 12_000) -> list[float]:
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(0.02, 0.6, parts), length // parts)
    if general:
        return np.clip(rng.normal(level, 0.1), 0.0, 1.0).tolist()
    return (rng.random(len(level)) < level).astype(float).tolist()


def pane(k: int, losses) -> ArrivalPane:
    x = np.asarray(losses, dtype=np.float64)
    return ArrivalPane(
        start_ms=k * HOUR,
        end_ms=(k + 1) * HOUR,
        labels=len(x),
        loss_sum=float(x.sum()),
        loss_squared=float((x * x).sum()),
        sequence=x,
    )


def run(machine, panes):
    state, verdicts = machine.start(), []
    for each in panes:
        state, verdict = machine.step(state, each)
        verdicts.append(verdict)
    return state, verdicts


# --- river is the oracle


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "options",
    [{}, {"delta": 0.3}, {"delta": 0.05, "clock": 1, "grace_period": 20}, {"max_buckets": 3, "min_window_length": 20}],
    ids=str,
)
@pytest.mark.parametrize("general", [False, True])
def test_adwin_answers_as_river_does(seed, options, general):
    losses = stream(seed, general=general, length=6000)
    expected = river_signals(ADWIN(**options), losses)
    assert expected
    assert own_signals(Adwin(baseline=BASELINE, **options), losses) == expected


@pytest.mark.parametrize("general", [False, True])
def test_adwins_window_is_rivers_at_every_loss(general):
    losses, oracle, machine = stream(3, general=general, length=3000), ADWIN(), Adwin(baseline=BASELINE)
    state = machine.start()
    for loss in losses:
        oracle.update(loss)
        state, found, _ = machine.signals(state, [loss])
        assert bool(found) is oracle.drift_detected
        if not found:  # river keeps the cut window until the next loss
            assert state.width == oracle.width
            assert state.total == pytest.approx(oracle.total, rel=1e-12, abs=1e-12)
            assert state.deviations / state.width == pytest.approx(oracle.variance / oracle.width, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("options", [{}, {"warm_start": 100, "drift_threshold": 2.0}], ids=str)
def test_ddm_answers_as_river_does(seed, options):
    rng = np.random.default_rng(seed)
    losses = (rng.random(9000) < np.repeat([0.1, 0.3, 0.2, 0.6, 0.05], 1800)).astype(float).tolist()
    expected = river_signals(DDM(**options), losses)
    assert expected
    assert own_signals(Ddm(baseline=BASELINE, **options), losses) == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"threshold": 15.0, "delta": 0.02, "alpha": 1.0, "min_instances": 200}], ids=str
)
def test_page_hinkley_answers_as_river_does(seed, general, options):
    losses = stream(seed, general=general)
    expected = river_signals(RiverPageHinkley(**options), losses)
    assert expected
    assert own_signals(PageHinkley(baseline=BASELINE, **options), losses) == expected


@pytest.mark.parametrize(
    ("machine", "oracle"),
    [(Adwin, ADWIN), (Ddm, DDM), (PageHinkley, RiverPageHinkley)],
)
@pytest.mark.parametrize("kind", ["all right", "all wrong", "then all wrong", "alternating"])
def test_streams_at_the_edge_are_answered_as_river_does(machine, oracle, kind):
    losses = {
        "all right": [0.0] * 3000,
        "all wrong": [1.0] * 3000,
        "then all wrong": [0.0] * 1500 + [1.0] * 1500,
        "alternating": [0.0, 1.0] * 1500,
    }[kind]
    assert own_signals(machine(baseline=BASELINE), losses) == river_signals(oracle(), losses)


@pytest.mark.parametrize("seed", range(4))
def test_a_signal_says_which_way_the_mean_went(seed):
    rng = np.random.default_rng(seed)
    low, high = np.repeat([0.1, 0.5], [4000, 1500]), np.repeat([0.5, 0.1], [4000, 1500])
    up, down = ((rng.random(5500) < rates).astype(float).tolist() for rates in (low, high))
    for machine in (Adwin(baseline=BASELINE), PageHinkley(baseline=BASELINE)):
        for losses, worse in ((up, True), (down, False)):
            # PageHinkley may find a lucky run before the change: what counts is the change itself
            after = [s for s in machine.signals(machine.start(), losses)[1] if s.index >= 4000]
            assert after
            assert after[0].worse is worse
    ddm = Ddm(baseline=BASELINE)
    assert [s for s in ddm.signals(ddm.start(), down)[1] if s.index >= 4000] == []


# --- state


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 900), min_size=1, max_size=12))
def test_written_and_read_between_any_panes_nothing_changes(name, seed, sizes):
    machine = detector(name, BASELINE)
    losses = stream(seed, length=sum(sizes) + 5, parts=3)[: sum(sizes)]
    bounds = np.cumsum([0, *sizes])
    state, whole = machine.start(), []
    for k, (lo, hi) in enumerate(pairwise(bounds.tolist())):
        part = losses[lo:hi]
        _, found, *_ = machine.signals(state, part)
        whole += [int(lo) + signal.index for signal in found]
        after, verdict = machine.step(state, pane(k, part))
        again, same = machine.step(machine.decode(machine.encode(state)), pane(k, part))
        assert again == after
        assert same == verdict
        state = machine.decode(machine.encode(after))
        assert state == after
    assert whole == own_signals(machine, losses)
    assert state.watched == len(losses)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_states_are_refused(name):
    machine = detector(name, BASELINE)
    state, _ = run(machine, [pane(0, stream(1, length=1000)), pane(1, [1.0] * 700)])
    text = machine.encode(state)
    damaged = [text[:cut] for cut in range(0, len(text), max(1, len(text) // 40))]
    damaged += [text.replace(name, "e_sr"), text.replace('"version":1', '"version":0'), "[1]", "null", "{}", "7"]
    damaged += [text.replace('"watched":', '"watched":"x"+'), text.replace("0x", "z", 1)]
    for each in damaged:
        with pytest.raises(ValueError):
            machine.decode(each)


# --- episodes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_a_rise_opens_an_episode_and_the_way_back_closes_it(name, seed):
    rng = np.random.default_rng(seed)
    rates = [0.15] * 10 + [0.6] * 10 + [0.15] * 10
    _, verdicts = run(detector(name, BASELINE), [pane(k, rng.random(300) < rate) for k, rate in enumerate(rates)])
    drifting = [v.drifting for v in verdicts]
    assert all(drifting[12:20])
    assert not any(drifting[26:])
    before = [False, *drifting]
    assert [v.opened for v in verdicts] == [now and not was for was, now in zip(before, drifting, strict=False)]
    assert [v.closed for v in verdicts] == [was and not now for was, now in zip(before, drifting, strict=False)]
    assert all(v.onset_ms == k * HOUR for k, v in enumerate(verdicts) if v.opened)
    if name != "ddm":  # which takes a lucky early minimum for the rule, and alarms on a healthy stream
        assert sum(v.opened for v in verdicts) == 1
        assert not any(drifting[:10])


@pytest.mark.parametrize("name", ["adwin", "page_hinkley"])
def test_an_improvement_opens_an_episode_only_where_it_is_asked_for(name):
    rng = np.random.default_rng(2)
    panes = [pane(k, rng.random(500) < rate) for k, rate in enumerate([0.5] * 8 + [0.1] * 8)]
    _, quiet = run(detector(name, BASELINE), panes)
    assert sum(v.detail["signals"] for v in quiet) > 0
    assert not any(v.drifting for v in quiet[8:])
    _, loud = run(detector(name, BASELINE, {"ignore_improvements": False}), panes)
    assert any(v.opened for v in loud[8:])


@pytest.mark.parametrize("name", NAMES)
def test_panes_without_labels_change_nothing(name):
    machine = detector(name, BASELINE)
    state, _ = run(machine, [pane(0, [0.0] * 300), pane(1, [1.0] * 300)])
    after, verdict = machine.step(state, pane(2, []))
    assert after == state
    assert verdict.drifting
    assert verdict.value is None


@pytest.mark.parametrize("name", NAMES)
def test_losses_out_of_sight_are_an_error_not_a_guess(name):
    sums_only = ArrivalPane(start_ms=0, end_ms=HOUR, labels=5, loss_sum=1.0, loss_squared=1.0)
    machine = detector(name, BASELINE)
    with pytest.raises(ValueError, match="in order"):
        machine.step(machine.start(), sums_only)


def test_only_the_sequence_detectors_need_single_losses():
    assert [needs_sequence([name]) for name in ("e_sr", *NAMES)] == [False, True, True, True]
    assert not needs_sequence([])
    assert needs_sequence(["e_sr", "ddm"])


def test_adwin_refuses_options_that_mean_nothing():
    for options in ({"delta": 0.0}, {"delta": 1.0}, {"clock": 0}, {"min_window_length": 0}, {"grace_period": 1}):
        with pytest.raises(ValueError):
            Adwin(baseline=BASELINE, **options)


def test_evidence_is_a_number_or_unknown():
    rng = np.random.default_rng(4)
    for name in NAMES:
        _, verdicts = run(detector(name, BASELINE), [pane(k, rng.random(200) < 0.2) for k in range(5)])
        assert all(v.evidence is None or math.isfinite(v.evidence) for v in verdicts)
        assert verdicts[-1].evidence is not None
