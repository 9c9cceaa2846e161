"""Messages as they wait in the outbox: each is rendered once, so that every attempt carries the same id and the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from alerts import incident, routing
from alerts.desk import Desk, Message, Place
from alerts.grouping import Notice, Why
from alerts.lifecycle import Reason, Status
from monitor.results import alert_object
from monitor.store import AlertRow, OutboxRow

NOTIFICATION_LIFE_MS = 3 * 86_400_000
ALERTS_A_MESSAGE = 100  # to a stream, which gets another message for the rest
ALERTS_FOR_PEOPLE = 1_000  # beyond that, the likeliest causes; the first line counts all

_BEGINS = (Reason.DRIFTED, Reason.CORRECTED)


@dataclass(slots=True)
class Known:
    """Transitions of alerts, as far as they matter for what is told now."""

    rows: Mapping[int, AlertRow]
    _of: dict[str, dict[str, list[AlertRow]]] = field(init=False)

    def __post_init__(self) -> None:
        self._of = {}
        for _, row in sorted(self.rows.items()):
            self._of.setdefault(row.incident, {}).setdefault(row.id, []).append(row)

    @classmethod
    def of(cls, *parts: Iterable[AlertRow]) -> Known:
        return cls({row.seq: row for part in parts for row in part})

    def status_after(self, of_incident: str, seq: int) -> Status:
        """The incident's status after the transition `seq`: what came later is taken back."""
        alerts = self._of.get(of_incident, {}).values()
        return Status.FIRING if any(_fires_after(rows, seq) for rows in alerts) else Status.RESOLVED


def for_log(arrivals: Sequence[AlertRow], known: Known, now_ms: int) -> list[OutboxRow]:
    """What the log is told: every transition there is, in order, whatever becomes of it elsewhere."""
    ordered = sorted(arrivals, key=lambda row: (row.model, row.seq))
    return [
        _stream_row(routing.LOG, model, part, known, now_ms)
        for (model, _), run in groupby(ordered, key=lambda row: (row.model, row.incident))
        for part in _parts(list(run))
    ]


def for_stream(message: Message, newest: Mapping[str, AlertRow], known: Known, now_ms: int) -> list[OutboxRow]:
    """A machine gets the transitions themselves, in order; where nothing is new, the alerts that still fire."""
    if message.notice.transitions:
        rows = [known.rows[seq] for seq in message.notice.transitions if seq in known.rows]  # old ones are pruned
        return [_stream_row(message.receiver, message.order, part, known, now_ms) for part in _parts(rows)]
    again = [newest[name] for name in message.notice.firing if name in newest]
    return [_stream_row(message.receiver, message.order, part, known, now_ms, repeated=True) for part in _parts(again)]


def for_people(message: Message, newest: Mapping[str, AlertRow], desk: Desk, now_ms: int) -> OutboxRow:
    """People get the newest state of each alert under one line that says what is the matter. `desk`: as it is after the turn."""
    notice = message.notice
    rows = [newest[name] for name in (*notice.firing, *notice.resolved) if name in newest]
    objects = [alert_object(row) for row in rows]
    if message.storm is not None:
        identity, firing, text = message.storm.id, True, message.storm.text
    elif objects:
        identity = identity_of(message.key)
        firing = bool(notice.firing) or _is_open(desk, message.receiver, identity)
        text = incident.lines(objects)[0]
    else:  # all that a summary stood for
        identity, firing, text = message.key, False, f"[RESOLVED] Everything that {message.key} told of is over"
    body = incident.render_incident(
        incident=identity,
        status=Status.FIRING if firing else Status.RESOLVED,
        timestamp_ms=now_ms,
        alerts=sorted(objects, key=incident.rank)[:ALERTS_FOR_PEOPLE],
        text=text,
    )
    return _row(
        message.receiver, message.order, _message_id(message.receiver, message.key, notice, now_ms), body, now_ms
    )


def identity_of(key: str) -> str:
    """What a group is to whom it is told: the incident that its alerts share, else a name that stays the same."""
    shared = dict(Place.of(key).labels).get("incident")
    return shared or f"group-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _is_open(desk: Desk, receiver: str, identity: str) -> bool:
    """Whether the receiver knows of something of that name which still fires: several groups may be of one incident."""
    return any(
        member.firing and member.told
        for key, group in desk.groups.items()
        if Place.of(key).receiver == receiver and identity_of(key) == identity
        for member in group.members.values()
    )


def _parts(rows: Sequence[AlertRow]) -> Iterator[Sequence[AlertRow]]:
    for start in range(0, len(rows), ALERTS_A_MESSAGE):
        yield rows[start : start + ALERTS_A_MESSAGE]


def _stream_row(
    receiver: str, order: str, rows: Sequence[AlertRow], known: Known, now_ms: int, *, repeated: bool = False
) -> OutboxRow:
    seqs = tuple(row.seq for row in rows)
    body = incident.render_incident(
        incident=rows[0].incident,
        status=known.status_after(rows[0].incident, seqs[-1]),
        timestamp_ms=now_ms,
        alerts=[alert_object(row) for row in rows],
        sequence=max(seqs),
        repeated=repeated,
    )
    notice = Notice(
        why=Why.REPEATED if repeated else Why.NEW, firing=tuple(row.id for row in rows), resolved=(), transitions=seqs
    )
    return _row(receiver, order, _message_id(receiver, order, notice, now_ms), body, now_ms)


def _row(receiver: str, order: str, identity: str, body: bytes, now_ms: int) -> OutboxRow:
    return OutboxRow(
        id=identity, kind="notification", receiver=receiver, ordering_key=order, body=body, created_at_ms=now_ms,
        next_attempt_at_ms=now_ms, expires_at_ms=now_ms + NOTIFICATION_LIFE_MS,
    )  # fmt: skip


def _message_id(receiver: str, key: str, notice: Notice, now_ms: int) -> str:
    told = [receiver, key, notice.why, notice.firing, notice.resolved, notice.transitions, now_ms]
    return f"msg_{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}"


def _fires_after(rows: Sequence[AlertRow], seq: int) -> bool:
    """Of one alert, its transitions in order. One that is known by a later transition only had begun before, unless that is its beginning."""
    before = [row for row in rows if row.seq <= seq]
    if before:
        return before[-1].status == Status.FIRING
    return rows[0].status == Status.RESOLVED or rows[0].reason not in _BEGINS
