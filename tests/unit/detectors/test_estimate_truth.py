"""The truth check: an e-process that stays silent on what estimates promise, and speaks at once when scores change their meaning."""

from __future__ import annotations

import json
import math
from functools import lru_cache

import numpy as np
import pytest

from detectors.estimate import truth as estimate_truth
from detectors.estimate.estimate import fit_estimator
from detectors.estimate.truth import ALARM, Cells, TruthState, truth_check, window_evidence
from detectors.performance.profile import fold_predicted
from parts import estimated as cases


@lru_cache(maxsize=1)
def fitted():
    layout, rows = cases.binary_case()
    return layout, fit_estimator(layout, rows)


def watch(layout, estimator, windows, state=None):
    flags = []
    for window in windows:
        state, contradicted = truth_check(state, estimator, layout, cases.profile_of(layout, window))
        flags.append(contradicted)
    return state, flags


def test_healthy_windows_never_contradict_the_estimate_also_when_features_move():
    layout, estimator = fitted()
    calm = [cases.binary_window(layout, 400 + i, size=1000) for i in range(40)]
    moved = [cases.binary_window(layout, 500 + i, size=1000, shift=1.0) for i in range(10)]
    state, flags = watch(layout, estimator, [*calm, *moved])
    assert not any(flags)
    assert state.windows == 50


def test_a_change_of_meaning_is_found_in_two_windows_and_ends_with_it():
    layout, estimator = fitted()
    calm = [cases.binary_window(layout, 400 + i, size=1000) for i in range(5)]
    changed = [cases.binary_window(layout, 600 + i, size=1000, flip=True) for i in range(4)]
    state, flags = watch(layout, estimator, [*calm, *changed])
    assert not any(flags[:5])
    assert flags[6:] == [True] * 3
    assert state.since in (6, 7)
    state, flags = watch(layout, estimator, calm[:3], state)
    assert flags == [True, False, False]
    assert not state.contradicted


def test_a_partial_loss_of_meaning_is_found():
    layout, estimator = fitted()
    windows = []
    for i in range(3):
        window = cases.binary_window(layout, 700 + i, size=2000)
        drawn = np.random.default_rng(i).random(len(window)) < 0.35  # a third of the labels mean nothing any more
        coin = np.random.default_rng(50 + i).integers(0, 2, len(window)).astype(np.uint8)
        windows.append(
            cases.rows_of(
                layout,
                np.zeros((len(window), 2)),
                score=window.predicted.score,
                decision=window.predicted.decision,
                label=np.where(drawn, coin, window.label).astype(np.uint8),
            )
        )
    _, flags = watch(layout, estimator, windows)
    assert flags[-1]


@pytest.mark.parametrize("seed", range(3))
def test_evidence_has_mean_one_at_most_under_its_hypothesis(seed):
    random = np.random.default_rng(seed)
    rates = random.uniform(0.05, 0.95, 12)
    rows = random.integers(5, 60, 12).astype(float)
    worst = np.clip(rates + estimate_truth.TOLERANCE, 0, 1)  # the edge of the tolerance, upwards
    direction = (random.random(12) < 0.5).astype(float)
    direction[0] = 1.0
    values = []
    for _ in range(4000):
        known = Cells(
            rows=rows, hits=random.binomial(rows.astype(int), worst).astype(float), rates=rates, doubt=np.zeros(12)
        )
        values.append(math.exp(estimate_truth._log_e(known, direction, 0.1)))
    assert np.mean(values) == pytest.approx(1.0, abs=4 * np.std(values) / math.sqrt(len(values)))


def test_windows_without_enough_labels_change_nothing():
    layout, estimator = fitted()
    window = cases.binary_window(layout, 1, size=2000, flip=True)
    unlabelled = fold_predicted(layout, window.predicted)
    state = TruthState(log_evidence=1.5, windows=3)
    assert truth_check(state, estimator, layout, unlabelled) == (state, False)
    assert window_evidence(estimator, layout, unlabelled) is None


@pytest.mark.parametrize(
    "state", [TruthState(), TruthState(log_evidence=3.25, contradicted=True, calm=1, windows=9, since=4)]
)
def test_states_survive_json(state):
    assert TruthState.decode(json.loads(json.dumps(state.encode()))) == state


@pytest.mark.parametrize("content", [{}, {"format": 2}, {"format": 1, "log_evidence": "x"}])
def test_other_states_are_refused(content):
    with pytest.raises(ValueError, match=r"state|invalid"):
        TruthState.decode(content)


def test_the_recursion_alarms_at_its_threshold():
    layout, estimator = fitted()
    window = cases.binary_window(layout, 2, size=1500)
    evidence = window_evidence(estimator, layout, cases.profile_of(layout, window))
    before = math.log(ALARM) - evidence  # R + 1 that this window brings just to the threshold
    for step, wanted in ((1e-6, True), (-1e-6, False)):
        start = TruthState(log_evidence=math.log(math.exp(before + step) - 1.0))
        assert truth_check(start, estimator, layout, cases.profile_of(layout, window))[1] is wanted


def test_regression_and_many_classes_are_checked_too():
    layout, rows = cases.regression_case()
    estimator = fit_estimator(layout, rows)
    calm = [cases.regression_rows(layout, *cases.regression_draw(800 + i, 1500)) for i in range(10)]
    state, flags = watch(layout, estimator, calm)
    assert not any(flags)
    x, value, truth = cases.regression_draw(900, 1500)
    worse = cases.regression_rows(layout, x, value, value + 2.0 * (truth - value))
    _, flags = watch(layout, estimator, [worse, worse], state)
    assert flags[-1]

    layout, rows = cases.multiclass_case()
    estimator = fit_estimator(layout, rows)
    draws = [cases.multiclass_draw(800 + i, 1500) for i in range(10)]
    state, flags = watch(layout, estimator, [cases.multiclass_rows(layout, *draw) for draw in draws])
    assert not any(flags)
    x, scores, label = draws[0]
    _, flags = watch(layout, estimator, [cases.multiclass_rows(layout, x, scores, ((label + 1) % 3).astype(np.uint8))])
    assert flags == [True]
