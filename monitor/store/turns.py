"""Turns: what one worker at a time may do, over all of them. On SQLite writers take turns anyway."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.tables import turn


def take(connection: Connection, name: str, *, wait: bool) -> bool:
    """Hold the turn until the transaction ends; False, without `wait`, while another does. Raises BusyError when that takes too long."""
    row = sa.select(turn.c.name).where(turn.c.name == name).with_for_update(skip_locked=not wait)
    return connection.scalar(row) is not None
