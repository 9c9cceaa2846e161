"""Where receivers have their first message of an incident, so that they go on there after a restart."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
import structlog

from monitor.errors import TransientError
from monitor.store.engine import Database, upsert
from monitor.store.tables import post

log = structlog.get_logger()

_t = post.c


class StoredPosts:
    """`alerts.notifiers.slack.Posts` of one receiver; raises nothing: what the store cannot say now is posted anew."""

    def __init__(self, db: Database, receiver: str, now_ms: Callable[[], int]) -> None:
        self._db, self._receiver, self._now_ms = db, receiver, now_ms

    def recall(self, incident: str) -> tuple[str, str] | None:
        try:
            with self._db.read() as connection:
                row = connection.execute(sa.select(_t.channel, _t.ts).where(self._this(incident))).one_or_none()
        except TransientError as error:
            log.warning("first message of an incident not found", receiver=self._receiver, error=str(error))
            return None
        return None if row is None else (row.channel, row.ts)

    def remember(self, incident: str, channel: str, ts: str) -> None:
        """The newest one holds."""
        values = {
            "receiver": self._receiver,
            "incident": incident,
            "channel": channel,
            "ts": ts,
            "at_ms": self._now_ms(),
        }
        try:
            with self._db.write() as connection:
                insert = upsert(connection, post)
                changed = {name: insert.excluded[name] for name in ("channel", "ts", "at_ms")}
                statement = insert.on_conflict_do_update(index_elements=list(post.primary_key), set_=changed)
                connection.execute(statement, values)
        except TransientError as error:
            log.warning("first message of an incident not kept", receiver=self._receiver, error=str(error))

    def forget(self, incident: str) -> None:
        try:
            with self._db.write() as connection:
                connection.execute(sa.delete(post).where(self._this(incident)))
        except TransientError as error:
            log.warning("first message of an incident not forgotten", receiver=self._receiver, error=str(error))

    def _this(self, incident: str) -> sa.ColumnElement[bool]:
        return (_t.receiver == self._receiver) & (_t.incident == incident)
