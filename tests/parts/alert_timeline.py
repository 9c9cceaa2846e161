"""Timelines of alerts as text, played on virtual time through the whole pipeline.

```
10:00:00 fires churn quality age            an alert fires: model, monitor, subject; also: critical, stale, segment=EU
10:10:00 over churn quality age
12:00:00 silence model=churn for 2h
12:00:00 ack churn quality age
10:00:30 expect oncall new: churn/quality/age          at that time; also: between 10:00:30 and 10:05:00 expect ...
10:05:00 expect oncall resolved: -churn/quality/age    what is over has a minus
```

Every message to a receiver of people must be expected, so that one too many fails as well as one too few.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from alerts import routing
from alerts.alert import Alert
from alerts.desk import Desk, Message, Place, Receiver, Record, Rules, acknowledge
from alerts.grouping import Audience, decode_group, encode_group
from alerts.lifecycle import Severity
from alerts.matching import parse_matchers
from alerts.pipeline import turn
from alerts.routing import Route
from alerts.silence import Silence
from alerts.storm import Limit, decode_storm, encode_storm

HOUR = 3_600_000
_DAY = re.compile(r"(?:day (\d+) )?(\d\d):(\d\d):(\d\d)")
_SPANS = {"s": 1_000, "m": 60_000, "h": HOUR, "d": 24 * HOUR}

PEOPLE = Receiver(audience=Audience.PEOPLE)
STREAM = Receiver(audience=Audience.STREAM)


def clock(text: str) -> int:
    """`10:00:30` or `day 2 10:00:30`, ms since the first midnight."""
    found = _DAY.fullmatch(text.strip())
    assert found is not None, text
    return int(found[1] or 0) * 86_400_000 + int(found[2]) * HOUR + int(found[3]) * 60_000 + int(found[4]) * 1_000


@dataclass(frozen=True)
class Sent:
    at_ms: int
    message: Message
    what: str

    def __str__(self) -> str:
        seconds = self.at_ms // 1_000
        day = f"day {seconds // 86_400} " if seconds >= 86_400 else ""
        time = f"{seconds // 3_600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return f"{day}{time} expect {self.receiver} {self.what}"

    @property
    def receiver(self) -> str:
        return self.message.receiver


@dataclass
class Played:
    """Rules on virtual time. Between turns everything goes through its stored form, so restarts are in every test."""

    receivers: dict[str, Receiver]
    routes: Sequence[Route] = ()
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    desk: Desk = field(default_factory=Desk)
    alerts: dict[str, Alert] = field(default_factory=dict)
    incidents: dict[str, str] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    records: list[tuple[int, Record]] = field(default_factory=list)
    look_ms: int | None = None
    seq: int = 0

    def turn(self, now_ms: int, arrivals: Sequence[Alert] = (), *, flush: bool = False) -> None:
        rules = Rules(receivers=self.receivers, routes=self.routes, silences=self.silences)
        self.alerts |= {alert.id: alert for alert in arrivals}
        done = turn(rules, stored(self.desk), self.alerts, arrivals, now_ms, flush=flush)
        gone = {key for key, group in self.desk.groups.items() if done.desk.groups.get(key) != group}
        new = {key for key, group in done.desk.groups.items() if self.desk.groups.get(key) != group}
        assert gone | new <= done.changed, "a changed group was not said to be"
        self.desk, self.look_ms = done.desk, done.look_ms
        self.sent += [Sent(now_ms, message, self.words(message)) for message in done.messages]
        self.records += [(now_ms, record) for record in done.records]
        used = {name for group in self.desk.groups.values() for name in group.members}
        self.alerts = {name: alert for name, alert in self.alerts.items() if alert.firing or name in used}
        firing = {alert.incident for alert in self.alerts.values() if alert.firing}
        self.incidents = {model: name for model, name in self.incidents.items() if name in firing}

    def until(self, now_ms: int) -> None:
        while self.look_ms is not None and self.look_ms <= now_ms:
            self.turn(self.look_ms)

    def words(self, message: Message) -> str:
        if message.storm is not None:
            return f"storm: {len(message.storm.held)}"
        names = [self.named(name) for name in message.notice.firing]
        names += ["-" + self.named(name) for name in message.notice.resolved]
        return f"{message.notice.why}: {' '.join(sorted(names))}".strip()

    def named(self, name: str) -> str:
        return name.rpartition("@")[0]

    def transition(self, now_ms: int, model: str, monitor: str, subject: str, *more: str, firing: bool) -> Alert:
        segment = next((word.partition("=")[2] for word in more if word.startswith("segment=")), None)
        known = next(
            (a for a in self.alerts.values() if a.firing and self.named(a.id) == f"{model}/{monitor}/{subject}"), None
        )
        incident = known.incident if known else self.incidents.setdefault(model, f"{model}@{now_ms}")
        self.seq += 1
        severity = (
            Severity.CRITICAL
            if "critical" in more or (known and not firing and known.severity == "critical")
            else Severity.WARNING
        )
        obj = {"model": model, "monitor": monitor, "subject": subject, "severity": severity, "incident": incident,
               "segment": {"s": segment} if segment else None}  # fmt: skip
        return Alert(
            id=known.id if known else f"{model}/{monitor}/{subject}@{now_ms}", seq=self.seq, incident=incident, model=model,
            monitor=monitor, subject=subject, severity=severity, firing=firing, stale="stale" in more,
            starts_at_ms=known.starts_at_ms if known else now_ms - HOUR, at_ms=now_ms, segment=segment, text=f"{subject} moved",
            labels=routing.labels(obj, self.labels.get(model, {})),
        )  # fmt: skip

    def play(self, text: str) -> list[str]:
        """Do what the timeline says; what was expected and did not come, and what came and was not."""
        wanted: list[tuple[int, int, str]] = []
        last = 0
        happens: dict[int, list[list[str]]] = {}
        for line in filter(None, (line.partition("  #")[0].strip() for line in text.strip().splitlines())):
            span = re.fullmatch(r"between (.+) and (.+) expect (.+)", line)
            at = re.fullmatch(r"((?:day \d+ )?[\d:]+) (.+)", line)
            if span:
                wanted.append((clock(span[1]), clock(span[2]), span[3]))
                last = max(last, clock(span[2]))
                continue
            assert at is not None, line
            now_ms = clock(at[1])
            last = max(last, now_ms)
            if at[2].startswith("expect "):
                wanted.append((now_ms, now_ms, at[2].removeprefix("expect ")))
            else:
                happens.setdefault(now_ms, []).append(at[2].split())
        for now_ms in sorted(happens):
            self.until(now_ms)
            self._happen(now_ms, happens[now_ms])
        self.until(last)
        return self._compare(wanted)

    def _happen(self, now_ms: int, words: Sequence[Sequence[str]]) -> None:
        arrivals = []
        for verb, *rest in words:
            if verb in ("fires", "over"):
                arrivals.append(self.transition(now_ms, *rest, firing=verb == "fires"))
                self.alerts[arrivals[-1].id] = arrivals[-1]
            elif verb == "silence":
                span = rest[-1]
                ends_ms = now_ms + int(span[:-1]) * _SPANS[span[-1]]
                matchers = parse_matchers(" ".join(rest[:-2]))
                name = f"s{len(self.silences)}"
                self.silence(Silence(id=name, matchers=matchers, starts_ms=now_ms, ends_ms=ends_ms, who="ada", why="w"))
            elif verb == "ack":
                self.acknowledge(next(a for a in self.alerts.values() if self.named(a.id) == "/".join(rest)), now_ms)
            else:
                raise AssertionError(verb)
        if arrivals:
            self.turn(now_ms, arrivals)

    def silence(self, silence: Silence) -> None:
        self.silences.append(silence)

    def acknowledge(self, alert: Alert, now_ms: int) -> None:
        self.desk, _ = acknowledge(self.desk, alert.id)

    def _compare(self, wanted: Sequence[tuple[int, int, str]]) -> list[str]:
        heard = [sent for sent in self.sent if self.receivers[sent.receiver].audience is Audience.PEOPLE]
        faults = []
        for first_ms, last_ms, what in wanted:
            found = next(
                (s for s in heard if first_ms <= s.at_ms <= last_ms and f"{s.receiver} {s.what}" == what), None
            )
            if found is None:
                faults.append(f"not sent: {what}")
            else:
                heard.remove(found)
        return faults + [f"not expected: {sent}" for sent in heard]


def stored(desk: Desk) -> Desk:
    groups = {Place.of(key).key: decode_group(encode_group(group)) for key, group in desk.groups.items()}
    storms = {name: decode_storm(encode_storm(state)) for name, state in desk.storms.items()}
    return Desk(groups=groups, storms=storms, links=desk.links)


__all__ = ["HOUR", "PEOPLE", "STREAM", "Limit", "Played", "Sent", "clock"]
