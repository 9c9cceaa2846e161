"""What the pipeline keeps and gives: rules, groups at work, messages, and a record of what became of each alert."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from alerts import grouping, incident, inhibition, routing, silence, storm
from alerts.alert import Alert
from alerts.grouping import Audience, Group, Notice, Untold, Why
from alerts.lifecycle import Severity
from alerts.routing import LOG, Route

DIGEST = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """`limit` is for receivers that wake people: more than that is collapsed into a summary."""

    audience: Audience
    limit: storm.Limit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is configured, and the silences there are. `receivers` in order of configuration; the log is told by itself
    and in neither.
    """

    receivers: Mapping[str, Receiver]
    routes: Sequence[Route] = ()
    silences: Sequence[silence.Silence] = ()
    inhibit: Sequence[inhibition.Rule] = inhibition.RULES

    def route_of(self, place: Place) -> Route | None:
        """The route of a stored group as it is configured now; None when its receiver is gone."""
        if place.receiver not in self.receivers:
            return None
        found = next((route for route in self.routes if route.name == place.route), None)
        return found or Route(receiver=place.receiver, digest=place.route == DIGEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which group: receiver, route and the labels that its alerts share. `key` is all of that as text, for the store."""

    receiver: str
    route: str
    labels: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        return json.dumps([self.receiver, self.route, self.labels], separators=(",", ":"))

    @classmethod
    def of(cls, key: str) -> Place:
        receiver, route, labels = json.loads(key)
        return cls(receiver=receiver, route=route, labels=tuple((name, value) for name, value in labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All that is stored between turns: groups by key, storms by receiver, and which incidents are part of others."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    storms: Mapping[str, storm.StormState] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def look_ms(self) -> int | None:
        """When the next group is due without arrivals; `Turn.look_ms` knows of storms, too."""
        return min((g.look_ms for g in self.groups.values() if g.look_ms is not None), default=None)


def acknowledge(desk: Desk, alert: str, *, taken: bool = True) -> tuple[Desk, frozenset[str]]:
    """Somebody has the alert in hand: its groups are not repeated while that is so. Also the keys of what changed."""
    keys = frozenset(key for key, group in desk.groups.items() if alert in group.members)
    touched = {key: grouping.acknowledge(desk.groups[key], alert, taken=taken) for key in keys}
    return replace(desk, groups={**desk.groups, **touched}), keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to one receiver. `key` names the group (or the storm) that it continues: the receiver's deduplication
    key. `order`: messages of one receiver with the same `order` must arrive in the order given here.
    """

    receiver: str
    key: str
    order: str
    notice: Notice
    incidents: tuple[str, ...]
    storm: storm.Summary | None = None


class Outcome(StrEnum):
    """What became of an alert at a receiver, and why."""

    TOLD = "told"
    UNMATCHED = "unmatched"  # no route fits: the log only
    STALE = "stale"  # its window was older than page_max_age: the digest only
    INHIBITED = "inhibited"
    SILENCED = "silenced"
    OUT_OF_HOURS = "out_of_hours"
    OVER_BEFORE_TOLD = "over_before_told"
    HELD = "held"  # too many messages: it waits for a summary
    COLLAPSED = "collapsed"  # told in a summary
    NOT_CONFIGURED = "not_configured"  # the receiver is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`detail` says by what: the silence, the other alert, the hours. Of an alert and a receiver the newest record holds;
    what is muted is recorded again at every look.
    """

    alert: str
    receiver: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """`changed` are the keys of groups to write (those missing in `desk.groups` are to be deleted)."""

    desk: Desk
    messages: Sequence[Message]
    records: Sequence[Record]
    changed: frozenset[str]
    look_ms: int | None


class Work:
    """The state of one turn; `alerts.pipeline.turn` says in which order it is used."""

    def __init__(self, rules: Rules, desk: Desk, known: Mapping[str, Alert], now_ms: int, *, flush: bool) -> None:
        self._rules, self._known, self._now_ms, self._flush = rules, known, now_ms, flush
        self._groups, self._storms = dict(desk.groups), dict(desk.storms)
        active = {alert.incident for alert in known.values() if alert.firing}
        self._links = {own: home for own, home in desk.links.items() if own in active or home in active}
        # By people: a stream's groups are of no incident.
        self._told = {name for key, g in desk.groups.items() if g.sent_ms is not None for name in _incidents(key)}
        self._changed: set[str] = set()
        self._wanted: list[tuple[str, Notice, Sequence[Alert]]] = []
        self._messages: list[Message] = []
        self._records: list[Record] = []
        self._looks: list[int] = []
        self._whose: dict[int, str] = {}  # transition -> alert

    # -- route and group ----------------------------------------------------------------------------------------------

    def dispatch(self, arrivals: Sequence[Alert]) -> None:
        """Put each arrival into the groups of its routes, and into those that have its episode already."""
        for key in [key for key in self._groups if self._rules.route_of(Place.of(key)) is None]:
            for name in self._groups[key].members:
                self.record(key, name, Outcome.NOT_CONFIGURED)
            del self._groups[key]
            self._changed.add(key)
        before, self._links = self._links, incident.shared(self._known.values(), self._links, self._told)
        self._move({own: home for own, home in self._links.items() if own not in before})
        homes: dict[str, set[str]] = {}
        for key, group in self._groups.items():
            for name in group.members:
                homes.setdefault(name, set()).add(key)
        for alert in arrivals:
            keys = homes.setdefault(alert.id, set())
            keys |= {place.key for place in self._places(alert, {Place.of(key).receiver for key in keys})}
            for key in sorted(keys):
                timing = self.route(key).timing_for(self._audience(key))
                self._groups[key] = grouping.arrive(self._groups.get(key), [alert], timing, self._now_ms)
                self._changed.add(key)

    def _move(self, links: Mapping[str, str]) -> None:
        """Groups move to the incident that theirs turned out to be part of; `incident.shared` leaves alone what was told."""
        for key, group in list(self._groups.items()):
            place = Place.of(key)
            home = links.get(dict(place.labels).get("incident", ""))
            if home is None:
                continue
            shared = tuple((name, home if name == "incident" else value) for name, value in place.labels)
            target = replace(place, labels=shared).key
            self._groups[target] = grouping.joined(self._groups.get(target), group)
            del self._groups[key]
            self._changed |= {key, target}

    def _places(self, alert: Alert, told: set[str]) -> Iterable[Place]:
        """Groups of receivers that do not have the episode yet. An end that nobody waits for opens no group for people."""
        decision = routing.decide(alert.labels, self._rules.routes, tuple(self._rules.receivers))
        if decision.reason is routing.Reason.UNMATCHED:
            self._records.append(Record(alert=alert.id, receiver=LOG, outcome=Outcome.UNMATCHED))
        routes = [self._rules.routes[place] for place in decision.routes]
        if decision.reason is routing.Reason.NO_ROUTES:
            routes = [Route(receiver=name) for name in self._rules.receivers]
        for route in routes:
            receiver = self._rules.receivers.get(route.receiver)
            if receiver is None or route.receiver in told:
                continue
            people = receiver.audience is Audience.PEOPLE
            if not alert.firing and people:
                continue
            if alert.stale:
                self._records.append(Record(alert=alert.id, receiver=route.receiver, outcome=Outcome.STALE))
                if people and receiver.limit is None:  # who has a limit is woken by every message
                    yield Place(receiver=route.receiver, route=DIGEST, labels=())
                continue
            if people:
                home = self._links.get(alert.incident, alert.incident)
                shared = (
                    {} if route.digest else routing.group_labels({**alert.labels, "incident": home}, route.group_by)
                )
            else:  # one group a model, whatever the route says: its messages stay in order per fingerprint
                shared = {"model": alert.model}
            yield Place(receiver=route.receiver, route=route.name, labels=tuple(sorted(shared.items())))

    def due(self) -> list[str]:
        """Keys of the groups to look at now, the longest due first."""
        due = [
            (group.look_ms or 0, key)
            for key, group in self._groups.items()
            if self._flush or (group.look_ms is not None and group.look_ms <= self._now_ms)
        ]
        return [key for _, key in sorted(due)]

    def route(self, key: str) -> Route:
        found = self._rules.route_of(Place.of(key))
        if found is None:
            raise ValueError(f"group {key} has no receiver")
        return found

    def members(self, key: str) -> list[Alert]:
        return [self._known[name] for name in self._groups[key].members if name in self._known]

    def is_stream(self, key: str) -> bool:
        return self._audience(key) is Audience.STREAM

    def look(self, key: str, muted: Mapping[str, tuple[Outcome, str]]) -> None:
        """Group and deduplicate: what of this group is new to whom it goes is wanted, the rest recorded with its reason."""
        audience = self._audience(key)
        timing = self.route(key).timing_for(audience)
        for member in self._groups[key].members.values():
            self._whose |= dict.fromkeys(member.waiting, member.alert)
        found = grouping.look(self._groups[key], timing, audience, muted, self._now_ms, flush=self._flush)
        self._changed.add(key)
        if found.group is None:
            del self._groups[key]
        else:
            self._groups[key] = found.group
        if found.notice is not None:
            names = (*found.notice.firing, *found.notice.resolved)
            self._wanted.append((key, found.notice, [self._known[name] for name in names if name in self._known]))
        for name, untold in found.untold.items():
            if untold is Untold.ALREADY_TOLD:
                continue
            outcome, detail = muted.get(name) or (Outcome(untold.value), "")
            self.record(key, name, outcome, detail)

    # -- deliver and record -------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Everything that is wanted goes out, save what would wake people too often."""
        for name, receiver in self._rules.receivers.items():
            mine = [wanted for wanted in self._wanted if Place.of(wanted[0]).receiver == name]
            if receiver.limit is None or receiver.audience is Audience.STREAM:
                for key, notice, alerts in mine:
                    self._send(key, notice, alerts)
            elif mine or name in self._storms:
                self._deliver_within(name, receiver.limit, mine)

    def _deliver_within(
        self, name: str, limit: storm.Limit, mine: Sequence[tuple[str, Notice, Sequence[Alert]]]
    ) -> None:
        before = self._storms.get(name, storm.StormState())
        state = self._without_ended(before)
        wanted: list[storm.Held] = []
        by_key = {key: (notice, alerts) for key, notice, alerts in mine}
        for key, notice, alerts in mine:
            if notice.why is not Why.RESOLVED:
                wanted.append(_held(key, alerts, self._now_ms))
            elif before.waits_for_no_end(key):
                for alert in alerts:
                    self.record(key, alert.id, Outcome.COLLAPSED)
            else:
                self._send(key, notice, alerts)
        admitted = storm.admit(state, limit, wanted, self._now_ms, flush=self._flush)
        for key in admitted.passed:
            notice, alerts = by_key.get(key) or self._again(key)
            if alerts:
                self._send(key, notice, alerts)
        if admitted.summary is not None:
            self._send_summary(name, admitted.summary, by_key)
        for held in admitted.state.held:
            for alert in by_key.get(held.key, (None, ()))[1]:
                self.record(held.key, alert.id, Outcome.HELD)
        if admitted.look_ms is not None:
            self._looks.append(admitted.look_ms)
        self._end(name, admitted.state)

    def _end(self, name: str, state: storm.StormState) -> None:
        """A summary whose groups are all over is resolved, as any other message."""
        after, over = storm.end(state, self._groups)
        for summary_id in over:
            notice = Notice(why=Why.RESOLVED, firing=(), resolved=(), transitions=())
            self._messages.append(Message(receiver=name, key=summary_id, order=summary_id, notice=notice, incidents=()))
        self._storms[name] = after
        if after == storm.StormState():
            del self._storms[name]

    def _without_ended(self, state: storm.StormState) -> storm.StormState:
        """What waits and was over meanwhile need not be told; nor is its end, then."""
        for held in state.held:
            group = self._groups.get(held.key)
            if group is not None and any(member.firing for member in group.members.values()):
                continue
            if group is not None and held.key not in state.alone:
                self._groups[held.key] = grouping.taken_back(group)
                self._changed.add(held.key)
            state = storm.forget(state, held.key)
        return state

    def _again(self, key: str) -> tuple[Notice, Sequence[Alert]]:
        """The notice of a message that was held in an earlier turn, as things are now: all that fires in its group."""
        group = self._groups.get(key)
        alerts = [alert for alert in (self.members(key) if group is not None else ()) if alert.firing]
        names = tuple(alert.id for alert in alerts)
        seqs = tuple(alert.seq for alert in alerts)
        return Notice(why=Why.NEW, firing=names, resolved=(), transitions=seqs), alerts

    def _send(self, key: str, notice: Notice, alerts: Sequence[Alert]) -> None:
        receiver = Place.of(key).receiver
        by_name = {alert.id: alert for alert in alerts}
        if self.is_stream(key):
            for part in self._parts(notice, by_name):
                first = by_name[(*part.firing, *part.resolved)[0]]
                self._messages.append(
                    Message(receiver=receiver, key=key, order=first.model, notice=part, incidents=(first.incident,))
                )
        else:
            incidents = tuple(dict.fromkeys(alert.incident for alert in alerts))
            self._messages.append(Message(receiver=receiver, key=key, order=key, notice=notice, incidents=incidents))
        self._records += [Record(alert=name, receiver=receiver, outcome=Outcome.TOLD) for name in by_name]

    def _parts(self, notice: Notice, alerts: Mapping[str, Alert]) -> Iterable[Notice]:
        """What a stream is told, cut where the incident changes: each message is of one, and all stay in order."""
        said = [(seq, self._whose[seq]) for seq in notice.transitions if self._whose[seq] in alerts]
        said = said or [(0, name) for name in notice.firing if name in alerts]  # a repetition tells no transition
        for _, run in groupby(said, key=lambda entry: alerts[entry[1]].incident):
            part = list(run)
            names = {name for _, name in part}
            yield replace(
                notice,
                firing=tuple(name for name in notice.firing if name in names),
                resolved=tuple(name for name in notice.resolved if name in names),
                transitions=tuple(seq for seq, _ in part if seq),
            )

    def _send_summary(
        self,
        name: str,
        summary: storm.Summary,
        by_key: Mapping[str, tuple[Notice, Sequence[Alert]]],
    ) -> None:
        firing: list[Alert] = []
        for held in summary.held:
            alerts = (by_key.get(held.key) or self._again(held.key))[1]
            firing += [alert for alert in alerts if alert.firing]
            for alert in alerts:
                self.record(held.key, alert.id, Outcome.COLLAPSED, summary.id)
        names = tuple(alert.id for alert in firing)
        notice = Notice(why=Why.NEW, firing=names, resolved=(), transitions=tuple(a.seq for a in firing))
        incidents = tuple(dict.fromkeys(held.incident for held in summary.held))
        self._messages.append(
            Message(receiver=name, key=summary.id, order=summary.id, notice=notice, incidents=incidents, storm=summary)
        )

    def record(self, key: str, alert: str, outcome: Outcome, detail: str = "") -> None:
        self._records.append(Record(alert=alert, receiver=Place.of(key).receiver, outcome=outcome, detail=detail))

    def done(self) -> Turn:
        desk = Desk(groups=self._groups, storms=self._storms, links=self._links)
        looks = [moment for moment in (desk.look_ms, *self._looks) if moment is not None]
        return Turn(
            desk=desk,
            messages=self._messages,
            records=self._records,
            changed=frozenset(self._changed),
            look_ms=min(looks, default=None),
        )

    def _audience(self, key: str) -> Audience:
        return self._rules.receivers[Place.of(key).receiver].audience


def _incidents(key: str) -> list[str]:
    return [value for name, value in Place.of(key).labels if name == "incident"]


def _held(key: str, alerts: Sequence[Alert], now_ms: int) -> storm.Held:
    worst = min(alerts, key=lambda a: (a.severity is not Severity.CRITICAL, a.seq))
    return storm.Held(
        key=key,
        incident=worst.incident,
        models=tuple(sorted({alert.model for alert in alerts})),
        is_critical=worst.severity is Severity.CRITICAL,
        text=worst.text,
        at_ms=now_ms,
    )
