"""What people do about alerts: acknowledge and judge them, and set silences. Every act is written down with who did it."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from alerts import routing
from alerts.envelope import rfc3339
from alerts.lifecycle import Acknowledgement, Severity, Status, Verdict
from alerts.matching import Matcher, parse_matcher, parse_matchers
from alerts.silence import Silence, SilenceState, expire
from monitor.adoption import adopt, build
from monitor.config import Config, Model, parse_duration
from monitor.config.types import ALERT_LABELS
from monitor.decoding.timestamps import BadTimestampError, parse_time
from monitor.errors import UserError
from monitor.explain import alert_named
from monitor.results import Object, alert_object
from monitor.store import ActRow, AlertRow, ReferenceRow, Store

_SHORTEST_PREFIX = 6
_LONGEST_NAME, _LONGEST_TEXT = 200, 2_000


def acknowledge(
    store: Store,
    config: Config,
    name: str,
    *,
    who: str,
    verdict: str | None,
    comment: str,
    table: Path | None,
    now_ms: int,
) -> str:
    """Take an alert in hand, and say what it was. `table` is adopted as the new normal: the alert ends when that takes force.

    Raises UserError for an alert that is unknown, a verdict that is none, and a table that cannot be a reference.
    """
    row = alert_named(store, name)
    judged = _verdict(verdict)
    if table is not None and judged is not Verdict.EXPECTED:
        raise UserError("--adopt goes with --verdict expected: what is no new normal is not adopted")
    given = Acknowledgement(
        alert=row.id, who=_said("--who", who, _LONGEST_NAME), at_ms=now_ms, severity=Severity(row.severity),
        verdict=judged, comment=_said("--comment", comment, _LONGEST_TEXT) if comment else "",
    )  # fmt: skip
    adopted = None if table is None else _adopted(store, config, row, table, now_ms)
    if adopted is not None:
        detail = f"{table} ({adopted.hash[:12]}) for alert {row.id}"
        store.put_act(ActRow(at_ms=now_ms, who=given.who, act="reference adopt", subject=row.model, detail=detail))
    detail = ": ".join(filter(None, (judged, given.comment)))
    store.acknowledge(given, ActRow(at_ms=now_ms, who=given.who, act="ack", subject=row.id, detail=detail))
    said = f", {judged}" if judged is not None else ""
    told = f"alert {row.id} of {row.model} ({row.subject}) is acknowledged by {given.who}{said}"
    if adopted is None:
        return told
    ends = "; the alert ends with the first window judged by it" if row.status == Status.FIRING else ""
    return f"{told}; reference {adopted.hash[:12]} is in force from the next window on{ends}"


def add_silence(
    store: Store,
    config: Config,
    matchers: Sequence[str],
    *,
    lasts: str,
    starts: str | None,
    who: str,
    why: str,
    now_ms: int,
) -> str:
    """Mute what fits all matchers. Says how many alerts that fire it mutes: none may be a mistake. Raises UserError."""
    try:
        conditions = tuple(matcher for text in matchers for matcher in _matchers(text))
        duration_ms = parse_duration(lasts)
        starts_ms = now_ms if starts is None else parse_time(starts)
    except BadTimestampError as error:
        raise UserError(f"--starts: {error}") from error
    except ValueError as error:
        raise UserError(f"silence: {error}") from error
    if starts_ms < now_ms:
        raise UserError(f"--starts: {rfc3339(starts_ms)} is over (leave it out to start now)")
    _are_labels(conditions, config)
    who, why = _said("--who", who, _LONGEST_NAME), _said("--why", why, _LONGEST_TEXT)
    try:
        silence = Silence(
            id=uuid.uuid4().hex, matchers=conditions, starts_ms=starts_ms, ends_ms=starts_ms + duration_ms, who=who, why=why
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"silence: {error}") from error
    store.put_silence(
        silence, ActRow(at_ms=now_ms, who=who, act="silence add", subject=silence.id, detail=silence.describe())
    )
    muted = sum(silence.mutes(_labels(row, config), starts_ms) for row in store.firing_alerts())
    fits = "1 alert that fires now" if muted == 1 else f"{muted} alerts that fire now"
    return f"silence {silence.id}: {silence.describe()}\nit fits {fits}"


def expire_silence(store: Store, name: str, *, who: str, now_ms: int) -> str:
    """End a silence. Raises UserError for one that is unknown or over."""
    silence = silence_named(store, name)
    try:
        over = expire(silence, now_ms, _said("--who", who, _LONGEST_NAME))
    except ValueError as error:
        raise UserError(str(error)) from error
    store.put_silence(
        over, ActRow(at_ms=now_ms, who=who.strip(), act="silence expire", subject=silence.id, detail=silence.describe())
    )
    return f"silence {silence.id} is over"


def silences(store: Store, *, over_too: bool, now_ms: int) -> list[Silence]:
    """Silences in force and to come, by their ends; with `over_too` also those that are over."""
    return [s for s in store.silences() if over_too or s.state(now_ms) is not SilenceState.EXPIRED]


def silence_line(silence: Silence, now_ms: int) -> str:
    """One line a person reads."""
    return f"{silence.id[:12]}  {silence.state(now_ms)}  from {rfc3339(silence.starts_ms)}  {silence.describe()}"


def silence_object(silence: Silence, now_ms: int) -> Object:
    """One silence as machines read it."""
    return {
        "type": "silence",
        "id": silence.id,
        "matchers": [str(matcher) for matcher in silence.matchers],
        "starts_at": rfc3339(silence.starts_ms),
        "ends_at": rfc3339(silence.ends_ms),
        "who": silence.who,
        "why": silence.why,
        "state": str(silence.state(now_ms)),
    }


def silence_named(store: Store, name: str) -> Silence:
    """The silence whose id is, or alone begins with, `name`. Raises UserError."""
    found = [silence for silence in store.silences() if silence.id.startswith(name)]
    if len(name) < _SHORTEST_PREFIX or not found:
        raise UserError(
            f"silence {name} is unknown (write at least {_SHORTEST_PREFIX} characters of its id, see `driftline silence list`)"
        )
    if len(found) > 1:
        raise UserError(f"{name} begins the ids of {len(found)} silences (write more of it)")
    return found[0]


def _verdict(text: str | None) -> Verdict | None:
    if text is None:
        return None
    if text not in {str(verdict) for verdict in Verdict}:
        raise UserError(f"--verdict: {text} is none (write {', '.join(Verdict)})")
    return Verdict(text)


def _adopted(store: Store, config: Config, row: AlertRow, table: Path, now_ms: int) -> ReferenceRow:
    """The reference that is built of the table: of the alert's version where that has one of its own, else of all."""
    model: Model | None = config.models.get(row.model)
    if model is None:
        raise UserError(f"model {row.model} of alert {row.id} is not configured any more")
    known = store.references(row.model)
    version = row.version if any(other.version == row.version for other in known) else ""
    newest = next((other.hash for other in reversed(known) if other.version == version), None)
    if build(model, table)[1].hash == newest:
        raise UserError(f"{table}: is the reference of model {row.model} already, so nothing would change by it")
    return adopt(store, model, path=table, version=version, now_ms=now_ms)


def _matchers(text: str) -> Iterable[Matcher]:
    """One as a shell hands it over, or several in braces."""
    return parse_matchers(text) if text.lstrip().startswith("{") else (parse_matcher(text),)


def _are_labels(matchers: Iterable[Matcher], config: Config) -> None:
    known = ALERT_LABELS | {name for model in config.models.values() for name in model.labels}
    for matcher in matchers:
        if matcher.name not in known:
            close = difflib.get_close_matches(matcher.name, sorted(known), n=1, cutoff=0.6)
            fix = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            raise UserError(f"silence: no alert has a label {matcher.name} ({fix})")


def _labels(row: AlertRow, config: Config) -> dict[str, str]:
    model = config.models.get(row.model)
    return routing.labels({**alert_object(row), "check": row.check}, {} if model is None else model.labels)


def _said(option: str, text: str, longest: int) -> str:
    """Printable and of some length: it is shown to others, in logs and messages."""
    said = " ".join(text.split())
    if not said or len(said) > longest or not said.isprintable():
        raise UserError(f"{option}: should be 1 to {longest} printable characters")
    return said
