"""A retraining on its way: reports of the job, the end that never comes, and whether it helped."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alerts.alert import Alert
from alerts.envelope import rfc3339
from alerts.retraining import LEGAL, RetrainingStatus

_HOUR_MS = 3_600_000
_LARGEST_REPORT = 16_384
_LONGEST_TEXT = 500
_SHORTEST_SECRET = 24
_REPORTED = frozenset(RetrainingStatus) - {
    RetrainingStatus.REQUESTED,
    RetrainingStatus.DELIVERED,
    RetrainingStatus.TIMED_OUT,
}


# -- the call-back ----------------------------------------------------------------------------------------------------


def callback_token(secret: bytes, request_id: str) -> str:
    """By which a job shows that it is the one we asked for. It opens this one request and is never stored.

    Raises ValueError for a secret shorter than 24 bytes.
    """
    if len(secret) < _SHORTEST_SECRET:
        raise ValueError(f"the secret of call-backs holds at least {_SHORTEST_SECRET} bytes")
    text = b"driftline retraining call-back\0" + request_id.encode("utf-8", "surrogatepass")
    digest = hmac.new(secret, text, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def is_token_of(request_id: str, token: str, secrets: Iterable[bytes]) -> bool:
    """Whether the token belongs to the request under any of the secrets (two while one is changed). Takes as long
    whether it is nearly right or not at all.
    """
    given = token.encode("utf-8", "surrogatepass")
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(callback_token(secret, request_id).encode("ascii"), given)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a job says of itself."""

    status: RetrainingStatus
    run_id: str | None = None
    url: str | None = None
    version: str | None = None
    message: str = ""


def parse_report(body: bytes) -> Report:
    """`{"status": "running", "run_id": ..., "url": ..., "version": ..., "message": ...}`: all but the status may be left
    out, other keys are not read. Raises ValueError that says what is wrong and repeats nothing of the body.
    """
    if len(body) > _LARGEST_REPORT:
        raise ValueError(f"a report holds at most {_LARGEST_REPORT} bytes")
    fields = _object(body)
    if fields is None:
        raise ValueError('a report is a JSON object such as {"status": "succeeded", "version": "8"}')
    known = {str(status): status for status in _REPORTED}
    status = fields.get("status")
    if not isinstance(status, str) or status not in known:
        raise ValueError(f"status is one of {', '.join(sorted(known))}")
    texts: dict[str, str | None] = {}
    for name in ("run_id", "url", "version", "message"):
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} is text")
        texts[name] = None if value is None else " ".join(value.split())[:_LONGEST_TEXT]
    return Report(
        status=known[status],
        run_id=texts["run_id"],
        url=texts["url"],
        version=texts["version"],
        message=texts["message"] or "",
    )


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Applied(StrEnum):
    """What a report did to its request."""

    CHANGED = "changed"
    REPEATED = "repeated"  # we knew that: the same report again, or an older one that came late
    REFUSED = "refused"  # the request has ended otherwise


def apply(current: RetrainingStatus, reported: RetrainingStatus) -> tuple[RetrainingStatus, Applied]:
    """The status after a report. Reports may come twice and out of order; what has ended stays as it ended.

    A report implies delivery, so one may also come while the request still counts as `requested` because the answer to
    it was lost. A job that was given up on may report its success all the same: that is refused, and for a person to
    look at.
    """
    if reported is current:
        return current, Applied.REPEATED
    if not LEGAL[current]:
        return current, Applied.REFUSED if not LEGAL[reported] else Applied.REPEATED
    if current is RetrainingStatus.REQUESTED or reported in LEGAL[current]:
        return reported, Applied.CHANGED
    order = tuple(RetrainingStatus)
    return current, Applied.REPEATED if order.index(reported) < order.index(current) else Applied.REFUSED


# -- the end that never comes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a request may be in a status: waiting for a person, for the target's first word, and for the job."""

    approval_ms: int = 7 * 24 * _HOUR_MS
    answer_ms: int = _HOUR_MS
    run_ms: int = 24 * _HOUR_MS


def deadline_ms(
    status: RetrainingStatus, since_ms: int, deadlines: Deadlines, *, hears_back: bool = True
) -> int | None:
    """Until when a request may stay in `status`, which it has `since_ms` (the clock's time); None where it has ended.

    A target that neither calls back nor can be asked (`hears_back` False) has no first word to wait for.
    """
    if not LEGAL[status]:
        return None
    if status is RetrainingStatus.REQUESTED:
        return since_ms + deadlines.approval_ms
    if status is RetrainingStatus.DELIVERED and hears_back:
        return since_ms + deadlines.answer_ms
    return since_ms + deadlines.run_ms


def timed_out(
    status: RetrainingStatus, since_ms: int, now_ms: int, deadlines: Deadlines, *, hears_back: bool = True
) -> str | None:
    """Why the request is to become `timed_out` now; None while it may go on."""
    limit_ms = deadline_ms(status, since_ms, deadlines, hears_back=hears_back)
    if limit_ms is None or now_ms < limit_ms:
        return None
    return f"Was {status} since {rfc3339(since_ms)}, and nothing was heard until {rfc3339(limit_ms)}."


# -- whether it helped ------------------------------------------------------------------------------------------------


class Help(StrEnum):
    """What a retraining came to."""

    TOO_EARLY = "too_early"
    HELPED = "helped"
    DID_NOT_HELP = "did_not_help"
    NOT_USED = "not_used"  # it succeeded, and no new version took traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """For what was retrained: the alert's monitor, subject and segment, without the version, which is another now."""

    monitor: str
    subject: str
    check: str
    segment: str | None = None

    @classmethod
    def of(cls, alert: Alert) -> Cause:
        return cls(monitor=alert.monitor, subject=alert.subject, check=alert.check, segment=alert.segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`escalate`: people must be told, since money was spent and the trouble is still there."""

    help: Help
    escalate: bool
    text: str


def judge(
    *,
    causes: Sequence[Cause],
    old_version: str | None,
    succeeded_ms: int,
    new_version: str | None,
    new_since_ms: int | None,
    alerts: Iterable[Alert],
    now_ms: int,
    settle_ms: int = 24 * _HOUR_MS,
    adopt_ms: int = 7 * 24 * _HOUR_MS,
) -> Verdict:
    """Whether a retraining that succeeded at `succeeded_ms` helped. `alerts` are those of the model that fire now.

    It did not when one of its causes fires in the new version, which has had traffic since `new_since_ms`; that it did
    is said after `settle_ms` without. A version that nobody uses within `adopt_ms` is told of as well.
    """
    if new_version is None or new_since_ms is None or new_version == old_version:
        late = now_ms >= succeeded_ms + adopt_ms
        text = f"Retrained at {rfc3339(succeeded_ms)}, but no new version has taken traffic since."
        return Verdict(help=Help.NOT_USED if late else Help.TOO_EARLY, escalate=late, text=text)
    wanted = set(causes)
    back = [a for a in alerts if a.firing and a.version in (None, new_version) and Cause.of(a) in wanted]
    back = [a for a in back if a.version is not None or a.starts_at_ms >= new_since_ms]
    if back:
        first = min(back, key=lambda a: (a.starts_at_ms, a.id))
        text = f"Retraining did not help: {first.subject} ({first.monitor}) fires in version {new_version} as well."
        return Verdict(help=Help.DID_NOT_HELP, escalate=True, text=text)
    if now_ms < new_since_ms + settle_ms:
        return Verdict(help=Help.TOO_EARLY, escalate=False, text=f"Version {new_version} is being watched.")
    return Verdict(help=Help.HELPED, escalate=False, text=f"Version {new_version} is free of what it was trained for.")


def unhelpful_running(history: Sequence[tuple[RetrainingStatus, Help | None]]) -> int:
    """How many of the newest requests (oldest first) failed or did not help, counted back to the first that did.

    Those not judged yet, still running, or called off by a person count neither way.
    """
    count = 0
    for status, helped in reversed(history):
        if helped is Help.HELPED:
            break
        if status in (RetrainingStatus.FAILED, RetrainingStatus.TIMED_OUT) or helped is Help.DID_NOT_HELP:
            count += 1
    return count


def status_object(report: Report) -> Mapping[str, Any]:
    """What is kept of a report beside the request."""
    fields = {"run_id": report.run_id, "url": report.url, "version": report.version, "message": report.message}
    return {name: value for name, value in fields.items() if value}
