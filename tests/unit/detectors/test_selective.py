from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.columns import CategoryColumn, NumericColumn
from detectors.finding import Severity, State
from detectors.performance.label_coverage import Covered, coverage, covered_at, delay_quantile, seconds_until
from detectors.performance.layout import codes_of, performance_layout
from detectors.performance.profile import empty, fold_labelled, fold_predicted, merge
from detectors.performance.scored import NO_CLASS, LabelledRows, PredictedRows
from detectors.performance.selective import decided_rows, reweighted, selective_labels
from detectors.policy import Policy
from detectors.sentences import sentence

FEATURES = 6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def world(rng, n, task="binary", scored=True):
    """Layout, predictions and labels of n rows; the score is that of the first feature, and the last two features depend on it."""
    x = rng.standard_normal((n, FEATURES))
    x[:, -2:] += x[:, :1]
    country = rng.choice(np.array(["DE", "FR", "IT"], dtype=object), n)
    score = sigmoid(1.5 * x[:, 0])
    columns = {f"x{i}": NumericColumn(x[:, i]) for i in range(FEATURES)} | {"country": CategoryColumn(country.tolist())}
    layout = LAYOUTS.get(task) or performance_layout(
        task=task,
        classes={"binary": ("stay", "leave"), "multiclass": ("a", "b"), "regression": ()}[task],
        score=score,
        predicted_value=x[:, 0],
        truth=x[:, 0],
        features=columns,
    )
    LAYOUTS[task] = layout
    shown = x[:, 0] if task == "regression" else score
    rows = PredictedRows(
        score=shown if scored else np.full(n, np.nan),
        scores=None,
        decision=(np.full(n, NO_CLASS) if task == "regression" else score >= 0.5).astype(np.uint8),
        weight=np.ones(n),
        codes=np.stack([codes_of(feature, columns[feature.name]) for feature in layout.features], axis=1),
        keys=np.arange(n, dtype=np.uint64),
    )
    outcomes = LabelledRows(
        predicted=rows,
        label=(rng.random(n) < score).astype(np.uint8),
        truth=x[:, 0] + rng.standard_normal(n) * 0.5,
        value=np.full(n, np.nan),
        delay_ms=np.full(n, 60_000, np.int64),
        sign=np.ones(n, np.int8),
    )
    return layout, outcomes, x, score


LAYOUTS: dict = {}


def profile(layout, outcomes, chosen):
    return merge(fold_predicted(layout, outcomes.predicted), fold_labelled(layout, outcomes.part(chosen)))


@pytest.mark.parametrize(("n", "share"), [(1200, 0.5), (5000, 0.2), (20_000, 0.5)])
def test_random_labels_are_never_called_selective(n, share):
    """Eight comparisons a window, the level is that of one drift in more than a hundred. Measured: 0 drifts, 0 warnings in 60 windows of each kind."""
    states = []
    for seed in range(60 if n < 20_000 else 15):
        rng = np.random.default_rng([seed, n])
        layout, outcomes, *_ = world(rng, n)
        states.append(selective_labels(layout, profile(layout, outcomes, rng.random(n) < share)).state)
    assert states.count(State.DRIFT) == 0
    assert states.count(State.WARNING) <= 1


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_labels_for_high_scores_only_are_found(task):
    rng = np.random.default_rng(3)
    layout, outcomes, _, score = world(rng, 3000, task)
    found = selective_labels(layout, profile(layout, outcomes, score > 0.6))
    assert (found.subject, found.check, found.state, found.severity) == (
        "labels",
        "selective",
        State.DRIFT,
        Severity.WARNING,
    )
    assert found.value >= 1.0
    assert found.detail["axis"] in ("score", "prediction", "decision", "x0")
    assert found.detail["labelled"] == (score > 0.6).sum()
    assert found.rows == 3000


@pytest.mark.parametrize("n", [1000, 4000])
def test_a_moderate_choice_by_score_is_found(n):
    found = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, n])
        layout, outcomes, _, score = world(rng, n)
        found += (
            selective_labels(layout, profile(layout, outcomes, rng.random(n) < 0.1 + 0.7 * score)).state is State.DRIFT
        )
    assert found >= 19


def test_a_choice_by_a_feature_that_the_score_ignores_is_found_there_with_its_value():
    rng = np.random.default_rng(4)
    layout, outcomes, x, _ = world(rng, 4000)
    found = selective_labels(layout, profile(layout, outcomes, (x[:, 2] > 1.0) & (rng.random(4000) < 0.9)))
    assert (found.state, found.detail["axis"], found.detail["different"]) == (State.DRIFT, "x2", 1)
    assert found.detail["values"].startswith("x2 ")
    assert found.detail["share_unlabelled"] != found.detail["share_labelled"]
    assert "differ from the others by x2" in sentence(found)


def test_a_choice_too_small_to_matter_is_at_most_a_warning():
    rng = np.random.default_rng(5)
    layout, outcomes, x, _ = world(rng, 60_000)
    found = selective_labels(layout, profile(layout, outcomes, rng.random(60_000) < sigmoid(0.1 * x[:, 0])))
    assert found.state in (State.OK, State.WARNING)
    assert found.value < 0.1414


def test_the_reweighted_loss_is_that_of_all_rows_where_the_choice_was_by_score():
    rng = np.random.default_rng(6)
    layout, outcomes, _, score = world(rng, 30_000)
    everything = profile(layout, outcomes, np.ones(30_000, bool))
    truth = layout.view(everything.vector, "loss")[1] / 2**20 / 30_000
    inside = 0
    for seed in range(40):
        chosen = np.random.default_rng(seed).random(30_000) < np.where(np.abs(score - 0.5) > 0.3, 0.2, 0.03)
        found = selective_labels(layout, profile(layout, outcomes, chosen)).detail
        assert abs(found["loss_labelled"] - truth) > 2 * abs(found["loss_reweighted"] - truth)
        assert found["reweighted_beyond"] < 0.01
        inside += found["reweighted_low"] <= truth <= found["reweighted_high"]
    assert inside >= 34


def test_where_there_are_no_labels_reweighting_says_so():
    rng = np.random.default_rng(7)
    layout, outcomes, _, score = world(rng, 3000)
    window = profile(layout, outcomes, score > 0.6)
    detail = reweighted(layout, window, "score")
    assert detail["reweighted_beyond"] == pytest.approx(np.mean(score <= 0.6), abs=0.01)
    assert "of all rows no label tells how good" in sentence(selective_labels(layout, window))


def test_a_regression_is_reweighted_by_the_feature_that_labels_were_chosen_by():
    rng = np.random.default_rng(8)
    layout, outcomes, x, _ = world(rng, 20_000, "regression")
    edges = layout.features[2].edges
    outer = (x[:, 2] < edges[2]) | (x[:, 2] >= edges[-3])
    wild = np.where(outer, 2.0, 0.3) * rng.standard_normal(20_000)
    outcomes = replace(outcomes, truth=x[:, 0] + wild)
    everything = profile(layout, outcomes, np.ones(20_000, bool))
    truth = layout.view(everything.vector, "loss")[1] / 2**20 / 20_000
    chosen = rng.random(20_000) < np.where(outer, 0.1, 0.5)
    found = selective_labels(layout, profile(layout, outcomes, chosen)).detail
    assert found["axis"] == "x2"
    assert abs(found["loss_reweighted"] - truth) < 0.25 * abs(found["loss_labelled"] - truth)


def test_rows_without_a_decision_are_in_neither_side():
    rng = np.random.default_rng(9)
    layout, outcomes, x, _ = world(rng, 4000)
    undecided = x[:, 3] > 1.2
    decision = np.where(undecided, NO_CLASS, outcomes.predicted.decision).astype(np.uint8)
    outcomes = replace(outcomes, predicted=replace(outcomes.predicted, decision=decision))
    window = profile(layout, outcomes, rng.random(4000) < 0.5)
    predicted, labelled = decided_rows(layout, window.vector)
    assert predicted.sum() == (~undecided).sum()
    assert (labelled <= predicted).all()
    found = selective_labels(layout, window)
    assert (found.state, found.detail["axes"], found.rows) == (State.OK, 1, int((~undecided).sum()))


def test_without_scores_the_decisions_are_compared():
    rng = np.random.default_rng(10)
    layout, outcomes, _, score = world(rng, 3000, scored=False)
    bare = replace(outcomes, predicted=replace(outcomes.predicted, codes=np.zeros((3000, FEATURES + 1), np.uint8)))
    found = selective_labels(layout, profile(layout, bare, rng.random(3000) < np.where(score > 0.5, 0.8, 0.2)))
    assert (found.state, found.detail["axis"]) == (State.DRIFT, "decision")


def test_states_without_a_judgement():
    rng = np.random.default_rng(11)
    layout, outcomes, *_ = world(rng, 1000)
    assert selective_labels(layout, empty(layout)).state is State.NO_DATA
    few = selective_labels(layout, profile(layout, outcomes, np.arange(1000) < 199))
    assert (few.state, few.value, few.detail["coverage"]) == (State.INSUFFICIENT_DATA, None, 0.199)
    assert "200 of each are needed" in sentence(few)
    assert selective_labels(layout, profile(layout, outcomes, np.arange(1000) < 950)).state is State.OK
    assert selective_labels(layout, profile(layout, outcomes, np.arange(1000) < 900)).state is State.INSUFFICIENT_DATA
    lenient = selective_labels(layout, profile(layout, outcomes, np.arange(1000) < 199), Policy(min_rows=100))
    assert lenient.state is not State.INSUFFICIENT_DATA


# label coverage and delay


def covered(rng, windows, n, share, spread):
    shares = np.clip(share + spread * rng.standard_normal(windows), 0, 1)
    return [Covered(rows=n, labelled=float(x)) for x in rng.binomial(n, shares)]


def with_labels(layout, rows, labelled, delay=None):
    vector = np.zeros(layout.size, np.int64)
    vector[:2] = rows, labelled
    if delay is not None:
        layout.view(vector, "delay")[:] = delay
    return replace(empty(layout), vector=vector)


def layout_of():
    return world(np.random.default_rng(0), 500)[0]


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("n", [200, 5000])
def test_coverage_that_varies_as_before_is_no_drop(n, spread):
    """Measured: 0 of 400 in each case."""
    layout, drops = layout_of(), 0
    for seed in range(400):
        rng = np.random.default_rng([seed, n])
        *history, now = covered(rng, 15, n, 0.6, spread)
        drops += coverage(layout, with_labels(layout, now.rows, int(now.labelled)), history).state is State.DRIFT
    assert drops <= 2


def test_a_drop_of_coverage_is_found_and_said():
    rng = np.random.default_rng(12)
    layout = layout_of()
    history = covered(rng, 20, 2000, 0.8, 0.03)
    found = coverage(layout, with_labels(layout, 2000, 900), history)
    assert (found.state, found.severity, found.value) == (State.DRIFT, Severity.WARNING, 0.45)
    assert found.baseline == pytest.approx(0.8, abs=0.03)
    assert found.interval[0] < 0.45 < found.interval[1] < found.baseline
    assert "45 % of 2,000 rows have a label" in sentence(found)
    assert coverage(layout, with_labels(layout, 2000, 1900), history).state is State.OK  # a rise is no matter
    small = coverage(layout, with_labels(layout, 2000, 0), covered(rng, 20, 2000, 0.08, 0.0))
    assert (small.state, "ten points" in small.detail["reason"]) == (State.WARNING, True)


@pytest.mark.parametrize(
    ("rows", "windows", "state"),
    [(0, 9, State.NO_DATA), (49, 9, State.INSUFFICIENT_DATA), (500, 4, State.INSUFFICIENT_DATA), (500, 5, State.OK)],
)
def test_coverage_needs_rows_and_earlier_windows(rows, windows, state):
    layout = layout_of()
    history = [Covered(rows=500, labelled=250.0)] * windows + [Covered(rows=3, labelled=0.0)]
    assert coverage(layout, with_labels(layout, rows, rows // 2), history).state is state


def test_a_window_that_always_had_every_label_and_has_none_is_a_drop():
    layout = layout_of()
    assert coverage(layout, with_labels(layout, 500, 0), [Covered(rows=500, labelled=500.0)] * 6).state is State.DRIFT
    assert coverage(layout, with_labels(layout, 500, 0), [Covered(rows=500, labelled=0.0)] * 6).state is State.OK


def delays(layout, seconds):
    rng = np.random.default_rng(0)
    n = len(seconds)
    rows = world(rng, n)[1]
    return fold_labelled(layout, replace(rows, delay_ms=(np.asarray(seconds) * 1000).astype(np.int64)))


def test_delay_quantiles_are_those_of_the_rows_within_a_bin():
    layout = layout_of()
    seconds = np.random.default_rng(1).lognormal(8, 1.5, 4000)
    delay = layout.view(delays(layout, seconds).vector, "delay").astype(float)
    for share in (0.5, 0.9, 0.99):
        assert delay_quantile(delay, share) == pytest.approx(np.quantile(seconds, share), rel=0.08)
    assert delay_quantile(np.zeros(64), 0.5) is None
    assert delay_quantile(layout.view(delays(layout, np.full(50, -3.0)).vector, "delay").astype(float), 0.9) == 0.0


def test_the_time_until_enough_labels_follows_from_windows_that_have_all_of_theirs():
    layout = layout_of()
    seconds = np.random.default_rng(2).exponential(3600.0, 9900)
    mature = delays(layout, seconds)
    mature.vector[0] = 10_000  # predictions; one in a hundred never gets a label
    found = coverage(layout, with_labels(layout, 1000, 3), [], mature=mature)
    assert found.detail["final_share"] == pytest.approx(0.99)
    assert found.detail["enough_seconds"] == pytest.approx(np.quantile(seconds, 0.95 / 0.99), rel=0.08)
    assert found.detail["delay_p50_seconds"] == pytest.approx(np.median(seconds), rel=0.08)
    mature.vector[0] = 20_000
    assert coverage(layout, with_labels(layout, 1000, 3), [], mature=mature).detail["enough_seconds"] is None
    delay = layout.view(mature.vector, "delay").astype(float)
    assert seconds_until(delay, 0.5, 0.25) == pytest.approx(np.median(seconds), rel=0.08)
    assert seconds_until(delay, 0.0, 0.0) is None


@pytest.mark.parametrize("age", [0.0, 1800.0, 86_400.0])
def test_an_earlier_window_is_read_at_the_age_of_this_one_and_never_overrated(age):
    layout = layout_of()
    rng = np.random.default_rng(3)
    seconds, at = rng.exponential(3600.0, 20_000), rng.uniform(0, 3600, 20_000)
    mature = delays(layout, seconds)
    mature.vector[0] = 25_000
    found = covered_at(layout, mature, age_seconds=age, window_seconds=3600.0)
    assert found.rows == 25_000
    half_octave = 2**0.5  # the resolution of delays: what may have come late in its bin is not counted yet
    assert (at + half_octave * seconds <= 3600 + age).sum() * 0.97 <= found.labelled
    assert found.labelled <= (at + seconds <= 3600 + age).sum() * 1.01


def test_labels_that_are_always_two_hours_late_are_not_missed_before():
    layout = layout_of()
    earlier = delays(layout, np.full(5_000, 7_200.0))
    earlier.vector[0] = 5_000
    young = [covered_at(layout, earlier, age_seconds=3_600.0, window_seconds=3_600.0) for _ in range(10)]
    assert coverage(layout, with_labels(layout, 5_000, 0), young).state is State.OK
