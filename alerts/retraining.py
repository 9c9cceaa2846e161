"""When a retraining may be asked for, and the life of a request. A job costs money and may be wrong: every gate gives
its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from alerts.envelope import envelope, rfc3339

# Broken or missing data is mended at its source; a model trained on it would be worse.
_DATA_FAULTS = frozenset({"quality", "volume"})
_DAY_MS = 86_400_000


class Mode(StrEnum):
    OFF = "off"
    PROPOSE = "propose"  # a person approves
    AUTO = "auto"


class RetrainingStatus(StrEnum):
    REQUESTED = "requested"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


_ENDS = frozenset({RetrainingStatus.FAILED, RetrainingStatus.TIMED_OUT, RetrainingStatus.CANCELLED})
_AFTER_RUNNING = _ENDS | {RetrainingStatus.SUCCEEDED}
_AFTER_ACCEPTED = _AFTER_RUNNING | {RetrainingStatus.RUNNING}

# A job may report late or skip a step, so from `delivered` every later status can follow.
LEGAL: Mapping[RetrainingStatus, frozenset[RetrainingStatus]] = {
    RetrainingStatus.REQUESTED: _ENDS | {RetrainingStatus.DELIVERED},
    RetrainingStatus.DELIVERED: _AFTER_ACCEPTED | {RetrainingStatus.ACCEPTED, RetrainingStatus.REJECTED},
    RetrainingStatus.ACCEPTED: _AFTER_ACCEPTED,
    RetrainingStatus.RUNNING: _AFTER_RUNNING,
    RetrainingStatus.SUCCEEDED: frozenset(),
    RetrainingStatus.FAILED: frozenset(),
    RetrainingStatus.REJECTED: frozenset(),
    RetrainingStatus.TIMED_OUT: frozenset(),
    RetrainingStatus.CANCELLED: frozenset(),
}


class Reason(StrEnum):
    """Why a request was or was not made; the first gate that says no names it."""

    MODE_OFF = "mode_off"
    CAUSE_IS_DATA_FAULT = "cause_is_data_fault"
    DATA_FAULT_ACTIVE = "data_fault_active"
    WINDOW_TOO_OLD = "window_too_old"
    REQUEST_ACTIVE = "request_active"
    COOLDOWN = "cooldown"
    PROPOSED = "proposed"
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The newest request of the model. `at_ms` is the `at` of the transition that caused it (event time)."""

    status: RetrainingStatus
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the gates look at, for one alert that fires.

    `at_ms` is the end of the causing window, `now_ms` the clock's time (a simulation's own in a simulation). `monitor`
    is the cause's. `data_fault_active`: an alert of the model's `quality` or `volume` monitor is firing or resolving.
    `timeout_ms`: a request with no end by then counts as ended, so that one lost job does not block the model for ever.
    """

    mode: Mode
    monitor: str
    at_ms: int
    now_ms: int
    page_max_age_ms: int
    data_fault_active: bool
    latest: Latest | None = None
    cooldown_ms: int = _DAY_MS
    timeout_ms: int = _DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`create`: a request is stored. `deliver`: it may go out at once; otherwise it waits for a person."""

    create: bool
    deliver: bool
    reason: Reason
    text: str


def decide(facts: Facts) -> Decision:
    """Whether this alert asks for a retraining. Cooldown runs in event time, from the cause of the newest request,
    whatever came of it.
    """
    refusal = _refusal(facts)
    if refusal is not None:
        reason, text = refusal
        return Decision(create=False, deliver=False, reason=reason, text=text)
    if facts.mode is Mode.AUTO:
        return Decision(create=True, deliver=True, reason=Reason.AUTOMATIC, text="All gates are open: requested.")
    return Decision(
        create=True, deliver=False, reason=Reason.PROPOSED, text="All gates are open: waits for a person to approve it."
    )


def request_id(model: str, cause_fingerprint: str, starts_at_ms: int) -> str:
    """32 hex digits: one request per episode of its cause, however often and by whomever it is decided. Also its
    webhook-id.
    """
    text = f"retraining\0{model}\0{cause_fingerprint}\0{starts_at_ms}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def advance(current: RetrainingStatus, new: RetrainingStatus) -> RetrainingStatus:
    """`new`, where it may follow `current` or equals it (a repeated report). Raises ValueError otherwise."""
    if new is not current and new not in LEGAL[current]:
        raise ValueError(f"a retraining request that is {current} cannot become {new}")
    return new


def render_request(timestamp_ms: int, data: Mapping[str, object]) -> bytes:
    """The body of a request, as exact bytes; `data` is the retraining object of the results contract, keys in its
    order.
    """
    return envelope("driftline.retraining", timestamp_ms, data)


def _refusal(facts: Facts) -> tuple[Reason, str] | None:
    if facts.mode is Mode.OFF:
        return Reason.MODE_OFF, "Retraining is off for this model."
    if facts.monitor in _DATA_FAULTS:
        return (
            Reason.CAUSE_IS_DATA_FAULT,
            f"The cause is of the {facts.monitor} monitor: mend the data, do not train on it.",
        )
    if facts.data_fault_active:
        return (
            Reason.DATA_FAULT_ACTIVE,
            "A data fault of the model is active: drift on faulty data is no reason to train.",
        )
    if facts.now_ms - facts.at_ms > facts.page_max_age_ms:
        return Reason.WINDOW_TOO_OLD, f"The window ended at {rfc3339(facts.at_ms)}, longer ago than page_max_age."
    return None if facts.latest is None else _refused_by(facts.latest, facts)


def _refused_by(latest: Latest, facts: Facts) -> tuple[Reason, str] | None:
    if LEGAL[latest.status] and facts.at_ms < latest.at_ms + facts.timeout_ms:
        return Reason.REQUEST_ACTIVE, f"The request of {rfc3339(latest.at_ms)} is still {latest.status}."
    if facts.at_ms < latest.at_ms + facts.cooldown_ms:
        return Reason.COOLDOWN, f"Cooldown until {rfc3339(latest.at_ms + facts.cooldown_ms)}."
    return None
