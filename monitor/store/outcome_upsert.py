"""The join on PostgreSQL: one row for each key, which both sides upsert. Who comes second waits for the row and sees what the first put."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from monitor.joining.columns import Submission
from monitor.joining.outcomes import KEY_BYTES
from monitor.joining.settle import Before, Settled
from monitor.store.engine import Database, driver_cursor
from monitor.store.records import ExpiredRows, JoinSize
from monitor.store.tables import outcome_join

_PAGE_BYTES = 8192
_PAGES_A_BATCH = 1000  # of the table, looked through for expired rows in one transaction
_WORK_MEM = "64MB"  # for sorting a checkpoint's rows

_STAGING = """CREATE TEMP TABLE IF NOT EXISTS outcome_staging
    (key bytea, model integer, predictions bytea, outcomes bytea, expires_ms bigint) ON COMMIT DELETE ROWS"""
_COPY = "COPY outcome_staging (key, model, predictions, outcomes, expires_ms) FROM STDIN (FORMAT BINARY)"
# In key order, so that two checkpoints never wait for each other both ways. Only rows that were there come back, with what they held.
_UPSERT = """
WITH merged AS (
    INSERT INTO outcome_join AS j (key, model, predictions, outcomes, had, expires_ms)
    SELECT key, model, predictions, outcomes, 0, expires_ms FROM outcome_staging ORDER BY key
    ON CONFLICT (key) DO UPDATE SET
        had = (j.predictions IS NOT NULL)::integer + 2 * (j.outcomes IS NOT NULL)::integer,
        predictions = COALESCE(j.predictions, excluded.predictions),
        outcomes = COALESCE(j.outcomes, excluded.outcomes),
        expires_ms = GREATEST(j.expires_ms, excluded.expires_ms)
    RETURNING j.key, j.had, j.predictions, j.outcomes)
SELECT key, CASE WHEN had & 1 <> 0 THEN predictions END, CASE WHEN had & 2 <> 0 THEN outcomes END
FROM merged WHERE had <> 0"""

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_COLUMNS = 5


class UpsertTable:
    """`outcome_join`. The rows of one submission stay locked until the transaction ends."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def enter(self, connection: Connection, submitted: Submission) -> list[Before]:
        """Put what fills an empty row or side; returns what the rows that were there held before."""
        with driver_cursor(connection) as cursor:
            cursor.execute(f"SET LOCAL work_mem = '{_WORK_MEM}'")
            cursor.execute(_STAGING)
            with cursor.copy(_COPY) as copy:
                copy.write(_COPY_HEAD)
                for block in _staged(submitted):
                    copy.write(block)
                copy.write(_COPY_END)
            found = cursor.execute(_UPSERT, binary=True).fetchall()
        if not found:
            return []
        places = dict(zip(submitted.keys, range(len(submitted.keys)), strict=True))
        return [(places[key], predictions, outcomes) for key, predictions, outcomes in found]

    def finish(self, connection: Connection, submitted: Submission, settled: Settled) -> None:
        """Overwrite the rows that came to more than `enter` could put."""
        rows = [
            {"p_key": submitted.keys[place], "p_predictions": predictions, "p_outcomes": outcomes}
            for place, predictions, outcomes in settled.changes
        ]
        if rows:
            connection.execute(_OVERWRITE, rows)

    def expire(self, watermarks: Mapping[int, int], batch: int) -> Iterator[tuple[int, ExpiredRows]]:
        """Delete the expired rows of the models (by code) in the order in which they lie; what a transaction deleted, model by model."""
        with self._db.read() as connection:
            size: int = connection.scalar(sa.text("SELECT pg_relation_size('outcome_join')")) or 0
        for first in range(0, size // _PAGE_BYTES + 1, _PAGES_A_BATCH):
            bounds = {"low": f"({first},0)", "high": f"({first + _PAGES_A_BATCH},0)", "batch": batch}
            given = bounds | {"codes": list(watermarks), "times": list(watermarks.values())}
            deleted = batch
            while deleted >= batch:
                with self._db.write() as connection:
                    rows = connection.execute(_EXPIRE, given).all()
                deleted = sum(row.number for row in rows)
                for row in rows:
                    yield row.model, _expired(row.predictions, row.outcomes, row.number)

    def size(self) -> JoinSize:
        statement = """SELECT (SELECT reltuples FROM pg_class WHERE oid = 'outcome_join'::regclass)::bigint AS rows,
            pg_total_relation_size('outcome_join') AS bytes"""
        with self._db.read() as connection:
            rows, size = connection.execute(sa.text(statement)).one()
        return JoinSize(max(rows, 0), size)


_t = outcome_join.c
_OVERWRITE = (
    sa.update(outcome_join)
    .where(_t.key == sa.bindparam("p_key"))
    .values(predictions=sa.bindparam("p_predictions"), outcomes=sa.bindparam("p_outcomes"))
)
# Rows that a checkpoint holds are passed over: it may be giving them a longer life, and nobody waits here.
_EXPIRE = sa.text("""
WITH old AS (
    SELECT j.key FROM outcome_join j
    JOIN unnest(CAST(:codes AS integer[]), CAST(:times AS bigint[])) AS passed (model, time_ms)
        ON j.model = passed.model AND j.expires_ms <= passed.time_ms
    WHERE j.ctid >= CAST(:low AS tid) AND j.ctid < CAST(:high AS tid) LIMIT :batch FOR UPDATE OF j SKIP LOCKED),
gone AS (
    DELETE FROM outcome_join j USING old WHERE j.key = old.key
    RETURNING j.model, j.predictions IS NOT NULL AS predictions, j.outcomes IS NOT NULL AS outcomes)
SELECT model, predictions, outcomes, count(*) AS number FROM gone GROUP BY 1, 2, 3""")


def _expired(predictions: bool, outcomes: bool, count: int) -> ExpiredRows:
    if predictions and outcomes:
        return ExpiredRows(matched=count)
    return ExpiredRows(unlabelled=count) if predictions else ExpiredRows(orphans=count)


def _staged(submitted: Submission) -> Iterator[bytes]:
    """The rows in the binary format of COPY, those of equal lengths together."""
    predictions, outcomes = _lengths(submitted.predictions), _lengths(submitted.outcomes)
    if not len(predictions):
        return
    widths = np.unique(np.stack([predictions, outcomes]), axis=1)
    for prediction, outcome in widths.T.tolist():
        places = np.flatnonzero((predictions == prediction) & (outcomes == outcome))
        yield _tuples(submitted, places, prediction, outcome)


def _lengths(blobs: Sequence[bytes | None]) -> NDArray[np.int64]:
    """-1 for None, as COPY has it."""
    return np.array([-1 if blob is None else len(blob) for blob in blobs], np.int64)


def _tuples(submitted: Submission, places: NDArray[np.intp], prediction: int, outcome: int) -> bytes:
    fields: list[Any] = [("columns", ">i2")]
    for name, width in [("key", KEY_BYTES), ("model", 4), ("predictions", prediction), ("outcomes", outcome)]:
        fields += [(f"{name}_length", ">i4"), (name, "u1", (max(width, 0),))]
    fields += [("expires_length", ">i4"), ("expires", ">i8")]
    rows = np.empty(len(places), fields)
    rows["columns"], rows["expires_length"] = _COLUMNS, 8
    rows["key_length"], rows["model_length"] = KEY_BYTES, 4
    rows["predictions_length"], rows["outcomes_length"] = prediction, outcome
    rows["model"] = submitted.models[places].astype(">i4").view(np.uint8).reshape(-1, 4)
    rows["expires"] = submitted.expires_ms[places]
    some = places.tolist()
    columns: dict[str, Sequence[bytes | None]] = {"key": submitted.keys}
    columns |= {"predictions": submitted.predictions, "outcomes": submitted.outcomes}
    for name, blobs in columns.items():
        data = b"".join([blobs[place] or b"" for place in some])
        rows[name] = np.frombuffer(data, np.uint8).reshape(len(some), -1) if data else np.zeros((len(some), 0))
    return rows.tobytes()
