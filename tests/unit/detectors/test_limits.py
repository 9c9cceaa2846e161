from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.finding import Finding, Severity, State
from detectors.limits import Limit, Target, judge_limits, limit_of, parse_limit
from detectors.sentences import sentence


def metric(value, interval=None, *, source="realised", state=State.OK, subject="accuracy", **detail):
    return Finding(
        subject=subject, check=source, state=state, value=value, interval=interval, unit="share", rows=500,
        detail={"source": source, **detail},
    )  # fmt: skip


def only(limit, *findings):
    found = judge_limits([limit], findings)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("accuracy", Target(subject="accuracy")),
        ("income.missing", Target(subject="income", check="missing")),
        ("user.age.out_of_range", Target(subject="user.age", check="out_of_range")),
        ("income.drift", Target(subject="income", check="distribution")),
        ("a.psi.psi", Target(subject="a.psi", check="distribution", figure="psi")),
    ],
)
def test_a_name_says_what_it_limits(name, target):
    assert parse_limit(name) == target


@pytest.mark.parametrize("name", ["", ".", ".missing", "income.", "income.mising", "income.value"])
def test_what_is_no_limit_is_refused_with_the_words_that_are(name):
    with pytest.raises(ValueError, match="out_of_range"):
        parse_limit(name)


@pytest.mark.parametrize("bounds", [{}, {"min": float("nan")}, {"max": float("inf")}, {"min": 2.0, "max": 1.0}])
def test_bounds_must_be_numbers_in_order(bounds):
    with pytest.raises(ValueError, match="accuracy"):
        limit_of("accuracy", **bounds)


@pytest.mark.parametrize(
    ("value", "interval", "on", "state"),
    [
        (0.85, (0.82, 0.88), "interval", State.DRIFT),
        (0.88, (0.85, 0.91), "interval", State.WARNING),
        (0.88, (0.85, 0.90), "interval", State.WARNING),  # an interval that touches the limit does not lie beyond it
        (0.88, None, "interval", State.WARNING),
        (0.92, (0.85, 0.95), "interval", State.OK),
        (0.90, (0.85, 0.95), "value", State.OK),  # the limit itself is allowed
        (0.88, (0.85, 0.91), "value", State.DRIFT),
        (0.88, None, "value", State.DRIFT),
    ],
)
def test_a_minimum_fires_when_the_interval_lies_wholly_below_it(value, interval, on, state):
    found = only(limit_of("accuracy", min=0.9, severity=Severity.CRITICAL, on=on), metric(value, interval))
    assert found.state is state
    assert found.severity is (Severity.CRITICAL if state is State.DRIFT else None)
    assert (found.check, found.subject, found.threshold, found.baseline) == ("limit", "accuracy", 0.9, None)
    assert ("reason" in found.detail) == (state is State.WARNING)


NUMBERS = st.floats(-5, 5, allow_nan=False)


@given(NUMBERS, st.floats(0, 3), st.floats(0, 3), NUMBERS, NUMBERS)
def test_both_bounds_hold_by_their_definition(value, below, above, a, b):
    low, high = min(a, b), max(a, b)
    found = only(limit_of("bias", min=low, max=high), metric(value, (value - below, value + above), subject="bias"))
    assert (found.state is State.OK) == (low <= value <= high)
    assert (found.state is State.DRIFT) == (value + above < low or value - below > high)
    assert found.threshold == (low if value < low else high if value > high else found.threshold)


def test_a_share_of_a_feature_and_its_drift_are_limited_by_their_own_checks():
    missing = Finding(
        subject="income", check="missing", state=State.OK, value=0.2, interval=(0.18, 0.22), unit="share", rows=900
    )
    invalid = Finding(
        subject="income", check="invalid", state=State.OK, value=0.0, interval=(0.0, 0.01), unit="share", rows=900
    )
    drift = Finding(
        subject="income", check="distribution", state=State.OK, value=0.1, interval=(0.0, 0.2), unit="sd", rows=900,
        detail={"psi": 0.02, "ks": 0.06},
    )  # fmt: skip
    limits = [
        limit_of("income.missing", max=0.05),
        limit_of("income.invalid", max=0.05),
        limit_of("income.drift", max=0.3),
    ]
    found = judge_limits(limits, [invalid, drift, missing])
    assert [(one.subject, one.value, one.state) for one in found] == [
        ("income.missing", 0.2, State.DRIFT),
        ("income.invalid", 0.0, State.OK),
        ("income.drift", 0.1, State.OK),
    ]


def test_a_distance_fires_only_when_it_is_more_than_noise():
    def drift(sd, low, high, psi):
        return Finding(
            subject="x", check="distribution", state=State.DRIFT, value=sd, interval=(low, high), unit="sd", rows=300,
            detail={"psi": psi, "js": 0.2, "ks": None},
        )  # fmt: skip

    sure, noisy = drift(0.6, 0.5, 0.7, 0.4), drift(0.2, 0.1, 0.4, 0.25)
    assert only(limit_of("x.psi", max=0.2), sure).state is State.DRIFT
    assert only(limit_of("x.psi", max=0.2), sure).interval == pytest.approx((0.25, 0.49))
    assert (
        only(limit_of("x.psi", max=0.2), noisy).state is State.WARNING
    )  # of the .25 most is what 300 rows always show
    assert only(limit_of("x.psi", max=0.2, on="value"), noisy).state is State.DRIFT
    assert only(limit_of("x.ks", max=0.2), sure).state is State.INSUFFICIENT_DATA  # no KS of categories


@pytest.mark.parametrize("state", [State.INSUFFICIENT_DATA, State.NO_DATA, State.NOT_CONFIGURED, State.ERROR])
@pytest.mark.parametrize("value", [None, 0.1])
def test_a_figure_that_could_not_be_had_carries_its_state_over(state, value):
    found = only(limit_of("accuracy", min=0.9), metric(value, state=state, reason="3 rows, 200 are needed"))
    assert (found.state, found.severity, found.detail["reason"]) == (state, None, "3 rows, 200 are needed")


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_an_ok_finding_without_a_value_is_not_ok_for_a_limit(bad):
    assert only(limit_of("accuracy", min=0.9), metric(bad)).state is State.INSUFFICIENT_DATA


def test_what_the_findings_say_nothing_of_is_left_out():
    feature = Finding(subject="accuracy", check="distribution", state=State.DRIFT, value=3.0, unit="sd")
    earlier = Finding(subject="accuracy", check="limit", state=State.DRIFT, value=0.1)
    assert judge_limits([limit_of("accuracy", min=0.9), limit_of("b.missing", max=0.1)], [feature, earlier]) == []


def test_an_estimate_never_overrules_a_realised_figure():
    realised, estimated = metric(0.95, (0.94, 0.96)), metric(0.5, (0.4, 0.6), source="estimated")
    for pair in ((realised, estimated), (estimated, realised)):
        found = only(limit_of("accuracy", min=0.9, on="value"), *pair)
        assert (found.state, found.detail["source"]) == (State.OK, "realised")


@pytest.mark.parametrize(
    ("on", "validity"), list(product(("interval", "value"), (None, "ok", "the scores have moved out of their range")))
)
def test_an_estimate_is_a_warning_at_most_unless_the_value_alone_is_asked(on, validity):
    few = metric(None, state=State.INSUFFICIENT_DATA, reason="few labels")
    detail = {} if validity is None else {"validity": validity}
    found = only(limit_of("accuracy", min=0.9, on=on), few, metric(0.5, (0.4, 0.6), source="estimated", **detail))
    fires = on == "value" and validity in (None, "ok")
    assert found.state is (State.DRIFT if fires else State.WARNING)
    assert found.detail["source"] == "estimated"
    assert "estimated" in sentence(found)


def test_a_sentence_names_the_limit():
    critical = limit_of("accuracy", min=0.9, severity=Severity.CRITICAL)
    assert sentence(only(critical, metric(0.85, (0.82, 0.88)))) == (
        "accuracy is 0.85 (95 % interval 0.82 to 0.88), below its limit of 0.9 (500 rows)."
    )
    assert sentence(only(critical, metric(0.95, (0.94, 0.96)))).endswith("within its limit, at least 0.9 (500 rows).")


def test_a_limit_may_be_made_by_hand():
    limit = Limit(name="late", subject="labels", check="coverage", min=0.5)
    covered = Finding(subject="labels", check="coverage", state=State.OK, value=0.3, interval=(0.2, 0.4), unit="share")
    assert only(limit, covered).state is State.DRIFT
