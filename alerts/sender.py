"""The sender: takes due messages out of the outbox, has them carried, and writes down what came of it.

At least once: a message is marked only after the attempt, so a sender that dies in between leaves it to the next one,
which sends the same id and the same bytes. Each receiver has a lane of its own: one message at a time, in the outbox's
order, and a receiver that hangs holds up nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import structlog

from alerts.delivery import Backoff, Delivered, GaveUp, Outcome, Retry, wait_seconds
from alerts.ports import Notifier, Outbox, OutboxRow
from alerts.retraining import RetrainingStatus

_log = structlog.get_logger("driftline.sender")
_UNKNOWN_RECEIVER_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`lease_ms` must exceed the slowest notifier's limit, or nothing is ever sent by it: such a lane refuses at
    construction.

    `patience_seconds` is how long a pass waits for receivers that have not answered; their answers are taken by a later
    pass.
    """

    lease_ms: int = 30_000
    batch: int = 64
    lane_rows: int = 64
    threads: int = 32
    patience_seconds: float = 0.5


@dataclass(slots=True)
class _Lane:
    """One receiver: rows leased and waiting (with the end of their lease), and the one that is out."""

    waiting: deque[tuple[OutboxRow, int]] = field(default_factory=deque)
    row: OutboxRow | None = None
    answer: Future[Outcome] | None = None


class Sender:
    """The loop body of the notify role. All methods are called from one thread; only notifiers run in others.

    `notifiers` holds every name that rows may carry as their receiver. A row for an unknown one is kept, and tried
    again until it expires: another worker may have the newer configuration. `clock` gives ms UTC, `random` a number in
    [0, 1).
    """

    def __init__(
        self,
        outbox: Outbox,
        notifiers: Mapping[str, Notifier],
        *,
        clock: Callable[[], int],
        random: Callable[[], float],
        owner: str,
        limits: Limits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._outbox, self._notifiers, self._owner = outbox, notifiers, owner
        self._clock, self._random, self._backoff = clock, random, backoff or Backoff()
        self._limits = limits or Limits()
        slow = [name for name, notifier in notifiers.items() if _limit_ms(notifier) >= self._limits.lease_ms]
        if slow:
            raise ValueError(f"the lease of {self._limits.lease_ms} ms is shorter than an attempt of {', '.join(slow)}")
        self._lanes = {name: _Lane() for name in notifiers}
        self._pool = ThreadPoolExecutor(max(1, min(len(notifiers), self._limits.threads)), thread_name_prefix="send")

    def send_due(self) -> int:
        """One pass: lease what is due, send, record. Returns how many attempts were recorded; 0 is idle or all out."""
        recorded = self._lease()
        until_ms = self._clock() + int(self._limits.patience_seconds * 1000)
        while True:
            self._start()
            answered = self._collect(self._limits.patience_seconds)
            recorded += answered
            if not answered or self._clock() > until_ms:
                return recorded

    @property
    def busy(self) -> bool:
        """Attempts are out whose answers are not recorded yet."""
        return any(lane.answer is not None for lane in self._lanes.values())

    def close(self, patience_seconds: float = 0.0) -> None:
        """Record what is answered within the patience and stop. What is still out is sent again after its lease."""
        while self.busy and self._collect(patience_seconds):
            pass
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _lease(self) -> int:
        now_ms, closed = self._clock(), 0
        for row in self._outbox.lease_outbox(now_ms, self._owner, self._limits.lease_ms, self._limits.batch):
            lane = self._lanes.get(row.receiver)
            if lane is None:
                self._record(row, Retry(_UNKNOWN_RECEIVER_WAIT_SECONDS, "this receiver is not configured"))
                closed += 1
            elif len(lane.waiting) < self._limits.lane_rows:  # else its lease runs out, and it is leased again
                lane.waiting.append((row, now_ms + self._limits.lease_ms))
        return closed

    def _start(self) -> None:
        """Send the next message of every idle lane, as far as there are threads."""
        out = sum(lane.answer is not None for lane in self._lanes.values())
        for name, lane in self._lanes.items():
            if lane.answer is not None or out >= self._limits.threads:
                continue
            notifier, now_ms = self._notifiers[name], self._clock()
            while lane.waiting:
                row, leased_until_ms = lane.waiting.popleft()
                # Another sender may take the row once its lease is over: do not begin what may not end before.
                if now_ms + _limit_ms(notifier) <= leased_until_ms:
                    lane.row = row
                    lane.answer = self._pool.submit(notifier.send, row.id, row.body, now_ms)
                    out += 1
                    break

    def _collect(self, timeout_seconds: float) -> int:
        """Record the answers that are there, waiting for the first."""
        lanes = {lane.answer: lane for lane in self._lanes.values() if lane.answer is not None}
        done, _ = wait(lanes, timeout_seconds, FIRST_COMPLETED)
        for answer in done:
            lane = lanes[answer]
            row, lane.row, lane.answer = lane.row, None, None  # first, so that a failing store does not block the lane
            if row is not None:
                self._record(row, _outcome(answer))
        return len(done)

    def _record(self, row: OutboxRow, outcome: Outcome) -> None:
        now_ms = self._clock()
        error: str | None = None
        again_ms: int | None = None
        match outcome:
            case Delivered():
                # Before the row is marked: after a crash in between it is simply done again.
                if row.kind == "retraining":
                    run = {"run_id": outcome.run_id, "url": outcome.run_url}
                    known = {name: value for name, value in run.items() if value}
                    status = RetrainingStatus.DELIVERED
                    self._outbox.set_retraining_status(row.id, status, "the target has it", now_ms, known)
            case GaveUp():
                error = outcome.error
            case Retry():
                error = outcome.error
                wait_ms = int(wait_seconds(outcome, row.attempts + 1, self._random(), self._backoff) * 1000)
                again_ms = now_ms + wait_ms
        sent = isinstance(outcome, Delivered)
        status_now = self._outbox.finish_outbox(
            row.id, self._owner, sent=sent, error=error, next_attempt_at_ms=again_ms, now_ms=now_ms
        )
        if status_now in ("failed", "expired"):
            _log.error("not_delivered", receiver=row.receiver, message_id=row.id, kind=row.kind, error=error)


def _limit_ms(notifier: Notifier) -> int:
    return int(notifier.limit_seconds * 1000)


def _outcome(answer: Future[Outcome]) -> Outcome:
    """A notifier must not raise. If one does, only the kind of error is told: its text might hold what it was given."""
    error = answer.exception()
    return answer.result() if error is None else Retry(None, f"the notifier failed ({type(error).__name__})")
