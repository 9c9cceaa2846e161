"""The life of an alert: a pure fold over the windows of one subject, in order.

```
inactive -> pending -> firing <-> resolving -> resolved -> pending ...
```

The caller keeps one `AlertState` per fingerprint and calls `step` with each judged window. When an old window is
revised it calls `refold` with the subject's whole history as it reads now, and tells people `difference(emitted,
refolded)` only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

_FORMAT = 1


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


class Signal(StrEnum):
    """What a window says of the subject. `unknown` (too few rows, no data, an error) moves nothing."""

    DRIFT = "drift"
    CLEAN = "clean"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVING = "resolving"
    RESOLVED = "resolved"


class Status(StrEnum):
    """What people are told."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Reason(StrEnum):
    """Why the state is as it is, and why a transition was emitted."""

    NOTHING_SEEN = "nothing_seen"
    QUIET = "quiet"  # clean, and nothing was firing
    WAITING = "waiting"  # drift, but not yet in enough windows running
    SHORT_LIVED = "short_lived"  # drift went away before it was seen in enough windows
    DRIFTED = "drifted"  # enough drifting windows running: fires
    ESCALATED = "escalated"  # fires again, as critical
    STILL_DRIFTING = "still_drifting"
    CAME_BACK = "came_back"  # drift again before enough clean windows: the same episode goes on
    SETTLING = "settling"  # clean, but not yet in enough windows running
    CLEARED = "cleared"  # enough clean windows running: resolved
    CORRECTED = "corrected"  # a revision took back or changed what was told
    NEW_VERSION = "new_version"  # another version of the model took over
    NEW_REFERENCE = "new_reference"  # what is usual was set anew
    EXPECTED = "expected"  # a person called it the new normal


# Ends that are no verdict about the windows: no later window of the episode, and no revision of one, undoes them.
CLOSING = frozenset({Reason.NEW_VERSION, Reason.NEW_REFERENCE, Reason.EXPECTED})


class Verdict(StrEnum):
    """What a person says of an alert: a real fault, a change that was meant, or nothing at all."""

    REAL = "real"
    EXPECTED = "expected"
    FALSE = "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an alert is about. Version and segment are None where the alert belongs to the whole model."""

    model: str
    version: str | None
    segment: str | None
    monitor: str
    subject: str
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One judged window of the subject. `severity` counts only with `drift`; `text` is handed through to the
    transition.
    """

    window_id: str
    start_ms: int
    end_ms: int
    signal: Signal
    severity: Severity = Severity.WARNING
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Fire after `for_windows` drifting windows running, resolve after `resolve_after` clean ones; unknown ones do not
    count.
    """

    for_windows: int = 1
    resolve_after: int = 2

    def __post_init__(self) -> None:
        if self.for_windows < 1 or self.resolve_after < 1:
            raise ValueError("for_windows and resolve_after must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What changed. `at_ms` is the end of the window that caused it, `starts_at_ms` the start of the episode's first
    drifting window, `ends_at_ms` (resolved only) the end of its last drifting one: event time, all three."""

    status: Status
    reason: Reason
    severity: Severity
    at_ms: int
    starts_at_ms: int
    ends_at_ms: int | None
    window_id: str
    text: str
    corrected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """Where a subject stands. `run` counts windows running: drifting ones while pending, clean ones while resolving.

    `severity` is the worst of the episode and never falls before it ends. After `resolved` the episode's figures stay
    for show.
    """

    phase: Phase = Phase.INACTIVE
    reason: Reason = Reason.NOTHING_SEEN
    severity: Severity | None = None
    starts_at_ms: int | None = None
    last_drift_ms: int | None = None
    run: int = 0

    @property
    def active(self) -> bool:
        """People have been told that it fires, and not yet that it is over."""
        return self.phase in (Phase.FIRING, Phase.RESOLVING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Somebody has seen the alert. `severity` is what it was then; `at_ms` is the clock's time, as of all human acts.

    The newest one of an alert holds. Raises ValueError where nobody is named.
    """

    alert: str
    who: str
    at_ms: int
    severity: Severity
    verdict: Verdict | None = None
    comment: str = ""

    def __post_init__(self) -> None:
        if not self.who.strip():
            raise ValueError("an acknowledgement says by whom")


def in_hand(acknowledgement: Acknowledgement | None, severity: Severity) -> bool:
    """Whether the alert need not be repeated. One that has become worse since is told as if nobody had seen it."""
    if acknowledgement is None:
        return False
    return _worse(acknowledgement.severity, severity) is acknowledgement.severity


def close(
    state: AlertState, reason: Reason, *, at_ms: int, window_id: str, text: str
) -> tuple[AlertState, Transition | None]:
    """End an episode for one of the reasons in `CLOSING`. One that was never told of ends quietly.

    Raises ValueError for another reason: windows end an episode through `step`, revisions through `difference`.
    """
    if reason not in CLOSING:
        raise ValueError(f"{reason} is no reason to close an alert")
    if state.phase is Phase.PENDING:
        return AlertState(reason=reason), None
    if not state.active or state.severity is None or state.starts_at_ms is None:
        return state, None
    new = replace(state, phase=Phase.RESOLVED, reason=reason, run=0)
    transition = Transition(
        status=Status.RESOLVED,
        reason=reason,
        severity=state.severity,
        at_ms=at_ms,
        starts_at_ms=state.starts_at_ms,
        ends_at_ms=state.last_drift_ms,
        window_id=window_id,
        text=text,
    )
    return new, transition


def is_superseded(subject: Subject, version: str) -> bool:
    """Whether an alert ends when `version` takes over: it is of another version. What is of none goes on."""
    return subject.version is not None and subject.version != version


def is_fresh(known_ms: int, now_ms: int, page_max_age_ms: int) -> bool:
    """Whether people may be told of what became known at `known_ms` (the stream's time); older goes to the digest."""
    return now_ms - known_ms <= page_max_age_ms


def step(state: AlertState, observation: Observation, policy: Policy) -> tuple[AlertState, Transition | None]:
    """The state after one more window, and what to tell people, if anything. The new state's `reason` says why.

    Windows must come in order of their end; nothing here checks it.
    """
    if observation.signal is Signal.UNKNOWN:
        return state, None
    if observation.signal is Signal.DRIFT:
        return _drifting(state, observation, policy)
    return _clean(state, observation, policy)


def refold(
    observations: Iterable[Observation], policy: Policy, state: AlertState | None = None
) -> tuple[AlertState, list[Transition]]:
    """Fold a history from `state` (default: nothing seen yet): where it ends, and all transitions on the way."""
    state = state or AlertState()
    transitions = []
    for observation in observations:
        state, transition = step(state, observation, policy)
        if transition is not None:
            transitions.append(transition)
    return state, transitions


def difference(emitted: Sequence[Transition], refolded: Sequence[Transition]) -> list[Transition]:
    """What people must be told, marked `corrected`, so that what they believe is what `refolded` says.

    `emitted` is everything told of this fingerprint so far, in order, earlier corrections included; `refolded` is what
    `refold` makes of the same span now. An episode wrongly raised and still firing is resolved with reason `corrected`;
    one that was missed is told from its beginning; one that goes on after all, or with another severity, is told to
    fire again. An episode that was wrongly raised but has resolved by itself is left alone: nothing is firing that
    should not. So is one that was closed for a reason in `CLOSING`. Episodes are told apart by their start, so alternation of firing and resolved holds per alert id, not
    across ids.
    """
    # Start of an episode -> the last that was said of it.
    told, wanted = ({t.starts_at_ms: t for t in said} for said in (emitted, refolded))
    out = [_taken_back(last) for start, last in told.items() if last.status is Status.FIRING and start not in wanted]
    for start, last in wanted.items():
        before = told.get(start)
        if before is not None and before.reason in CLOSING:
            continue
        if before is None:
            out += [replace(t, corrected=True) for t in refolded if t.starts_at_ms == start]
        elif last.status is Status.RESOLVED:
            out += [replace(last, corrected=True)] if before.status is Status.FIRING else []
        elif before.status is Status.RESOLVED or before.severity is not last.severity:
            out += [replace(last, reason=Reason.CORRECTED, corrected=True)]
    return out


def fingerprint(subject: Subject) -> str:
    """32 hex digits for (model, version, segment, monitor, subject, check): no values in it, so it is stable across
    windows.
    """
    s = subject
    return _digest("alert", s.model, s.version, s.segment, s.monitor, s.subject, s.check)


def alert_id(fingerprint: str, starts_at_ms: int) -> str:
    """32 hex digits, one per episode, the same in all its transitions."""
    return _digest("episode", fingerprint, starts_at_ms)


def encode_state(state: AlertState) -> str:
    """One line of JSON with a format number."""
    return json.dumps({"format": _FORMAT, **asdict(state)}, separators=(",", ":"))


def decode_state(text: str) -> AlertState:
    """Undo `encode_state`. Raises ValueError for another format or broken text."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ValueError("alert state is of an unknown format")
    try:
        severity = fields.pop("severity")
        return AlertState(
            phase=Phase(fields.pop("phase")),
            reason=Reason(fields.pop("reason")),
            severity=None if severity is None else Severity(severity),
            **fields,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"alert state is broken: {error}") from error


def _drifting(state: AlertState, window: Observation, policy: Policy) -> tuple[AlertState, Transition | None]:
    if state.active:
        return _still_drifting(state, window)
    running = state.phase is Phase.PENDING
    run = state.run + 1 if running else 1
    new = AlertState(
        phase=Phase.FIRING if run >= policy.for_windows else Phase.PENDING,
        reason=Reason.DRIFTED if run >= policy.for_windows else Reason.WAITING,
        severity=_worse(state.severity if running else None, window.severity),
        starts_at_ms=state.starts_at_ms if running else window.start_ms,
        last_drift_ms=window.end_ms,
        run=run,
    )
    return new, _transition(new, window) if new.phase is Phase.FIRING else None


def _still_drifting(state: AlertState, window: Observation) -> tuple[AlertState, Transition | None]:
    severity = _worse(state.severity, window.severity)
    escalated = severity is not state.severity
    reason = Reason.CAME_BACK if state.phase is Phase.RESOLVING else Reason.STILL_DRIFTING
    new = replace(
        state,
        phase=Phase.FIRING,
        reason=Reason.ESCALATED if escalated else reason,
        severity=severity,
        last_drift_ms=window.end_ms,
        run=0,
    )
    return new, _transition(new, window) if escalated else None


def _clean(state: AlertState, window: Observation, policy: Policy) -> tuple[AlertState, Transition | None]:
    if state.phase is Phase.PENDING:
        return AlertState(reason=Reason.SHORT_LIVED), None
    if not state.active:
        return replace(state, reason=Reason.QUIET), None
    run = state.run + 1 if state.phase is Phase.RESOLVING else 1
    if run < policy.resolve_after:
        return replace(state, phase=Phase.RESOLVING, reason=Reason.SETTLING, run=run), None
    new = replace(state, phase=Phase.RESOLVED, reason=Reason.CLEARED, run=run)
    return new, _transition(new, window)


def _transition(state: AlertState, window: Observation) -> Transition:
    if state.severity is None or state.starts_at_ms is None:
        raise ValueError("only an episode that has begun can change")
    resolved = state.phase is Phase.RESOLVED
    return Transition(
        status=Status.RESOLVED if resolved else Status.FIRING,
        reason=state.reason,
        severity=state.severity,
        at_ms=window.end_ms,
        starts_at_ms=state.starts_at_ms,
        ends_at_ms=state.last_drift_ms if resolved else None,
        window_id=window.window_id,
        text=window.text,
    )


def _worse(one: Severity | None, other: Severity) -> Severity:
    return Severity.CRITICAL if Severity.CRITICAL in (one, other) else Severity.WARNING


def _taken_back(last: Transition) -> Transition:
    return replace(
        last,
        status=Status.RESOLVED,
        reason=Reason.CORRECTED,
        ends_at_ms=last.at_ms,
        text=f"Taken back after late data: {last.text}",
        corrected=True,
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()[:32]
