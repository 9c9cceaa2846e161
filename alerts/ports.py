"""The edges of this package: where messages wait, and who carries them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from alerts.delivery import Outcome


class OutboxRow(Protocol):
    """One message for one receiver. `id` is the webhook-id of every attempt, `body` the exact bytes of every attempt.

    `attempts` counts those that were finished before; `kind` is "notification" or "retraining".
    """

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def receiver(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def attempts(self) -> int: ...


class Outbox(Protocol):
    """Messages committed together with the alert state they tell of. All calls come from one thread.

    Each may raise when the store is out of reach; what was sent but could not be marked is sent again after its lease.
    """

    def lease_outbox(self, now_ms: int, owner: str, lease_ms: int, limit: int, /) -> Sequence[OutboxRow]:
        """Due rows that nobody holds, oldest first, of each (receiver, ordering key) only the oldest pending one.

        What has expired is marked as that and not handed out, or handed out a last time: `finish_outbox` ends it.
        """

    def finish_outbox(
        self, row_id: str, owner: str, /, *, sent: bool, error: str | None, next_attempt_at_ms: int | None, now_ms: int
    ) -> str | None:
        """Give the row back and count the attempt; returns its status by now.

        That is `sent`, `pending` (again at the time given), `failed` (no time given), `expired` (the time given is too
        late), or None: `owner` holds the row no longer, and nothing was changed. A retraining request whose message
        failed or expired has failed with it.
        """

    def set_retraining_status(
        self, request_id: str, status: str, told: str, now_ms: int, detail: Mapping[str, Any] | None = None, /
    ) -> object:
        """Move a retraining request on, where `alerts.retraining.advance` allows it; otherwise the log tells and nothing is changed.

        `told` is kept as what its delivery came to, beside the reason for which it was asked, and so is `detail`: what
        the target told of the run. May be called twice.
        """


class Notifier(Protocol):
    """Carries one message to one receiver. Called from threads: of one lane never twice at once, but as a fallback also from
    the lane of another.

    `send` returns within about `limit_seconds` and does not raise. Its errors hold no secret, no URL beyond the host
    and nothing that the receiver answered. `Retry` may mean that the message did arrive.
    """

    limit_seconds: float

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome: ...

    def close(self) -> None: ...


class Forgetful(Protocol):
    """A notifier whose receiver takes an alert for over when it is not repeated.

    `resend` posts what `active` gives (alert objects), and is to be called every `resend_ms`. `active` may raise. With
    `well` it may also say that we are.
    """

    resend_ms: int

    def resend(self, active: Callable[[], Sequence[Mapping[str, Any]]], now_ms: int, well: bool, /) -> Outcome: ...
