"""The call-back: a job tells where it stands, with the token that came with its request. The rules are in `alerts.retraining_run`.

What is answered repeats nothing of what was sent, and an unknown request cannot be told from a wrong token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from alerts import retraining_run
from alerts.retraining import LEGAL, RetrainingStatus
from alerts.retraining_run import Applied, Report
from monitor.config import Config
from monitor.errors import TransientError, UserError
from monitor.secret import Secret
from monitor.store import RetrainingRow, Store

log = structlog.get_logger()

_TRIES = 3  # another report of the same job may come in between


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBackAddress:
    """Where jobs report to. `secret` is read anew each time; it may hold two, apart by white space: the first is used, both are accepted."""

    url: str
    secret: Secret

    @classmethod
    def of(cls, config: Config) -> CallBackAddress | None:
        settings = config.retraining.callback
        return None if settings is None else cls(url=settings.url, secret=settings.secret)

    def url_of(self, request: str) -> str:
        return f"{self.url.rstrip('/')}/api/v1/retraining/{request}/events"

    def token_of(self, request: str) -> str:
        """Raises UserError for a secret that is not there or too short."""
        return _token(self.secrets()[0], request)

    def secrets(self) -> Sequence[bytes]:
        return [word.encode() for word in self.secret.reveal().split()] or [b""]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a job is answered."""

    status: int
    text: str


class CallBacks:
    """Takes reports. One that is not allowed to is answered before anything is read of the store or of its body."""

    def __init__(self, store: Store, address: CallBackAddress, now_ms: Callable[[], int]) -> None:
        self._store, self._address, self._now_ms = store, address, now_ms

    def is_allowed(self, request: str, authorization: str) -> bool:
        """Whether the header holds the token of this request."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            return retraining_run.is_token_of(request, token.strip(), self._address.secrets())
        except (UserError, ValueError) as error:
            log.warning("no call-back can be taken", error=str(error))
            return False

    def receive(self, request: str, body: bytes) -> Reply:
        """What came of a report whose token `is_allowed`."""
        try:
            report = retraining_run.parse_report(body)
        except ValueError as error:
            return Reply(422, str(error))
        try:
            applied = take(self._store, request, report, self._now_ms(), "the job says")
        except TransientError:
            return Reply(503, "try again")
        if applied is None:
            return Reply(404, "there is no such request")
        if applied is Applied.REFUSED:
            return Reply(409, "the request has ended otherwise, or cannot go there from where it is")
        return Reply(202, str(applied))


def take(store: Store, request: str, report: Report, now_ms: int, who: str) -> Applied | None:
    """Put what is said of a request into its row; None where there is no such request. What is refused is told beside it."""
    for _ in range(_TRIES):
        row = found(store, request)
        if row is None:
            return None
        current = RetrainingStatus(row.status)
        status, applied = retraining_run.apply(current, report.status)
        said = f"{who}: {report.status}" + (f", {report.message}" if report.message else "")
        if applied is Applied.REFUSED:
            store.set_retraining_status(request, current, f"{said} (not taken, it was {current})", now_ms)
            log.warning("retraining report refused", request=request, status=current, reported=report.status)
            return applied
        if applied is Applied.REPEATED and report.status is not current:
            return applied  # an older one that came late
        if current is RetrainingStatus.REQUESTED and status not in LEGAL[current]:
            # The answer to the request was lost on the way, and the job is quicker than its repetition.
            store.set_retraining_status(request, RetrainingStatus.DELIVERED, "the target has it", now_ms)
        if store.set_retraining_status(request, status, said, now_ms, _detail(report, applied, now_ms)):
            return applied
    return Applied.REFUSED


def found(store: Store, request: str) -> RetrainingRow | None:
    return next((row for row in store.retraining() if row.id == request), None)


def _detail(report: Report, applied: Applied, now_ms: int) -> Mapping[str, Any]:
    detail: dict[str, Any] = dict(retraining_run.status_object(report))
    if applied is Applied.CHANGED and not LEGAL[report.status]:
        detail["ended_ms"] = now_ms
    return detail


def _token(secret: bytes, request: str) -> str:
    try:
        return retraining_run.callback_token(secret, request)
    except ValueError as error:
        raise UserError(f"retraining.callback.secret: {error}") from None
