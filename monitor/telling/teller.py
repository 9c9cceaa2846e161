"""Turns of telling: what is pending or due goes through `alerts.pipeline`, and everything that follows is committed with having taken it.

A worker that dies leaves all of a turn or nothing of it, so each transition is composed once, and the next turn goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from alerts import pipeline, routing
from alerts.alert import Alert
from alerts.desk import DIGEST, Message, Place, Turn
from alerts.grouping import Audience
from alerts.lifecycle import Acknowledgement, Severity, Status, in_hand
from monitor.config import Config
from monitor.failpoints import reach
from monitor.results import alert_object
from monitor.store import AlertRow, Store, TellingTransaction, ToldRow
from monitor.telemetry import BATCH, Telemetry
from monitor.telling.messages import Known, for_log, for_people, for_stream
from monitor.telling.rules import rules_of

ARRIVALS_A_TURN = 2_000


class Teller:
    """`turn` may be called as often as you like, by several workers: one at a time gets it."""

    def __init__(self, store: Store, config: Config, telemetry: Telemetry | None = None) -> None:
        self._store, self._rules = store, rules_of(config)
        self._telemetry = telemetry or Telemetry()
        self._labels = {name: model.labels for name, model in config.models.items()}
        limited = [name for name, receiver in self._rules.receivers.items() if receiver.limit is not None]
        people = [name for name, one in self._rules.receivers.items() if one.audience is Audience.PEOPLE]
        self._paging = frozenset(limited or people)  # a message to one of these is a page

    def turn(self, now_ms: int, *, flush: bool = False) -> int:
        """How many transitions were taken and messages put; 0 when there was nothing to tell, or another worker is at it.

        `flush`: the service drains, so what waits for its group is told now.
        """
        if not flush and not self._store.telling_due(now_ms):
            return 0
        begun = time.perf_counter()
        with self._store.telling() as tx:
            if tx is None:
                return 0
            done, told = self._turn(tx, now_ms, flush=flush)
            reach("before_telling_commit")
        reach("after_telling_commit")
        self._telemetry.observe(BATCH, "tell", seconds=time.perf_counter() - begun)
        for row in told:
            self._telemetry.told(row.receiver, row.outcome)
        return done

    def _turn(self, tx: TellingTransaction, now_ms: int, *, flush: bool) -> tuple[int, Sequence[ToldRow]]:
        desk = tx.desk()
        # Before the arrivals: what is committed in between is an arrival then, and its newest state known.
        newest = tx.alerts({name for group in desk.groups.values() for name in group.members})
        arrivals = tx.arrivals(ARRIVALS_A_TURN)
        current = {row.id: row for row in (*newest, *arrivals)}
        marks = tx.acknowledgements(current.keys())
        rules = replace(self._rules, silences=tx.silences(now_ms))
        turn = pipeline.turn(
            rules,
            desk,
            {row.id: self._alert(row, marks) for row in newest},
            [self._alert(row, marks) for row in arrivals],
            now_ms,
            flush=flush and len(arrivals) < ARRIVALS_A_TURN,  # the rest of the groups' alerts comes first
        )
        put = self._put_messages(tx, turn, current, arrivals, now_ms)
        told = _told(turn, now_ms)
        tx.put_told(told)
        tx.put_pages(self._pages(turn, current, now_ms))
        tx.keep(turn.desk, turn.changed, turn.look_ms)
        tx.taken([row.seq for row in arrivals])
        return len(arrivals) + put, told

    def _put_messages(
        self,
        tx: TellingTransaction,
        turn: Turn,
        current: Mapping[str, AlertRow],
        arrivals: Sequence[AlertRow],
        now_ms: int,
    ) -> int:
        streams = [message for message in turn.messages if self._is_stream(message)]
        here = {row.seq for row in arrivals}
        waited = {seq for message in streams for seq in message.notice.transitions} - here
        known = Known.of(current.values(), arrivals, tx.transitions(waited) if waited else ())
        rows = for_log(arrivals, known, now_ms)
        for message in turn.messages:
            if self._is_stream(message):
                rows += for_stream(message, current, known, now_ms)
            else:
                rows.append(for_people(message, current, turn.desk, now_ms))
        for row in rows:
            tx.put_outbox(row)
        return len(turn.messages)

    def _pages(self, turn: Turn, current: Mapping[str, AlertRow], now_ms: int) -> set[tuple[str, str, int]]:
        """Each incident that somebody is woken for. What goes out once a day wakes nobody."""
        return {
            (current[name].incident, current[name].model, now_ms)
            for message in turn.messages
            if message.receiver in self._paging and message.notice.firing
            if message.storm is not None or not self._is_digest(message)
            for name in message.notice.firing
            if name in current
        }

    def _is_stream(self, message: Message) -> bool:
        return self._rules.receivers[message.receiver].audience is Audience.STREAM

    def _is_digest(self, message: Message) -> bool:
        place = Place.of(message.key)
        route = self._rules.route_of(place)
        return place.route == DIGEST or (route is not None and route.digest)

    def _alert(self, row: AlertRow, marks: Mapping[str, Acknowledgement]) -> Alert:
        seen = {**alert_object(row), "check": row.check}
        labels = routing.labels(seen, self._labels.get(row.model, {}))
        severity = Severity(row.severity)
        return Alert(
            id=row.id, seq=row.seq, incident=row.incident, model=row.model, monitor=row.monitor, subject=row.subject,
            severity=severity, firing=row.status == Status.FIRING, starts_at_ms=row.starts_at_ms, at_ms=row.at_ms, check=row.check,
            version=row.version or None, segment=labels.get("segment"), labels=labels, text=row.text, stale=row.stale,
            acknowledged=in_hand(marks.get(row.id), severity),
        )  # fmt: skip


def _told(turn: Turn, now_ms: int) -> list[ToldRow]:
    """One record for each alert and receiver: of several in one turn the last holds."""
    newest = {(record.alert, record.receiver): record for record in turn.records}
    return [
        ToldRow(alert=alert, receiver=receiver, outcome=str(record.outcome), detail=record.detail, at_ms=now_ms)
        for (alert, receiver), record in newest.items()
    ]
