"""When a retraining may be asked for, and the life of a request. A job costs money and may be wrong: every gate gives
its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from alerts.alert import DATA_FAULTS
from alerts.envelope import envelope, rfc3339
from alerts.lifecycle import is_fresh
from alerts.time_windows import TimeWindow, covering

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
    PAUSED = "paused"
    CAUSE_IS_DATA_FAULT = "cause_is_data_fault"
    DATA_FAULT_ACTIVE = "data_fault_active"
    WINDOW_TOO_OLD = "window_too_old"
    REQUEST_ACTIVE = "request_active"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    FLEET_BUDGET = "fleet_budget"
    FLEET_BUSY = "fleet_busy"
    FROZEN = "frozen"
    TOO_FEW_LABELS = "too_few_labels"
    PROPOSED = "proposed"
    DID_NOT_HELP = "did_not_help"  # proposed in place of automatic, since the last ones did not help
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The newest request of the model. `at_ms` is the `at` of the transition that caused it (event time)."""

    status: RetrainingStatus
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `requests` within any `per_ms`."""

    requests: int
    per_ms: int

    def __post_init__(self) -> None:
        if self.requests < 1 or self.per_ms <= 0:
            raise ValueError("a budget allows at least 1 request in a positive span")

    def free_again_ms(self, spent_ms: Sequence[int], at_ms: int) -> int | None:
        """When the next request fits; None when it does at `at_ms`. Requests caused later than that count, too."""
        counted = sorted(moment for moment in spent_ms if moment > at_ms - self.per_ms)
        return None if len(counted) < self.requests else counted[-self.requests] + self.per_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the gates look at, for one alert that fires.

    `at_ms` is the end of the causing window, `now_ms` the clock's time (a simulation's own in a simulation). `monitor`
    is the cause's. `data_fault_active`: an alert of the model's `quality` or `volume` monitor is firing or resolving.
    `timeout_ms`: a request with no end by then counts as ended, so that one lost job does not block the model for ever.

    `paused` is the kill switch. `spent_ms` and `fleet_spent_ms` are the `at` of all requests, of the model and of all
    models (this one among them), whatever came of them; `fleet_active` counts requests of other models that have not
    ended, `fleet_limit` None sets no limit. `freeze` is looked at by the clock. `new_labels` came since the data of the
    last training ended, None where nobody knows: then a minimum refuses. `unhelpful` counts the newest requests running
    that failed or did not help; at `patience` of them a person decides, whatever the mode says.
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
    paused: bool = False
    budgets: Sequence[Budget] = ()
    spent_ms: Sequence[int] = ()
    fleet_budgets: Sequence[Budget] = ()
    fleet_spent_ms: Sequence[int] = ()
    fleet_active: int = 0
    fleet_limit: int | None = None
    freeze: Sequence[TimeWindow] = ()
    min_new_labels: int = 0
    new_labels: int | None = None
    unhelpful: int = 0
    patience: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`create`: a request is stored. `deliver`: it may go out at once; otherwise it waits for a person."""

    create: bool
    deliver: bool
    reason: Reason
    text: str


def decide(facts: Facts) -> Decision:
    """Whether this alert asks for a retraining. Cooldown and budgets run in event time, from the causes of requests,
    whatever came of them.
    """
    refusal = _refusal(facts)
    if refusal is not None:
        reason, text = refusal
        return Decision(create=False, deliver=False, reason=reason, text=text)
    if facts.mode is Mode.AUTO and facts.unhelpful < facts.patience:
        return Decision(create=True, deliver=True, reason=Reason.AUTOMATIC, text="All gates are open: requested.")
    if facts.mode is Mode.AUTO:
        text = f"The last {facts.unhelpful} retrainings did not help: waits for a person to approve it."
        return Decision(create=True, deliver=False, reason=Reason.DID_NOT_HELP, text=text)
    return Decision(
        create=True, deliver=False, reason=Reason.PROPOSED, text="All gates are open: waits for a person to approve it."
    )


def may_deliver(facts: Facts) -> Decision:
    """Whether a stored request may go out now that a person has approved it: kill switch, data faults and freeze are
    asked again. What a person answers for (age of the window, cooldown, budgets, labels) is not.
    """
    refusal = _switched_off(facts) or _faulty(facts) or _frozen(facts)
    if refusal is not None:
        return Decision(create=False, deliver=False, reason=refusal[0], text=refusal[1])
    return Decision(create=False, deliver=True, reason=Reason.PROPOSED, text="Approved.")


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
    """The first gate that is shut, in the order in which a person would want to be told."""
    for gate in (_switched_off, _faulty, _too_old, _after_the_latest, _over_budget, _frozen, _too_few_labels):
        refusal = gate(facts)
        if refusal is not None:
            return refusal
    return None


def _switched_off(facts: Facts) -> tuple[Reason, str] | None:
    if facts.mode is Mode.OFF:
        return Reason.MODE_OFF, "Retraining is off for this model."
    return (Reason.PAUSED, "Retraining is paused.") if facts.paused else None


def _faulty(facts: Facts) -> tuple[Reason, str] | None:
    if facts.monitor in DATA_FAULTS:
        return (
            Reason.CAUSE_IS_DATA_FAULT,
            f"The cause is of the {facts.monitor} monitor: mend the data, do not train on it.",
        )
    if facts.data_fault_active:
        return (
            Reason.DATA_FAULT_ACTIVE,
            "A data fault of the model is active: drift on faulty data is no reason to train.",
        )
    return None


def _too_old(facts: Facts) -> tuple[Reason, str] | None:
    if is_fresh(facts.at_ms, facts.now_ms, facts.page_max_age_ms):
        return None
    return Reason.WINDOW_TOO_OLD, f"The window ended at {rfc3339(facts.at_ms)}, longer ago than page_max_age."


def _after_the_latest(facts: Facts) -> tuple[Reason, str] | None:
    latest = facts.latest
    if latest is None:
        return None
    if LEGAL[latest.status] and facts.at_ms < latest.at_ms + facts.timeout_ms:
        return Reason.REQUEST_ACTIVE, f"The request of {rfc3339(latest.at_ms)} is still {latest.status}."
    if facts.at_ms < latest.at_ms + facts.cooldown_ms:
        return Reason.COOLDOWN, f"Cooldown until {rfc3339(latest.at_ms + facts.cooldown_ms)}."
    return None


def _over_budget(facts: Facts) -> tuple[Reason, str] | None:
    for reason, whose, budgets, spent_ms in (
        (Reason.BUDGET, "The model's", facts.budgets, facts.spent_ms),
        (Reason.FLEET_BUDGET, "The fleet's", facts.fleet_budgets, facts.fleet_spent_ms),
    ):
        free_ms = [moment for b in budgets if (moment := b.free_again_ms(spent_ms, facts.at_ms)) is not None]
        if free_ms:
            return reason, f"{whose} budget of retrainings is spent until {rfc3339(max(free_ms))}."
    if facts.fleet_limit is not None and facts.fleet_active >= facts.fleet_limit:
        return Reason.FLEET_BUSY, f"{facts.fleet_active} retrainings of other models have not ended."
    return None


def _frozen(facts: Facts) -> tuple[Reason, str] | None:
    window = covering(facts.freeze, facts.now_ms)
    return None if window is None else (Reason.FROZEN, f"Frozen: {window}.")


def _too_few_labels(facts: Facts) -> tuple[Reason, str] | None:
    if facts.min_new_labels <= 0 or (facts.new_labels is not None and facts.new_labels >= facts.min_new_labels):
        return None
    known = "an unknown number of" if facts.new_labels is None else str(facts.new_labels)
    return Reason.TOO_FEW_LABELS, f"There are {known} new labels, {facts.min_new_labels} are needed."
