"""Why there is an alert, in one object: what moved, since when, what it did to performance, what is likely behind it, who was told.

Everything comes from the store. Cause and advice are worded by what words the messages, so people read the same here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.desk import Outcome
from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.message import Message, Wording, compose
from alerts.routing import DECISIONS
from detectors.finding import Finding, State
from detectors.performance.judge import HEADLINES
from monitor.closing.windows import expand
from monitor.errors import UserError
from monitor.results import Object, alert_object, decode_findings, finding_object, retraining_object, rfc3339
from monitor.store import AlertRow, Store, WindowRow

PREFIX = 6  # characters of an id that are enough where they fit one alert only
BEFORE, AFTER, SHOWN = 3, 2, 14  # windows before the episode and after it, and in all
DAY_MS = 86_400_000
LABELS_MS = 30 * DAY_MS  # how late the labels may be that concept drift is told of
_LABELLED = ("performance", "concept")
_EMPTY = frozenset({State.INSUFFICIENT_DATA, State.NO_DATA, State.NOT_CONFIGURED, State.STALE, State.ERROR})

WORDS: Mapping[str, str] = {
    Outcome.TOLD: "told",
    Outcome.UNMATCHED: "not told: no route fits it (it is in the log)",
    Outcome.STALE: "not told: its window was older than page_max_age; it is for the digest only",
    Outcome.INHIBITED: "not told: another alert explains it",
    Outcome.SILENCED: "not told: silenced",
    Outcome.OUT_OF_HOURS: "not told yet: outside the hours of this route",
    Outcome.OVER_BEFORE_TOLD: "not told: it was over before its group was sent",
    Outcome.HELD: "not told yet: too many messages, it waits for a summary",
    Outcome.COLLAPSED: "told in a summary of many",
    Outcome.NOT_CONFIGURED: "not told: the receiver is no longer configured",
}


def alert_named(store: Store, name: str) -> AlertRow:
    """The newest transition of the alert whose id is, or begins with, `name`. Raises UserError where that is none or several."""
    if len(name) < PREFIX:
        raise UserError(
            f"alert {name}: write at least {PREFIX} characters of its id (see `driftline alerts list --json`)"
        )
    found = [row for row in store.alerts() if row.id.startswith(name)]
    if len(found) != 1:
        what = "no alert has" if not found else f"{len(found)} alerts have"
        raise UserError(f"alert {name}: {what} an id that begins so (see `driftline alerts list --json`)")
    return found[0]


def explanation(store: Store, row: AlertRow, links: Mapping[str, str]) -> Object:
    """One object, keys always there; unknown is None. `links`: name -> URL with placeholders, as configured.

    `finding` is of the newest drifting window of the episode, `windows` are those around it.
    """
    subject = _Subject(row)
    seen = subject.windows(store)
    last = next((one for one in reversed(seen) if one.drifts and one.row.end_ms <= _end_ms(row)), None)
    family = [other for other in store.alerts() if other.incident == row.incident and other.id != row.id]
    words = _words([row, *family], links)
    return {
        "type": "explanation",
        "alert": alert_object(row),
        "finding": None if last is None or last.finding is None else finding_object(last.finding),
        "lasted_seconds": ((row.ends_at_ms or _newest_ms(row, last)) - row.starts_at_ms) / 1000,
        "history": [_transition(step) for step in store.alert_history(row.id)],
        "windows": [one.object() for one in _around(seen, row)],
        "performance": _performance(store, row, last),
        "cause": words["cause"],
        "action": words["action"],
        "others": [alert_object(other) for other in family],
        **_people(store, row.id),
        "retraining": _retraining(store, row.id),
        "links": words["links"],
    }


# -- windows --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One window, and what it says of the alert's subject."""

    row: WindowRow
    finding: Finding | None

    @property
    def drifts(self) -> bool:
        return self.finding is not None and self.finding.state is State.DRIFT

    def object(self) -> Object:
        row, finding = self.row, self.finding
        return {
            "id": row.id,
            "start": rfc3339(row.start_ms),
            "end": rfc3339(row.end_ms),
            "status": row.status,
            "rows": row.rows,
            "state": row.state if finding is None else str(finding.state),
            "value": None if finding is None else finding.value,
            "interval": None if finding is None or finding.interval is None else list(finding.interval),
            "unit": None if finding is None else finding.unit,
        }


@dataclass(frozen=True, slots=True)
class _Subject:
    row: AlertRow

    def windows(self, store: Store) -> list[_Seen]:
        """From a few before the episode to a few after it, oldest first."""
        row, first = self.row, store.window(self.row.window)
        length_ms = DAY_MS if first is None else first.end_ms - first.start_ms
        stored = store.windows(row.model, row.monitor, since_ms=row.starts_at_ms - (BEFORE + 1) * length_ms)
        until_ms = _end_ms(row) + (AFTER + 1) * length_ms
        mine = [found for found in stored if (found.version, found.segment) == (row.version, row.segment)]
        singles = [one for found in mine for one in expand(found) if one.end_ms <= until_ms]
        singles.sort(key=lambda one: (one.end_ms, one.start_ms))
        return [_Seen(row=one, finding=self._finding(one)) for one in singles]

    def _finding(self, window: WindowRow) -> Finding | None:
        found = decode_findings(window.findings) if window.findings else []
        return next((f for f in found if (f.subject, f.check) == (self.row.subject, self.row.check)), None)


def _around(seen: Sequence[_Seen], row: AlertRow) -> list[_Seen]:
    """The last few before the start, the first and the newest ones of the episode, and the first after its end."""
    end_ms = _end_ms(row)
    before = [one for one in seen if one.row.end_ms <= row.starts_at_ms][-BEFORE:]
    during = [one for one in seen if row.starts_at_ms < one.row.end_ms <= end_ms]
    after = [one for one in seen if one.row.end_ms > max(end_ms, row.starts_at_ms)][:AFTER]
    room = SHOWN - len(before) - len(after)
    kept = during if len(during) <= room else [*during[: room // 2], *during[-(room - room // 2) :]]
    return [*before, *kept, *after]


def _end_ms(row: AlertRow) -> int:
    return 2**62 if row.ends_at_ms is None else row.ends_at_ms


def _newest_ms(row: AlertRow, last: _Seen | None) -> int:
    """As far as an episode is known that still goes on."""
    return row.at_ms if last is None else max(row.at_ms, last.row.end_ms)


def _transition(row: AlertRow) -> Object:
    return {
        "status": row.status,
        "severity": row.severity,
        "reason": row.reason,
        "corrected": row.corrected,
        "at": rfc3339(row.at_ms),
        "window": row.window,
        "text": row.text,
    }


# -- what it did to performance -------------------------------------------------------------------------------------------


def _performance(store: Store, row: AlertRow, last: _Seen | None) -> Object:
    """The headline metrics of the newest window of the episode whose labels say something, and why the loss rose, where it did."""
    if row.monitor in _LABELLED and last is not None and last.finding is not None and _split(last.finding) is not None:
        newest: tuple[WindowRow, list[Finding]] | None = (last.row, [last.finding])
    else:
        newest = _newest_performance(store, row)
    if newest is None:
        return {"window": None, "metrics": [], "split": None}
    window, findings = newest
    return {
        "window": {
            "id": window.id,
            "start": rfc3339(window.start_ms),
            "end": rfc3339(window.end_ms),
            "status": window.status,
        },
        "metrics": [finding_object(finding) for finding in findings],
        "split": next((split for split in map(_split, findings) if split is not None), None),
    }


def _newest_performance(store: Store, row: AlertRow) -> tuple[WindowRow, list[Finding]] | None:
    """Windows by labels come before those that are only estimated, those with a loss before those without.

    Concept drift is told when labels arrive, of predictions that are older: any window before its end may be meant.
    """
    until_ms = _end_ms(row)
    from_ms = row.starts_at_ms - (LABELS_MS if row.monitor == "concept" else 0)
    segment = row.segment if row.monitor in _LABELLED else None
    best: tuple[tuple[bool, bool, int], WindowRow, list[Finding]] | None = None
    for window in store.windows(row.model, "performance", since_ms=from_ms - DAY_MS):
        outside = window.start_ms >= until_ms or window.end_ms <= from_ms or window.segment != segment
        if outside or row.version not in ("", window.version) or not window.findings:
            continue
        found = [f for f in decode_findings(window.findings) if f.subject in HEADLINES and f.state not in _EMPTY]
        realised = [f for f in found if f.check == "realised"]
        shown = realised or [f for f in found if f.check == "estimated"]
        if shown:
            rank = (bool(realised), any(f.state is State.DRIFT for f in shown), window.end_ms)
            if best is None or rank > best[0]:
                best = (rank, window, shown)
    return None if best is None else best[1:]


def _split(finding: Finding) -> Object | None:
    """How the rise of the loss divides, from the details of a finding that drifts (`detectors.attribution.words`)."""
    detail = finding.detail
    if not isinstance(detail.get("rise"), float):
        return None
    plain = (
        "cause",
        "certainty",
        "loss",
        "loss_before",
        "loss_after",
        "rise",
        "rise_low",
        "rise_high",
        "covariate",
        "label",
        "concept",
    )
    return {
        **{name: detail.get(name) for name in plain},
        "features": _numbered(detail, "cause", ("feature", "kind", "contribution", "q_value")),
        "segments": _numbered(
            detail, "segment", ("values", "share_before", "share", "loss_before", "loss", "change", "contribution")
        ),
    }


def _numbered(detail: Mapping[str, object], kind: str, names: Sequence[str]) -> list[Object]:
    """`cause_1_feature`, `cause_1_kind` .. as a list of mappings."""
    found = []
    for number in range(1, 100):
        if f"{kind}_{number}_{names[0]}" not in detail or detail[f"{kind}_{number}_{names[0]}"] is None:
            break
        found.append({name: detail.get(f"{kind}_{number}_{name}") for name in names})
    return found


# -- people and retraining ------------------------------------------------------------------------------------------------


def _people(store: Store, alert: str) -> Object:
    """`told`: the newest word on every receiver, also on those that were not told."""
    told = [
        {
            "receiver": row.receiver,
            "outcome": row.outcome,
            "text": ": ".join(filter(None, (WORDS.get(row.outcome, row.outcome), row.detail))),
            "at": rfc3339(row.at_ms),
        }
        for row in store.told(alert)
        if row.receiver != DECISIONS
    ]
    seen = [
        {
            "who": one.who,
            "at": rfc3339(one.at_ms),
            "severity": str(one.severity),
            "verdict": None if one.verdict is None else str(one.verdict),
            "comment": one.comment,
        }
        for one in store.acknowledgements(alert)
    ]
    return {"told": told, "acknowledgements": seen}


def _retraining(store: Store, alert: str) -> Object:
    """The request that this alert made, with its steps; and why it was made or refused."""
    request = next((row for row in store.retraining() if json.loads(row.detail).get("alert") == alert), None)
    decided = next((row for row in store.told(alert) if row.receiver == DECISIONS), None)
    steps = [] if request is None else store.retraining_steps(request.id)
    return {
        "request": None if request is None else retraining_object(request),
        "steps": [{"status": step.status, "told": step.told, "at": rfc3339(step.at_ms)} for step in steps],
        "decision": None
        if decided is None
        else {"reason": decided.outcome, "text": decided.detail, "at": rfc3339(decided.at_ms)},
    }


def _words(rows: Sequence[AlertRow], links: Mapping[str, str]) -> dict[str, Any]:
    """Likely cause and advice for the whole incident, links of the alert itself, which comes first. What is over needs no action."""
    objects = [alert_object(row) for row in rows]
    firing = any(row.status == "firing" for row in rows)
    facts = dict(_message(objects if firing else [{**one, "status": "firing"} for one in objects], links).facts)
    own = _message(objects[:1], links)
    return {
        "cause": facts.get("Likely cause"),
        "action": facts.get("What to do") if firing else None,
        "links": [{"name": name, "url": url} for name, url in own.links],
    }


def _message(objects: Sequence[Object], links: Mapping[str, str]) -> Message:
    """What people would read of these alerts now."""
    incident = str(objects[0]["incident"])
    body = render_incident(incident=incident, status=Status.FIRING, timestamp_ms=0, alerts=objects)
    return compose(body, Wording(links=links))
