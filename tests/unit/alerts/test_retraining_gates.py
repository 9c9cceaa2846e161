"""Every gate by itself, at its limit, and the order in which they speak."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.retraining import Budget, Facts, Latest, Mode, Reason, RetrainingStatus, decide, may_deliver
from alerts.time_windows import parse_time_window

HOUR, DAY = 3_600_000, 86_400_000
AT = int(datetime.fromisoformat("2026-11-25T10:00:00+00:00").timestamp() * 1000)  # a Wednesday
OPEN = Facts(
    mode=Mode.AUTO, monitor="data", at_ms=AT, now_ms=AT + HOUR, page_max_age_ms=6 * HOUR, data_fault_active=False
)
WEEKLY = Budget(requests=3, per_ms=7 * DAY)
WEDNESDAY, THURSDAY = parse_time_window("wed"), parse_time_window("thu")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"paused": True}, Reason.PAUSED),
        ({"budgets": (WEEKLY,), "spent_ms": (AT - 3 * DAY, AT - 2 * DAY, AT - 7 * DAY + 1)}, Reason.BUDGET),
        ({"budgets": (WEEKLY,), "spent_ms": (AT, AT, AT + DAY)}, Reason.BUDGET),
        ({"budgets": (WEEKLY, Budget(requests=1, per_ms=DAY)), "spent_ms": (AT - 1,)}, Reason.BUDGET),
        ({"fleet_budgets": (WEEKLY,), "fleet_spent_ms": (AT, AT, AT)}, Reason.FLEET_BUDGET),
        ({"fleet_limit": 2, "fleet_active": 2}, Reason.FLEET_BUSY),
        ({"fleet_limit": 0}, Reason.FLEET_BUSY),
        ({"fleet_limit": 1, "fleet_active": 1, "budgets": (WEEKLY,), "fleet_budgets": (WEEKLY,)}, Reason.FLEET_BUSY),
        ({"freeze": (THURSDAY, WEDNESDAY)}, Reason.FROZEN),
        ({"min_new_labels": 100, "new_labels": 99}, Reason.TOO_FEW_LABELS),
        ({"min_new_labels": 1, "new_labels": None}, Reason.TOO_FEW_LABELS),
    ],
)
@pytest.mark.parametrize("mode", [Mode.PROPOSE, Mode.AUTO])
def test_each_gate_closes_by_itself_and_says_why(changes, reason, mode) -> None:
    decision = decide(replace(OPEN, **{"mode": mode, **changes}))
    assert (decision.create, decision.deliver, decision.reason) == (False, False, reason)
    assert decision.text.endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {"budgets": (WEEKLY,), "spent_ms": (AT - 3 * DAY, AT - 2 * DAY, AT - 7 * DAY)},
        {"budgets": (WEEKLY,), "spent_ms": (AT, AT), "fleet_spent_ms": (AT, AT, AT, AT)},
        {"fleet_limit": 2, "fleet_active": 1},
        {"fleet_limit": None, "fleet_active": 99},
        {"freeze": (THURSDAY,)},
        {"min_new_labels": 100, "new_labels": 100},
        {"min_new_labels": 0, "new_labels": None},
        {"unhelpful": 1},
    ],
)
def test_gates_open_exactly_at_their_limit(changes) -> None:
    decision = decide(replace(OPEN, **changes))
    assert (decision.create, decision.deliver, decision.reason) == (True, True, Reason.AUTOMATIC)


def test_freeze_is_of_the_clock_and_not_of_the_window() -> None:
    thursday = replace(OPEN, now_ms=AT + 14 * HOUR, page_max_age_ms=DAY)
    assert decide(replace(thursday, freeze=(WEDNESDAY,))).create
    assert decide(replace(thursday, freeze=(THURSDAY,))).reason is Reason.FROZEN


def test_the_text_says_until_when() -> None:
    budget = decide(replace(OPEN, budgets=(WEEKLY,), spent_ms=(AT - 5 * DAY, AT - 2 * DAY, AT - DAY)))
    assert budget.text == "The model's budget of retrainings is spent until 2026-11-27T10:00:00.000Z."
    both = decide(
        replace(OPEN, budgets=(Budget(requests=1, per_ms=DAY), Budget(requests=1, per_ms=2 * DAY)), spent_ms=(AT,))
    )
    assert both.text == "The model's budget of retrainings is spent until 2026-11-27T10:00:00.000Z."
    assert decide(replace(OPEN, freeze=(WEDNESDAY,))).text == "Frozen: wed."
    assert "an unknown number" in decide(replace(OPEN, min_new_labels=5)).text


def test_when_the_last_ones_did_not_help_a_person_decides() -> None:
    decision = decide(replace(OPEN, unhelpful=2))
    assert (decision.create, decision.deliver, decision.reason) == (True, False, Reason.DID_NOT_HELP)
    assert decide(replace(OPEN, unhelpful=2, patience=3)).deliver
    assert decide(replace(OPEN, unhelpful=9, mode=Mode.PROPOSE)).reason is Reason.PROPOSED


SHUT = [
    ({"mode": Mode.OFF}, Reason.MODE_OFF),
    ({"paused": True}, Reason.PAUSED),
    ({"monitor": "quality"}, Reason.CAUSE_IS_DATA_FAULT),
    ({"data_fault_active": True}, Reason.DATA_FAULT_ACTIVE),
    ({"page_max_age_ms": 1}, Reason.WINDOW_TOO_OLD),
    ({"latest": Latest(status=RetrainingStatus.RUNNING, at_ms=AT)}, Reason.REQUEST_ACTIVE),
    ({"latest": Latest(status=RetrainingStatus.SUCCEEDED, at_ms=AT)}, Reason.COOLDOWN),
    ({"budgets": (Budget(requests=1, per_ms=DAY),), "spent_ms": (AT,)}, Reason.BUDGET),
    ({"fleet_budgets": (Budget(requests=1, per_ms=DAY),), "fleet_spent_ms": (AT,)}, Reason.FLEET_BUDGET),
    ({"fleet_limit": 1, "fleet_active": 1}, Reason.FLEET_BUSY),
    ({"freeze": (WEDNESDAY,)}, Reason.FROZEN),
    ({"min_new_labels": 1}, Reason.TOO_FEW_LABELS),
]


@pytest.mark.parametrize("first", range(len(SHUT)))
def test_of_two_shut_gates_the_first_speaks(first) -> None:
    for second in range(first + 1, len(SHUT)):
        if (first, second) == (5, 6):
            continue  # both are about the newest request, and there is one
        decision = decide(replace(OPEN, **{**SHUT[second][0], **SHUT[first][0]}))
        assert decision.reason is SHUT[first][1], SHUT[second]
        assert not decision.create


def test_every_reason_to_refuse_has_its_case_here() -> None:
    assert {reason for _, reason in SHUT} == set(Reason) - {Reason.PROPOSED, Reason.AUTOMATIC, Reason.DID_NOT_HELP}
    assert {name for changes, _ in SHUT for name in changes} <= {f.name for f in fields(Facts)}


def test_what_a_person_approved_is_held_by_the_kill_switch_a_fault_and_a_freeze_only() -> None:
    held = {reason for changes, reason in SHUT if not may_deliver(replace(OPEN, **changes)).deliver}
    assert held == {
        Reason.MODE_OFF, Reason.PAUSED, Reason.CAUSE_IS_DATA_FAULT, Reason.DATA_FAULT_ACTIVE, Reason.FROZEN,
    }  # fmt: skip
    assert may_deliver(OPEN).deliver


@settings(deadline=None)
@given(st.lists(st.integers(0, 60 * DAY), min_size=1, max_size=60).map(sorted), st.integers(1, 4), st.integers(1, 20))
def test_no_span_ever_holds_more_requests_than_its_budget(causes, requests, days) -> None:
    budget, made = Budget(requests=requests, per_ms=days * DAY), []
    for at in causes:
        facts = replace(OPEN, at_ms=at, now_ms=at, budgets=(budget,), spent_ms=made, cooldown_ms=0)
        if decide(facts).create:
            made.append(at)
        else:
            free = budget.free_again_ms(made, at)
            assert free is not None
            assert at < free
            assert decide(replace(facts, at_ms=free, now_ms=free)).create
    assert all(sum(at - budget.per_ms < other <= at for other in made) <= requests for at in made)


@pytest.mark.parametrize("kind", [{"requests": 0, "per_ms": 1}, {"requests": 1, "per_ms": 0}])
def test_a_budget_that_cannot_be_is_refused(kind) -> None:
    with pytest.raises(ValueError):
        Budget(**kind)
