"""Retraining requests in the store, on both databases: the cause stays, and only what may follow follows."""

from __future__ import annotations

import json
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from structlog.testing import capture_logs

from monitor.store import ActRow, PauseRow, RetrainingRow, Store
from monitor.store.tables import performance_state
from parts.stores import HOUR, REF, message, request

CAUSE = "x has moved by 0.8 sd"
ACT = ActRow(at_ms=9, who="ann", act="retraining", subject="r1", detail="")


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


def steps(store: Store, name: str = "r1") -> list[tuple[str, str, int]]:
    return [(step.status, step.told, step.at_ms) for step in store.retraining_steps(name)]


def test_a_request_is_put_once(store: Store) -> None:
    with store.closing("churn") as tx:
        assert tx.put_retraining(request("r1"))
        assert tx.put_retraining(request("r2", recorded_at_ms=2))
        assert not tx.put_retraining(request("r2", recorded_at_ms=3, status="cancelled"))
        assert [(r.id, r.status) for r in tx.retraining_rows("churn")] == [("r1", "requested"), ("r2", "requested")]
        assert tx.retraining_rows("other") == []
    assert steps(store, "r2") == [("requested", "drift", 2)]


def test_a_closer_sees_the_requests_of_all_models(store: Store) -> None:
    for model, at_ms in (("churn", 5), ("fraud", 6), ("price", 4)):
        with store.closing(model) as tx:
            tx.put_retraining(request(model, model=model, at_ms=at_ms, recorded_at_ms=at_ms))
    with store.closing("churn") as tx:
        assert [row.model for row in tx.fleet_retraining(5)] == ["churn", "fraud"]


def test_one_closer_at_a_time_decides_about_requests(store: Store) -> None:
    """A second one waits, and then counts what the first one asked for."""
    seen: list[int] = []

    def decide() -> None:
        with store.closing("fraud") as tx:
            tx.lock_retraining()
            seen.append(len(tx.fleet_retraining(0)))

    other = threading.Thread(target=decide)
    with store.closing("churn") as tx:
        tx.lock_retraining()
        other.start()
        other.join(0.3)
        assert other.is_alive()
        tx.put_retraining(request("r1"))
    other.join()
    assert seen == [1]


def test_new_labels_are_those_of_the_models_arrivals(store: Store) -> None:
    def row(start: int, rows: int, **more: object) -> dict[str, object]:
        fields = {"model": "churn", "kind": "arrival", "start_ms": start * HOUR, "version": "1", "reference": REF}
        return fields | {"segment": "", "writer": "w", "rows": rows, "profile": b""} | more

    with store._db.write() as connection:
        rows = [row(1, 100), row(2, 20), row(2, 3, writer="v"), row(3, 4, version="2"), row(2, 500, segment="eu")]
        rows += [row(2, 1000, kind="pane"), row(2, 7000, model="other")]
        connection.execute(sa.insert(performance_state), rows)
    with store.closing("churn") as tx:
        assert (tx.new_labels(2 * HOUR), tx.new_labels(2 * HOUR + 1), tx.new_labels(9 * HOUR)) == (27, 4, 0)
        assert type(tx.new_labels(0)) is int


def test_every_status_has_its_step_and_a_repeated_one_has_none(store: Store) -> None:
    requested(store, status="requested")
    store.set_retraining_status("r1", "delivered", "the target has it", 3, {"run_id": "7"})
    store.set_retraining_status("r1", "delivered", "again", 4)
    store.set_retraining_status("r1", "running", "the job says: running", 5, {"url": "https://x", "run_id": "8"})
    assert steps(store) == [
        ("requested", CAUSE, 1),
        ("delivered", "the target has it", 3),
        ("running", "the job says: running", 5),
    ]
    detail = {"alert": "a1", "run_id": "8", "url": "https://x", "delivery": "the job says: running"}
    assert now(store) == ("running", CAUSE, detail)


# What people do


def test_a_request_that_waits_is_cancelled_with_its_message(store: Store) -> None:
    requested(store)
    assert store.cancel_retraining("r1", "cancelled by ann", 8, ACT)
    assert now(store)[0] == "cancelled"
    assert steps(store)[-1] == ("cancelled", "cancelled by ann", 8)
    assert store.outbox_pending() == 0
    assert finish(store, sent=True) is None  # it was on its way
    assert [act.subject for act in store.acts()] == ["r1"]
    assert not store.cancel_retraining("r1", "again", 9, ACT)
    assert not store.cancel_retraining("r9", "again", 9, ACT)
    assert len(store.acts()) == 1


def test_a_request_under_way_is_cancelled_and_one_that_ended_is_not(store: Store) -> None:
    requested(store)
    finish(store, sent=True)
    store.set_retraining_status("r1", "running", "", 3)  # not allowed from requested
    store.set_retraining_status("r1", "delivered", "the target has it", 3)
    assert store.cancel_retraining("r1", "cancelled", 8, ACT)
    with store.closing("churn") as tx:
        tx.put_retraining(request("r2", status="succeeded"))
    assert not store.cancel_retraining("r2", "cancelled", 8, ACT)


def test_an_approval_puts_the_message_once(store: Store) -> None:
    with store.closing("churn") as tx:
        tx.put_retraining(request("r1"))
    assert store.approve_retraining(message("r1", kind="retraining"))
    assert not store.approve_retraining(message("r1", kind="retraining"))
    assert not store.approve_retraining(message("r9", kind="retraining"))
    assert store.outbox_pending() == 1


def test_of_an_approval_and_a_cancellation_at_once_nothing_goes_out(store: Store) -> None:
    with store.closing("churn") as tx:
        tx.put_retraining(request("r1"))
    approved: list[bool] = []
    approval = threading.Thread(target=lambda: approved.append(store.approve_retraining(message("r1"))))

    def approve(_: object) -> None:
        approval.start()
        approval.join(0.3)
        assert approval.is_alive()

    event.listen(store._db._writer, "commit", approve, once=True)
    assert store.cancel_retraining("r1", "cancelled", 8, ACT)
    approval.join()
    assert approved == [False]
    assert (now(store)[0], store.outbox_pending()) == ("cancelled", 0)


def test_a_pause_holds_until_it_is_taken_back(store: Store) -> None:
    whole = PauseRow(model="", who="ann", at_ms=3, why="an audit")
    store.pause_retraining(PauseRow(model="churn", who="ann", at_ms=1, why="first"), ACT)
    store.pause_retraining(PauseRow(model="churn", who="bob", at_ms=2, why="second"), ACT)
    store.pause_retraining(whole, ACT)
    pauses = {"": whole, "churn": PauseRow(model="churn", who="bob", at_ms=2, why="second")}
    assert store.retraining_pauses() == pauses
    with store.closing("churn") as tx:
        assert tx.retraining_pauses() == pauses
    assert store.resume_retraining("", ACT)
    assert not store.resume_retraining("", ACT)
    assert store.retraining_pauses().keys() == {"churn"}
    assert len(store.acts()) == 4


# What a delivery comes to


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
