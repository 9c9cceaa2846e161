"""The way of a transition to the people: inhibit -> silence -> time windows -> group -> deduplicate -> route -> deliver -> record.

`turn` is the whole of it, pure: what was stored, what arrived, and the time go in; messages, what to store, and a
reason for everything that is not told come out. The caller commits all of that in one transaction with having taken
the arrivals, so nothing is lost and nothing is decided twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alerts import inhibition, silence
from alerts.alert import Alert
from alerts.desk import Desk, Outcome, Rules, Turn, Work


def turn(
    rules: Rules,
    desk: Desk,
    alerts: Mapping[str, Alert],
    arrivals: Sequence[Alert],
    now_ms: int,
    *,
    flush: bool = False,
) -> Turn:
    """One look at everything that arrived or is due. `alerts`: newest state of each that fires or is in a group.

    `arrivals` come in order of their seq. `flush`: the service drains; what waits is told now.
    """
    known = {**alerts, **{alert.id: alert for alert in arrivals}}
    work = Work(rules, desk, known, now_ms, flush=flush)
    work.dispatch(arrivals)

    inhibited = inhibition.inhibited(known.values(), rules.inhibit)
    for key in work.due():
        route, members = work.route(key), work.members(key)
        explained, silences = ({}, ()) if work.is_stream(key) else (inhibited, rules.silences)  # a machine is told all
        silenced = {a.id: s for a in members if (s := silence.silenced_by(a.labels, silences, now_ms))}
        closed = route.out_of_hours(now_ms)
        muted = {a.id: reason for a in members if (reason := _muted(explained.get(a.id), silenced.get(a.id), closed))}
        work.look(key, muted)  # group and deduplicate; the rest is recorded with its reason
    work.deliver()
    return work.done()


def _muted(
    inhibited: inhibition.Inhibited | None, silenced: silence.Silence | None, closed: str | None
) -> tuple[Outcome, str] | None:
    """The first of the reasons, in the order in which they are asked."""
    if inhibited is not None:
        return Outcome.INHIBITED, inhibited.text
    if silenced is not None:
        return Outcome.SILENCED, silenced.describe()
    return None if closed is None else (Outcome.OUT_OF_HOURS, closed)
