"""The join of predictions and outcomes: what a checkpoint submits, settled against what is stored, in its transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from sqlalchemy.engine import Connection

from monitor.joining.columns import Submission, submission
from monitor.joining.outcomes import JoinBatch, LayoutKey
from monitor.joining.settle import Before, Settled, settle
from monitor.store.engine import Database
from monitor.store.outcome_codes import Codes
from monitor.store.outcome_log import LogTable
from monitor.store.outcome_upsert import UpsertTable
from monitor.store.records import ExpiredRows, JoinSize


class JoinTable(Protocol):
    """How the two databases keep the rows."""

    def enter(self, connection: Connection, submitted: Submission) -> list[Before]: ...

    def finish(self, connection: Connection, submitted: Submission, settled: Settled) -> None: ...

    def expire(self, watermarks: Mapping[int, int], batch: int) -> Iterator[tuple[int, ExpiredRows]]: ...

    def size(self) -> JoinSize: ...


class Join:
    """The join of one store."""

    def __init__(self, db: Database) -> None:
        self._codes = Codes(db)
        self._table: JoinTable = LogTable(db) if db.is_sqlite else UpsertTable(db)

    def prepare(self, batch: JoinBatch | None) -> Submission | None:
        """All that can be done before the transaction; None where nothing was submitted. May give codes to new layouts."""
        if batch is None:
            return None
        models = {rows.model for rows in batch.outcomes} | {rows.model for rows in batch.retractions}
        layouts = [rows.layout for rows in batch.predictions]
        submitted = submission(batch, self._codes.of([*layouts, *(LayoutKey(model, "", "") for model in models)]))
        return submitted if submitted.keys else None

    def settle(self, connection: Connection, submitted: Submission) -> Settled:
        """Store the submission and say what it changed."""
        before = self._table.enter(connection, submitted)
        settled = settle(submitted, before, self._codes.layouts(connection))
        self._table.finish(connection, submitted, settled)
        return settled

    def expire(self, watermarks: Mapping[str, int], batch: int) -> dict[str, ExpiredRows]:
        codes = {code: model for model, code in self._codes.models().items() if model in watermarks}
        total: dict[str, ExpiredRows] = {}
        for code, rows in self._table.expire({code: watermarks[model] for code, model in codes.items()}, batch):
            old = total.get(codes[code], ExpiredRows())
            total[codes[code]] = ExpiredRows(*(a + b for a, b in zip(old, rows, strict=True)))
        return total

    def size(self) -> JoinSize:
        return self._table.size()
