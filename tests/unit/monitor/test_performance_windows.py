"""The findings of one window of performance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.finding import Finding, Severity, State
from detectors.limits import limit_of
from detectors.metrics.registry import METRICS
from detectors.performance.judge import PerformancePolicy
from detectors.performance.profile import PerformanceProfile
from monitor.closing.ledger import Ledger, estimator_of
from monitor.closing.performance_windows import Judge, Moment, Rules
from parts.judged_windows import EU, US, Rows, drawn, known, window

RULES = Rules(policy=PerformancePolicy())
YOUNG = Moment(age_seconds=0.0, window_seconds=3600.0, final=False)
FINAL = replace(YOUNG, final=True)


def judged(
    profile: PerformanceProfile,
    *,
    moment: Moment = FINAL,
    segment: str = "",
    ledger: Ledger | None = None,
    hard_us: float = 0.0,
    rules: Rules = RULES,
) -> dict[tuple[str, str], Finding]:
    of = known(hard_us)
    judge = Judge(known=of, estimator=estimator_of(of), ledger=ledger or Ledger(), rules=rules)
    findings = judge.findings(profile, segment, moment)
    named = {(f.check, f.subject): f for f in findings}
    assert len(named) == len(findings), "one finding for a check and subject"
    return named


def part(rows: Rows, where: np.ndarray) -> Rows:
    return Rows(x=rows.x[where], region=rows.region[where], score=rows.score[where], truth=rows.truth[where])


def test_every_metric_is_there_realised_and_estimated_and_two_findings_on_labels() -> None:
    found = judged(window(known(), drawn(600)))
    assert [subject for check, subject in found if check == "realised"] == list(METRICS["binary"])
    assert {subject for check, subject in found if check == "estimated"} == set(METRICS["binary"]) - {"ece"}
    assert ("coverage", "labels") in found
    assert ("selective", "labels") in found
    assert found["realised", "accuracy"].value == pytest.approx(drawn(600).right.mean())
    assert {f.state for f in found.values()} <= {State.OK, State.INSUFFICIENT_DATA}


def test_every_loss_says_why_and_nothing_else_does() -> None:
    found = judged(window(known(), drawn(600, wrong=0.3)))
    lost = [f for f in found.values() if f.check == "realised" and f.state is State.DRIFT]
    assert len(lost) > 5
    assert {f.detail["cause"] for f in lost} == {"concept_change"}
    assert all(f.detail["rise"] > 0.1 for f in lost)
    assert not any("cause" in f.detail for f in found.values() if f.state is not State.DRIFT)


def chosen() -> tuple[Rows, np.ndarray]:
    """Labels for those the model is sure of, a third of them turned."""
    rows = drawn(900)
    labelled = np.abs(rows.score - 0.5) > 0.25
    return rows.turned(labelled & (np.arange(900) % 3 == 0)), labelled


def test_a_loss_among_a_chosen_few_is_held_back_until_the_window_is_final() -> None:
    rows, labelled = chosen()
    profile = window(known(), rows, labelled=labelled)
    young, final = judged(profile, moment=YOUNG), judged(profile, moment=FINAL)
    assert final["realised", "accuracy"].state is State.DRIFT
    assert final["realised", "accuracy"].severity is Severity.CRITICAL
    held = young["realised", "accuracy"]
    assert (held.state, held.severity) == (State.WARNING, None)
    assert "do not stand for all rows" in str(held.detail["reason"])
    assert not any(f.state is State.DRIFT for f in young.values())
    assert (held.value, held.interval) == (final["realised", "accuracy"].value, final["realised", "accuracy"].interval)


def test_a_loss_among_labels_that_stand_for_all_is_told_at_once() -> None:
    rows = drawn(900, wrong=0.3)
    found = judged(window(known(), rows, labelled=np.arange(900) % 2 == 0), moment=YOUNG)
    assert found["selective", "labels"].state is State.OK
    assert found["realised", "accuracy"].state is State.DRIFT


def test_an_estimate_that_labels_contradict_judges_nothing_and_says_since_when() -> None:
    profile = window(known(), drawn(600), labelled=np.zeros(600, bool))
    trusted = judged(profile)["estimated", "accuracy"]
    assert (trusted.state, trusted.detail["validity"]) == (State.OK, "ok")
    off = judged(profile, ledger=Ledger(contradicted_ms=7))["estimated", "accuracy"]
    assert (off.state, off.severity) == (State.INSUFFICIENT_DATA, None)
    assert (off.detail["validity"], off.detail["contradicted_since_ms"]) == ("contradicted by labels", 7)
    assert off.value == trusted.value, "the figure is shown all the same"


def test_an_estimate_tells_how_far_such_estimates_were_off() -> None:
    profile = window(known(), drawn(600), labelled=np.zeros(600, bool))
    found = judged(profile, ledger=Ledger(errors={"accuracy": (0.01, 0.03)}))
    assert found["estimated", "accuracy"].detail["past_error"] == pytest.approx(0.02)
    assert found["estimated", "f1"].detail["past_error"] is None
    assert judged(profile)["estimated", "accuracy"].detail["past_error"] is None


def test_estimates_can_be_switched_off() -> None:
    found = judged(window(known(), drawn(600)), rules=replace(RULES, estimate=False))
    assert not [check for check, _ in found if check == "estimated"]


def test_limits_read_realised_figures_and_estimates_only_where_there_is_no_other() -> None:
    rules = replace(RULES, limits=(limit_of("accuracy", min=0.95), limit_of("x.missing", max=0.1)))
    rows = drawn(600)
    realised = judged(window(known(), rows), rules=rules)
    assert realised["limit", "accuracy"].state is State.DRIFT
    assert realised["limit", "accuracy"].value == realised["realised", "accuracy"].value
    guessed = judged(window(known(), rows, labelled=np.zeros(600, bool)), rules=rules)
    assert guessed["limit", "accuracy"].state is State.WARNING
    assert guessed["limit", "accuracy"].value == guessed["estimated", "accuracy"].value
    assert ("limit", "x.missing") not in realised


def test_a_limit_on_a_contradicted_estimate_is_not_judged() -> None:
    rules = replace(RULES, limits=(limit_of("accuracy", min=0.95, on="value"),))
    profile = window(known(), drawn(600), labelled=np.zeros(600, bool))
    assert judged(profile, rules=rules)["limit", "accuracy"].state is State.DRIFT
    off = judged(profile, rules=rules, ledger=Ledger(contradicted_ms=7))["limit", "accuracy"]
    assert off.state is State.INSUFFICIENT_DATA


def test_a_segment_is_compared_with_its_own_rows_of_the_reference() -> None:
    rows = drawn(1_500)
    rows = rows.turned((rows.region == "US") & (np.random.default_rng(1).random(1_500) < 0.3))
    us = window(known(), part(rows, rows.region == "US"))
    usual, always_hard = judged(us, segment=US), judged(us, segment=US, hard_us=0.3)
    assert usual["realised", "accuracy"].state is State.DRIFT
    assert usual["realised", "accuracy"].detail["cause"] == "concept_change"
    assert always_hard["realised", "accuracy"].state is State.OK
    eu = window(known(), part(rows, rows.region == "EU"))
    assert judged(eu, segment=EU, hard_us=0.3)["realised", "accuracy"].state is State.OK
    assert {check for check, _ in usual} == {"realised"}


def test_a_segment_that_the_reference_lacks_is_not_configured() -> None:
    (found,) = judged(window(known(), drawn(300)), segment='{"region":"MARS"}').values()
    assert (found.state, found.rows) == (State.NOT_CONFIGURED, 300)


def test_realised_figures_of_a_sample_say_so() -> None:
    found = judged(window(known(), drawn(600)), rules=replace(RULES, sample=0.25))
    assert {f.detail.get("sample") for (check, _), f in found.items() if check == "realised"} == {0.25}
