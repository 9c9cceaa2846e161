"""The references of the models: immutable, in force from a window boundary."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.engine import Database, columns_of, records, values_of
from monitor.store.records import FROM_THE_BEGINNING_MS, ReferenceRow
from monitor.store.tables import REFERENCE_GENERATION, counter, pane, reference, state


def add_reference(db: Database, row: ReferenceRow, *, window_ms: int) -> None:
    with db.write() as connection:
        # This waits for checkpoints under way (they share the row's lock) and fences those to come: no pane appears behind our back.
        _bump_generation(connection)
        t = reference.c
        of_version = (t.model == row.model) & (t.version == row.version)
        newest = connection.execute(sa.select(t.hash, t.settings).where(of_version).order_by(t.seq.desc()).limit(1))
        if newest.one_or_none() == (row.hash, row.settings):
            connection.rollback()  # two workers built the same one: nothing to fence anybody for
            return
        newest_pane = connection.scalar(_newest_pane(row.model, row.version))
        effective = FROM_THE_BEGINNING_MS if newest_pane is None else newest_pane + window_ms
        connection.execute(sa.insert(reference), values_of(row, effective_from_ms=effective))


def _newest_pane(model: str, version: str) -> sa.Select[Any]:
    """Of the model; for a version's own reference, of the version: what has no predictions yet can be judged by nothing else."""
    if version:
        of_version = (state.c.model == model) & (state.c.version == version)
        return sa.select(sa.func.max(state.c.start_ms)).where(of_version)
    return sa.select(sa.func.max(pane.c.start_ms)).where(pane.c.model == model)


def references(db: Database, model: str | None = None) -> list[ReferenceRow]:
    statement = sa.select(*columns_of(reference, ReferenceRow)).order_by(reference.c.seq)
    if model is not None:
        statement = statement.where(reference.c.model == model)
    with db.read() as connection:
        return records(connection, statement, ReferenceRow)


def reference_generation(db: Database) -> int:
    with db.read() as connection:
        return generation(connection)


def generation(connection: Connection, *, share: bool = False) -> int:
    """How often a reference was added. With `share` it stays so until the transaction ends."""
    statement = sa.select(counter.c.value).where(counter.c.name == REFERENCE_GENERATION)
    value: int = connection.execute(statement.with_for_update(read=True) if share else statement).scalar_one()
    return value


def _bump_generation(connection: Connection) -> None:
    bump = sa.update(counter).where(counter.c.name == REFERENCE_GENERATION).values(value=counter.c.value + 1)
    connection.execute(bump)
