"""Telling: taking the transitions that closers left pending, and all that is kept of them until people have heard, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alerts.desk import Desk
from alerts.lifecycle import Acknowledgement
from alerts.silence import Silence
from monitor.store import transitions
from monitor.store.acknowledgements import newest_acknowledgements
from monitor.store.acts import read_silences
from monitor.store.desk import keep_desk, read_desk
from monitor.store.engine import BusyError, Database, upsert
from monitor.store.messages import put_message
from monitor.store.records import AlertRow, OutboxRow, ToldRow
from monitor.store.tables import TELLING, alert, alert_desk, alert_group, page
from monitor.store.turns import take

_g, _d = alert_group.c, alert_desk.c


@contextmanager
def telling(db: Database) -> Iterator[TellingTransaction | None]:
    """None while another worker is telling. On SQLite all writers take turns, and None means that the turn did not come in time."""
    with ExitStack() as stack:
        transaction = None
        try:
            connection = stack.enter_context(db.write())
            if take(connection, TELLING, wait=False):
                transaction = TellingTransaction(connection)
            else:
                stack.close()
        except BusyError:
            stack.close()
        yield transaction


def telling_due(db: Database, now_ms: int) -> bool:
    due = sa.or_(
        sa.exists().where(alert.c.pending),
        sa.exists().where(_g.look_ms <= now_ms),
        sa.exists().where(_d.look_ms <= now_ms),
    )
    with db.read() as connection:
        return bool(connection.scalar(sa.select(due)))


class TellingTransaction:
    """Committed when the block of `telling` ends, undone when it raises. Not to be kept, nor used from another thread.

    Transitions that closers commit meanwhile may be seen by a later call and not by an earlier one; what is taken is what `taken` names.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def arrivals(self, limit: int = 2_000) -> list[AlertRow]:
        """The first pending transitions, by seq. Of one model they come in the order they were put; those of several models are committed
        in any order, so a later call may find smaller numbers."""
        return transitions.pending(self._connection, limit)

    def transitions(self, seqs: Iterable[int]) -> list[AlertRow]:
        """Those of these transitions that are still kept, by seq."""
        return transitions.rows_of(self._connection, seqs)

    def alerts(self, ids: Iterable[str]) -> list[AlertRow]:
        """The newest transition of each alert that fires and of each of these (as far as it is kept), by seq."""
        firing = {row.id: row for row in transitions.firing(self._connection)}
        others = transitions.newest_of(self._connection, set(ids) - firing.keys())
        return sorted([*firing.values(), *others], key=lambda row: row.seq)

    def desk(self) -> Desk:
        """As `keep` and `Store.acknowledge` left it."""
        return read_desk(self._connection)

    def silences(self, now_ms: int) -> list[Silence]:
        """Those that are not over, also those that have not begun."""
        return read_silences(self._connection, after_ms=now_ms)

    def acknowledgements(self, ids: Collection[str]) -> dict[str, Acknowledgement]:
        """The newest one of each of these alerts that has any."""
        return newest_acknowledgements(self._connection, ids)

    def keep(self, desk: Desk, changed: Collection[str], look_ms: int | None) -> None:
        """What `alerts.desk.Turn` says: groups of `changed` are written, or forgotten where the desk has none; links and storms as they are.
        `telling_due` from `look_ms` on, or from a group's own."""
        keep_desk(self._connection, desk, changed, look_ms)

    def taken(self, seqs: Iterable[int]) -> None:
        """These transitions are pending no longer."""
        transitions.mark(self._connection, seqs, pending=False)

    def put_outbox(self, row: OutboxRow) -> None:
        """A message whose id is there already is not put again."""
        put_message(self._connection, row)

    def put_told(self, rows: Sequence[ToldRow]) -> None:
        """The newest record of an alert and a receiver takes the place of the one before."""
        transitions.put_told(self._connection, rows)

    def put_pages(self, pages: Iterable[tuple[str, str, int]]) -> None:
        """(incident, model, at_ms): people were told of it then. The first one stays."""
        rows = [dict(zip(("incident", "model", "at_ms"), row, strict=True)) for row in sorted(pages)]
        if rows:
            self._connection.execute(upsert(self._connection, page).on_conflict_do_nothing(), rows)
