"""The sender on an outbox in memory: order, expiry, at-least-once, and receivers that do not hold each other up."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from alerts.delivery import Backoff, Delivered, GaveUp, Outcome, Retry
from alerts.sender import Limits, Sender

HOUR = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    id: str
    receiver: str = "hook"
    ordering_key: str = "m"
    kind: str = "notification"
    body: bytes = b"{}"
    expires_at_ms: int = 72 * HOUR
    attempts: int = 0
    next_attempt_at_ms: int = 0
    status: str = "pending"
    error: str | None = None
    owner: str | None = None
    leased_until_ms: int = 0


class MemoryOutbox:
    """The promises of the port, in order of insertion."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {row.id: row for row in rows}
        self.calls: list[tuple[str, ...]] = []

    def lease_outbox(self, now_ms: int, owner: str, lease_ms: int, limit: int, /) -> list[Row]:
        leased, seen = [], set()
        for row in list(self.rows.values()):
            if row.status == "pending" and row.expires_at_ms <= now_ms:
                self.rows[row.id] = replace(row, status="expired")
                continue
            key = (row.receiver, row.ordering_key)
            if row.status != "pending" or key in seen:
                continue
            seen.add(key)
            if row.next_attempt_at_ms <= now_ms and row.leased_until_ms <= now_ms and len(leased) < limit:
                self.rows[row.id] = replace(row, owner=owner, leased_until_ms=now_ms + lease_ms)
                leased.append(self.rows[row.id])
        return leased

    def finish_outbox(self, row_id, owner, /, *, sent, error, next_attempt_at_ms, now_ms) -> str | None:
        row = self.rows[row_id]
        self.calls.append(("finish", row_id))
        if row.owner != owner:
            return None
        status = "sent" if sent else "failed" if next_attempt_at_ms is None else "pending"
        if status == "pending" and next_attempt_at_ms >= row.expires_at_ms:
            status = "expired"
        self.rows[row_id] = replace(
            row,
            status=status,
            error=error,
            attempts=row.attempts + 1,
            owner=None,
            leased_until_ms=0,
            next_attempt_at_ms=next_attempt_at_ms or 0,
        )
        return status

    def set_retraining_status(self, request_id, status, reason, now_ms, detail=None, /) -> None:
        self.calls.append(("status", request_id, str(status), reason, *([dict(detail)] if detail else [])))


@dataclass
class Script:
    """Answers in turn; an exception is raised, an event waited for. Remembers what it was given."""

    answers: list[Outcome | Exception | threading.Event] = field(default_factory=list)
    limit_seconds: float = 15.0
    got: list[tuple[str, bytes, int]] = field(default_factory=list)

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        self.got.append((message_id, body, attempted_at_ms))
        answer = self.answers.pop(0) if self.answers else Delivered()
        if isinstance(answer, threading.Event):
            answer.wait(10)
            return Delivered()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None: ...


class Clock:
    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def sender(outbox, notifiers, clock=None, **changes) -> Sender:
    settings = {"clock": clock or Clock(), "random": lambda: 0.5, "owner": "me", **changes}
    return Sender(outbox, notifiers, **settings)


def statuses(outbox: MemoryOutbox) -> dict[str, str]:
    return {row.id: row.status for row in outbox.rows.values()}


def test_what_is_due_is_sent_and_then_marked() -> None:
    outbox, hook = MemoryOutbox(Row(id="a", body=b"1"), Row(id="b", ordering_key="n", body=b"2")), Script()
    assert sender(outbox, {"hook": hook}, Clock(7)).send_due() == 2
    assert hook.got == [("a", b"1", 7), ("b", b"2", 7)]
    assert statuses(outbox) == {"a": "sent", "b": "sent"}
    assert sender(outbox, {"hook": hook}).send_due() == 0


def test_a_failed_attempt_waits_and_later_messages_of_its_key_wait_with_it() -> None:
    outbox = MemoryOutbox(Row(id="a"), Row(id="b"), Row(id="other", ordering_key="n"))
    hook, clock = Script([Retry(None, "down"), Delivered()]), Clock()
    one = sender(outbox, {"hook": hook}, clock)
    assert one.send_due() == 2
    assert statuses(outbox) == {"a": "pending", "b": "pending", "other": "sent"}
    assert (outbox.rows["a"].error, outbox.rows["a"].next_attempt_at_ms) == ("down", 500)
    assert one.send_due() == 0
    clock.now_ms = 500
    assert one.send_due() == 1
    assert one.send_due() == 1
    assert [i for i, _, _ in hook.got] == ["a", "other", "a", "b"]


def test_waits_grow_with_the_attempts_and_honour_the_receiver() -> None:
    outbox = MemoryOutbox(Row(id="a", attempts=4), Row(id="b", ordering_key="n", attempts=4))
    hook = Script([Retry(None, "x"), Retry(60.0, "x")])
    sender(outbox, {"hook": hook}, backoff=Backoff(base_seconds=2.0)).send_due()
    assert outbox.rows["a"].next_attempt_at_ms == 16_000
    assert outbox.rows["b"].next_attempt_at_ms == 60_000


def test_a_message_whose_next_attempt_would_come_too_late_is_over_loudly() -> None:
    outbox, hook = MemoryOutbox(Row(id="a", expires_at_ms=2_000), Row(id="b")), Script([Retry(60.0, "down")])
    one = sender(outbox, {"hook": hook})
    with capture_logs() as logs:
        one.send_due()
        one.send_due()
    assert statuses(outbox) == {"a": "expired", "b": "sent"}
    assert [(log["event"], log["message_id"], log["log_level"]) for log in logs] == [("not_delivered", "a", "error")]
    assert logs[0]["error"] == "down"


def test_a_refused_message_is_over_and_lets_the_next_one_pass() -> None:
    outbox, hook = MemoryOutbox(Row(id="a"), Row(id="b")), Script([GaveUp("answered HTTP 400")])
    one = sender(outbox, {"hook": hook})
    with capture_logs() as logs:
        one.send_due()
    one.send_due()
    assert statuses(outbox) == {"a": "failed", "b": "sent"}
    assert logs[0]["error"] == outbox.rows["a"].error == "answered HTTP 400"


def test_a_message_for_a_receiver_we_do_not_know_is_kept() -> None:
    outbox = MemoryOutbox(Row(id="a", receiver="new"))
    sender(outbox, {}).send_due()
    row = outbox.rows["a"]
    assert (row.status, row.next_attempt_at_ms, row.error) == ("pending", 60_000, "this receiver is not configured")


def test_a_notifier_that_raises_is_tried_again_and_its_words_are_not_kept() -> None:
    outbox = MemoryOutbox(Row(id="a"))
    sender(outbox, {"hook": Script([RuntimeError("whsec_planted")])}).send_due()
    assert outbox.rows["a"].error == "the notifier failed (RuntimeError)"
    assert outbox.rows["a"].status == "pending"


def test_a_receiver_that_hangs_holds_up_nobody_else_and_its_answer_is_taken_later() -> None:
    release = threading.Event()
    slow, fast = Script([release]), Script()
    outbox = MemoryOutbox(
        *(Row(id=f"slow{i}", receiver="slow", ordering_key=f"k{i}") for i in range(3)),
        *(Row(id=f"fast{i}", receiver="fast") for i in range(3)),
    )
    one = sender(outbox, {"slow": slow, "fast": fast}, limits=Limits(patience_seconds=0.05))
    for _ in range(3):
        one.send_due()
    assert [i for i, _, _ in fast.got] == ["fast0", "fast1", "fast2"]
    assert [i for i, _, _ in slow.got] == ["slow0"]  # one at a time, whatever the keys
    assert one.busy
    release.set()
    while one.send_due():
        pass
    assert set(statuses(outbox).values()) == {"sent"}
    assert not one.busy


def test_what_waited_in_a_lane_until_its_lease_was_nearly_over_is_left_to_the_next_lease() -> None:
    release, clock = threading.Event(), Clock()
    slow = Script([release])
    outbox = MemoryOutbox(Row(id="a"), Row(id="b", ordering_key="n"))
    one = sender(outbox, {"hook": slow}, clock, limits=Limits(patience_seconds=0.05))
    one.send_due()
    clock.now_ms = 15_001  # 15 s of the lease are left, less than an attempt may take
    release.set()
    one.send_due()
    assert [i for i, _, _ in slow.got] == ["a"]
    clock.now_ms = 30_000
    one.send_due()
    assert [i for i, _, _ in slow.got] == ["a", "b"]


def test_lanes_and_threads_are_bounded() -> None:
    release = threading.Event()
    outbox = MemoryOutbox(*(Row(id=f"{r}{i}", receiver=r, ordering_key=str(i)) for r in "xyz" for i in range(9)))
    scripts = {r: Script([release]) for r in "xyz"}
    one = sender(outbox, scripts, limits=Limits(lane_rows=4, threads=2, patience_seconds=0.02))
    one.send_due()
    assert sum(lane.answer is not None for lane in one._lanes.values()) == 2
    assert all(len(lane.waiting) <= 4 for lane in one._lanes.values())
    release.set()
    one.close(1.0)


def test_a_lease_shorter_than_an_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="hook"):
        sender(MemoryOutbox(), {"hook": Script(limit_seconds=30.0)})


def test_a_delivered_retraining_request_moves_on_before_its_row_is_marked() -> None:
    outbox = MemoryOutbox(
        Row(id="ok", kind="retraining", ordering_key="1"),
        Row(id="no", kind="retraining", ordering_key="2"),
        Row(id="again", kind="retraining", ordering_key="3"),
        Row(id="page", ordering_key="4"),
    )
    sender(outbox, {"hook": Script([Delivered(), GaveUp("refused"), Retry(None, "down")])}).send_due()
    assert outbox.calls == [
        ("status", "ok", "delivered", "the target has it"),
        ("finish", "ok"),
        ("finish", "no"),
        ("finish", "again"),
        ("finish", "page"),
    ]


def test_what_the_target_calls_the_run_is_kept_with_the_request() -> None:
    outbox = MemoryOutbox(Row(id="a", kind="retraining", ordering_key="1"), Row(id="b", ordering_key="2"))
    sender(outbox, {"hook": Script([Delivered("run-7", "https://runs.example/7"), Delivered("x")])}).send_due()
    known = {"run_id": "run-7", "url": "https://runs.example/7"}
    assert outbox.calls == [
        ("status", "a", "delivered", "the target has it", known),
        ("finish", "a"),
        ("finish", "b"),
    ]


def test_a_store_that_fails_after_the_send_leads_to_the_same_message_again_not_to_a_blocked_lane() -> None:
    class Failing(MemoryOutbox):
        failures = 1

        def finish_outbox(self, *words, **named) -> str | None:
            if self.failures:
                self.failures -= 1
                raise ConnectionError
            return super().finish_outbox(*words, **named)

    outbox, hook, clock = Failing(Row(id="a", body=b"same")), Script(), Clock()
    one = sender(outbox, {"hook": hook}, clock)
    with pytest.raises(ConnectionError):
        one.send_due()
    clock.now_ms = 30_000
    assert one.send_due() == 1
    assert hook.got == [("a", b"same", 0), ("a", b"same", 30_000)]


def test_closing_records_what_is_answered_and_leaves_the_rest() -> None:
    release = threading.Event()
    outbox = MemoryOutbox(Row(id="a"), Row(id="s", receiver="slow"))
    one = sender(outbox, {"hook": Script(), "slow": Script([release])}, limits=Limits(patience_seconds=0.02))
    one.send_due()
    one.close(0.02)
    release.set()
    assert statuses(outbox) == {"a": "sent", "s": "pending"}


@pytest.mark.parametrize("seed", range(3))
def test_every_message_arrives_in_order_through_failures_and_killed_senders(seed) -> None:
    dice, clock = random.Random(seed), Clock()
    keys = [f"k{i}" for i in range(10)]
    outbox = MemoryOutbox(
        *(Row(id=f"{r}-{k}-{n}", receiver=r, ordering_key=k) for n in range(6) for k in keys for r in ("hook", "team"))
    )

    class Unreliable(Script):
        def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
            mood = dice.random()
            if mood < 0.3:
                return Retry(None, "down")
            self.got.append((message_id, body, attempted_at_ms))
            return Delivered() if mood > 0.5 else Retry(1.0, "the answer was lost")

    receivers = {"hook": Unreliable(), "team": Unreliable()}
    for life in range(2000):
        one = sender(outbox, receivers, clock, owner=f"life{life}", random=dice.random)
        if dice.random() < 0.2:  # killed between send and record
            one._record = lambda row, outcome: None
        one.send_due()
        one.close()
        clock.now_ms += 5_000
        if set(statuses(outbox).values()) == {"sent"}:
            break
    assert set(statuses(outbox).values()) == {"sent"}
    for receiver in receivers.values():
        first = defaultdict(list)
        for message_id, _, _ in receiver.got:
            _, key, n = message_id.split("-")
            if int(n) not in first[key]:
                first[key].append(int(n))
        assert dict(first) == {key: list(range(6)) for key in keys}
