"""Retraining requests in the store, on both databases: the cause stays, and only what may follow follows."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from monitor.store import RetrainingRow, Store
from parts.stores import message, request

CAUSE = "x has moved by 0.8 sd"


def requested(store: Store, **more: object) -> None:
    """A request whose message waits and is leased."""
    fields = {"reason": CAUSE, "detail": json.dumps({"alert": "a1"})} | more
    with store.closing("churn") as tx:
        tx.put_retraining(request("r1", **fields))
        tx.put_outbox(message("r1", kind="retraining", receiver="retraining:airflow"))
    assert [row.id for row in store.lease_outbox(0, "s1", 100, 10)] == ["r1"]


def finish(store: Store, *, again: int | None = None, sent: bool = False, now_ms: int = 7) -> str | None:
    error = None if sent else "HTTP 503"
    return store.finish_outbox("r1", "s1", sent=sent, error=error, next_attempt_at_ms=again, now_ms=now_ms)


def now(store: Store) -> tuple[str, str, dict[str, object]]:
    (row,) = store.retraining()
    return row.status, row.reason, json.loads(row.detail)


def test_a_row_takes_the_place_of_the_one_with_its_id(store: Store) -> None:
    with store.closing("churn") as tx:
        tx.put_retraining(request("r1"))
        tx.put_retraining(request("r2", recorded_at_ms=2))
        tx.put_retraining(request("r2", recorded_at_ms=2, status="cancelled"))
        assert [(r.id, r.status) for r in tx.retraining_rows("churn")] == [("r1", "requested"), ("r2", "cancelled")]
        assert tx.retraining_rows("other") == []


def test_a_delivery_leaves_the_cause_and_is_told_beside_it(store: Store) -> None:
    requested(store)
    assert store.set_retraining_status("r1", "delivered", "the target has it", 3)
    assert now(store) == ("delivered", CAUSE, {"alert": "a1", "delivery": "the target has it"})
    (row,) = store.retraining()
    assert (row.at_ms, row.recorded_at_ms) == (1, 3)


def test_a_repeated_report_is_no_fault(store: Store) -> None:
    requested(store)
    with capture_logs() as logs:
        assert store.set_retraining_status("r1", "delivered", "first", 3)
        assert store.set_retraining_status("r1", "delivered", "again", 4)
    assert logs == []
    assert now(store) == ("delivered", CAUSE, {"alert": "a1", "delivery": "again"})


@pytest.mark.parametrize("standing", ["cancelled", "failed", "running", "succeeded"])
def test_a_change_that_is_not_allowed_is_refused_and_told(store: Store, standing: str) -> None:
    requested(store, status=standing)
    with capture_logs() as logs:
        assert not store.set_retraining_status("r1", "delivered", "the target has it", 3)
    assert now(store) == (standing, CAUSE, {"alert": "a1"})
    assert [(line["log_level"], line["request"]) for line in logs] == [("warning", "r1")]
    assert f"is {standing} cannot become delivered" in logs[0]["error"]


def test_a_request_that_is_not_there_is_told(store: Store) -> None:
    with capture_logs() as logs:
        assert not store.set_retraining_status("r9", "delivered", "the target has it", 3)
    assert [line["request"] for line in logs] == ["r9"]


def test_a_word_that_is_no_status_is_a_bug(store: Store) -> None:
    requested(store)
    with pytest.raises(ValueError, match="deliverd"):
        store.set_retraining_status("r1", "deliverd", "", 3)
    assert now(store)[0] == "requested"


def test_a_failed_attempt_is_told_while_the_request_waits(store: Store) -> None:
    requested(store)
    assert finish(store, again=50) == "pending"
    assert now(store) == ("requested", CAUSE, {"alert": "a1", "delivery": "HTTP 503"})


def test_a_request_fails_with_its_message(store: Store) -> None:
    requested(store)
    assert finish(store) == "failed"
    assert now(store) == ("failed", CAUSE, {"alert": "a1", "delivery": "HTTP 503"})


def test_a_message_whose_next_attempt_would_come_too_late_is_over(store: Store) -> None:
    requested(store)
    assert finish(store, again=10_000) == "expired"
    assert store.outbox_pending() == 0
    assert now(store)[0] == "failed"


def test_a_copy_that_is_refused_does_not_undo_what_had_arrived(store: Store) -> None:
    """The sender died between the answer and its mark, so the same message went out twice."""
    requested(store)
    store.set_retraining_status("r1", "delivered", "the target has it", 3)
    with capture_logs() as logs:
        assert finish(store) == "failed"
    assert now(store) == ("delivered", CAUSE, {"alert": "a1", "delivery": "the target has it"})
    assert logs == []


def test_a_message_that_is_sent_says_nothing_more(store: Store) -> None:
    requested(store)
    assert finish(store, sent=True) == "sent"
    row: RetrainingRow = store.retraining()[0]
    assert (row.status, row.detail) == ("requested", '{"alert": "a1"}')
