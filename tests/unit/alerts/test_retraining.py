from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.retraining import (
    LEGAL,
    Facts,
    Latest,
    Mode,
    Reason,
    RetrainingStatus,
    advance,
    decide,
    render_request,
    request_id,
)

HOUR, DAY = 3_600_000, 86_400_000
AT = 1_764_000_000_000
OPEN = Facts(
    mode=Mode.AUTO,
    monitor="data",
    at_ms=AT,
    now_ms=AT + HOUR,
    page_max_age_ms=6 * HOUR,
    data_fault_active=False,
)
ENDED = {s for s in RetrainingStatus if not LEGAL[s]}


def test_with_all_gates_open_auto_delivers_and_propose_waits() -> None:
    auto = decide(OPEN)
    assert (auto.create, auto.deliver, auto.reason) == (True, True, Reason.AUTOMATIC)
    proposed = decide(replace(OPEN, mode=Mode.PROPOSE))
    assert (proposed.create, proposed.deliver, proposed.reason) == (True, False, Reason.PROPOSED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": Mode.OFF}, Reason.MODE_OFF),
        ({"monitor": "quality"}, Reason.CAUSE_IS_DATA_FAULT),
        ({"monitor": "volume"}, Reason.CAUSE_IS_DATA_FAULT),
        ({"data_fault_active": True}, Reason.DATA_FAULT_ACTIVE),
        ({"now_ms": AT + 6 * HOUR + 1}, Reason.WINDOW_TOO_OLD),
        ({"latest": Latest(status=RetrainingStatus.REQUESTED, at_ms=AT - DAY + 1)}, Reason.REQUEST_ACTIVE),
        ({"latest": Latest(status=RetrainingStatus.RUNNING, at_ms=AT + HOUR)}, Reason.REQUEST_ACTIVE),
        ({"latest": Latest(status=RetrainingStatus.SUCCEEDED, at_ms=AT - DAY + 1)}, Reason.COOLDOWN),
        (
            {"latest": Latest(status=RetrainingStatus.DELIVERED, at_ms=AT - DAY), "cooldown_ms": 2 * DAY},
            Reason.COOLDOWN,
        ),
    ],
)
@pytest.mark.parametrize("mode", [Mode.PROPOSE, Mode.AUTO])
def test_each_gate_closes_by_itself_and_says_why(changes, reason, mode) -> None:
    decision = decide(replace(OPEN, **{"mode": mode, **changes}))
    assert (decision.create, decision.deliver, decision.reason) == (False, False, reason)
    assert decision.text


@pytest.mark.parametrize(
    "changes",
    [
        {"now_ms": AT + 6 * HOUR},
        {"latest": Latest(status=RetrainingStatus.SUCCEEDED, at_ms=AT - DAY)},
        {
            "latest": Latest(status=RetrainingStatus.REQUESTED, at_ms=AT - DAY)
        },  # a lost job blocks for a day, not for ever
        {"latest": Latest(status=RetrainingStatus.FAILED, at_ms=AT - 1), "cooldown_ms": 0},
    ],
)
def test_gates_open_exactly_at_their_limit(changes) -> None:
    assert decide(replace(OPEN, **changes)).create


def test_ended_requests_stay_ended_and_every_status_can_be_reached() -> None:
    assert {"succeeded", "failed", "rejected", "timed_out", "cancelled"} == ENDED
    assert set().union(*LEGAL.values()) == set(RetrainingStatus) - {RetrainingStatus.REQUESTED}
    assert set(LEGAL) == set(RetrainingStatus)


@pytest.mark.parametrize("current", RetrainingStatus)
@pytest.mark.parametrize("new", RetrainingStatus)
def test_only_legal_steps_are_taken_and_a_repeated_report_is_none(current, new) -> None:
    if new is current or new in LEGAL[current]:
        assert advance(current, new) is new
    else:
        with pytest.raises(ValueError, match=f"{current} cannot become {new}"):
            advance(current, new)


def test_steps_never_lead_back() -> None:
    order = list(RetrainingStatus)
    assert all(order.index(new) > order.index(old) for old, news in LEGAL.items() for new in news)
    assert LEGAL[RetrainingStatus.REQUESTED] == {"delivered", "failed", "timed_out", "cancelled"}


def test_one_id_per_episode_of_a_cause() -> None:
    assert request_id("m", "f", 1) == request_id("m", "f", 1)
    assert (
        len({request_id("m", "f", 1), request_id("n", "f", 1), request_id("m", "g", 1), request_id("m", "f", 2)}) == 4
    )
    assert len(request_id("m", "f", 1)) == 32


def test_the_body_is_these_exact_bytes() -> None:
    assert render_request(0, {"type": "retraining", "id": "r"}) == (
        b'{"type":"driftline.retraining","timestamp":"1970-01-01T00:00:00.000Z","data":{"type":"retraining","id":"r"}}'
    )
