"""The join on SQLite: a log of what was submitted, and sorted runs of key heads that find it again.

Keys are hashes. In a table ordered by them, the 50,000 rows of a checkpoint would touch as many pages in random places, each written
twice. Here rows are only ever appended and what a key holds is the sum of its rows, which the rules allow in any order. A run holds
the heads of the keys (u32, rising) and the places of their rows; four runs of one size become one, so there are few. Runs are
immutable and kept in memory up to a limit. SQLite lets one writer in at a time: nobody else appends while a submission is settled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from monitor.joining.columns import Submission
from monitor.joining.settle import Before, Settled
from monitor.store.engine import Database, driver_cursor
from monitor.store.records import ExpiredRows, JoinSize
from monitor.store.tables import outcome_log, outcome_run

CACHE_BYTES = 64 << 20  # of runs; the rest is read anew for each checkpoint
RUN_ROWS_MAX = 1 << 22
_OF_A_SIZE = 4  # runs that become one
_SEQS_A_BATCH = 50_000  # of the log, looked through for expired rows in one transaction
_SAMPLE = 1000

_APPEND = "INSERT INTO outcome_log (seq, key, model, predictions, outcomes, expires_ms) VALUES (?, ?, ?, ?, ?, ?)"
_FETCH = (
    "SELECT seq, key, predictions, outcomes FROM outcome_log WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"
)
_SIDES = """SELECT seq, key, model, expires_ms, predictions IS NOT NULL, outcomes IS NOT NULL
    FROM outcome_log WHERE seq IN (SELECT value FROM json_each(?))"""
_DELETE = "DELETE FROM outcome_log WHERE seq IN (SELECT value FROM json_each(?))"

_log, _run = outcome_log.c, outcome_run.c
_NEXT = sa.select(sa.func.coalesce(sa.func.max(_log.seq), 0) + 1)
_OLDEST = sa.select(sa.func.min(_log.seq))
_RUNS = sa.select(_run.run, _run.rows, _run.first_seq).order_by(_run.run)
_RUN = sa.select(_run.heads, _run.places).where(_run.run == sa.bindparam("p_run"))
_DROP = sa.delete(outcome_run).where(_run.run == sa.bindparam("p_run"))

Seqs = NDArray[np.int64]
Heads = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """`heads` rise; `places` + `first_seq` are the rows they belong to."""

    run: int
    first_seq: int
    heads: Heads
    places: NDArray[np.uint32]

    @property
    def bytes(self) -> int:
        return self.heads.nbytes + self.places.nbytes

    @property
    def seqs(self) -> Seqs:
        return self.places.astype(np.int64) + self.first_seq


class LogTable:
    """`outcome_log` and `outcome_run`."""

    def __init__(self, db: Database, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._db, self._cache_bytes = db, cache_bytes
        self._cached: dict[int, _Run] = {}

    def enter(self, connection: Connection, submitted: Submission) -> list[Before]:
        """What the submitted keys hold."""
        places, seqs = self._locate(connection, submitted.heads)
        if not len(seqs):
            return []
        order = np.argsort(seqs, kind="stable")
        wanted = seqs[order].tolist()
        with driver_cursor(connection) as cursor:
            rows = cursor.execute(_FETCH, [json.dumps(wanted)]).fetchall()
        if [row[0] for row in rows] != wanted:  # a row was asked for twice, or is there no more
            by_seq = {row[0]: row for row in rows}
            order = order[[seq in by_seq for seq in wanted]]
            rows = [by_seq[seq] for seq in wanted if seq in by_seq]
        keys = submitted.keys
        # Heads may be equal by chance.
        held = [
            (place, p, o)
            for place, (_, key, p, o) in zip(places[order].tolist(), rows, strict=True)
            if keys[place] == key
        ]
        return held if len({row[0] for row in held}) == len(held) else _added_up(held)

    def finish(self, connection: Connection, submitted: Submission, settled: Settled) -> None:
        """Append what was submitted and is new."""
        news = settled.news
        count = int(news.sum())
        if not count:
            return
        first: int = connection.execute(_NEXT).scalar_one()
        rows = zip(
            range(first, first + count),
            compress(submitted.keys, news),
            submitted.models[news].tolist(),
            compress(submitted.predictions, news),
            compress(submitted.outcomes, news),
            submitted.expires_ms[news].tolist(),
            strict=True,
        )
        with driver_cursor(connection) as cursor:
            cursor.executemany(_APPEND, rows)
        _put_run(connection, first, _heads(submitted.heads[news]), np.arange(count, dtype=np.uint32))
        self._merge(connection)

    def expire(self, watermarks: Mapping[int, int], batch: int) -> Iterator[tuple[int, ExpiredRows]]:
        """Delete the keys of the models (by code) all of whose rows have expired; what a transaction deleted, model by model."""
        after, gone = 0, list[Seqs]()
        while True:
            with self._db.write() as connection:
                rows, after = _expired(connection, watermarks, after, batch)
                expired, seqs = self._forget(connection, rows, watermarks)
                gone.append(seqs)
            yield from expired.items()
            if not after:
                break
        deleted = np.concatenate(gone)
        if len(deleted):
            with self._db.write() as connection:
                self._rewrite(connection, self._runs(connection), without=deleted)

    def size(self) -> JoinSize:
        """Rows of the log: a prediction and its outcome are two. Bytes are reckoned from the newest rows."""
        columns = (_log.key, _log.predictions, _log.outcomes)
        newest = sa.select(*columns).order_by(_log.seq.desc()).limit(_SAMPLE).subquery()
        lengths = (sa.func.coalesce(sa.func.length(column), 0) for column in newest.c)
        with self._db.read() as connection:
            rows: int = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(_run.rows), 0))) or 0
            width: float = connection.scalar(sa.select(sa.func.avg(sum(lengths, start=sa.literal(0))))) or 0.0
        overhead = 20 + 8  # record header, seq, model and expiry; the run
        return JoinSize(rows, round(rows * (width + overhead)))

    def _locate(self, connection: Connection, heads: NDArray[np.uint64]) -> tuple[NDArray[np.intp], Seqs]:
        """Pairs of (place in `heads`, which rise; seq of a row whose key may begin so)."""
        wanted = _heads(heads)
        places, seqs = [np.zeros(0, np.intp)], [np.zeros(0, np.int64)]
        for run in self._runs(connection):
            low = np.searchsorted(run.heads, wanted)
            hit = np.flatnonzero(run.heads[np.minimum(low, len(run.heads) - 1)] == wanted)
            first = low[hit]
            counts = np.searchsorted(run.heads, wanted[hit], "right") - first
            # Each hit stands for `counts` rows from `first` on; none where it only looked past the end.
            steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            places.append(np.repeat(hit, counts))
            seqs.append(run.places[np.repeat(first, counts) + steps].astype(np.int64) + run.first_seq)
        return np.concatenate(places), np.concatenate(seqs)

    def _runs(self, connection: Connection) -> list[_Run]:
        """All runs, oldest first. What a transaction reads here before it writes was committed, so it may be kept."""
        listed = connection.execute(_RUNS).all()
        current = {row.run for row in listed}
        cached = {run: content for run, content in self._cached.items() if run in current}
        room = self._cache_bytes - sum(run.bytes for run in cached.values())
        runs = []
        for row in listed:
            content = cached.get(row.run)
            if content is None:
                content = _read_run(connection, row.run, row.first_seq)
                if content.bytes <= room:
                    cached[row.run] = content
                    room -= content.bytes
            runs.append(content)
        self._cached = cached
        return runs

    def _merge(self, connection: Connection) -> None:
        """Make one run of the newest ones while there are several of a size."""
        while True:
            listed = connection.execute(_RUNS).all()
            count = _to_merge([row.rows for row in listed])
            if not count:
                return
            runs = [
                self._cached.get(row.run) or _read_run(connection, row.run, row.first_seq) for row in listed[-count:]
            ]
            self._rewrite(connection, runs, without=np.zeros(0, np.int64))

    def _rewrite(self, connection: Connection, runs: Sequence[_Run], *, without: Seqs) -> None:
        """Put as few runs as possible in place of these."""
        oldest: int = connection.scalar(_OLDEST) or 0
        if runs:
            connection.execute(_DROP, [{"p_run": run.run} for run in runs])
        group: list[_Run] = []
        for run in [*runs, None]:
            if group and (run is None or sum(len(r.heads) for r in group) + len(run.heads) > RUN_ROWS_MAX):
                heads, seqs = np.concatenate([r.heads for r in group]), np.concatenate([r.seqs for r in group])
                alive = (seqs >= oldest) & ~np.isin(seqs, without) if len(without) else seqs >= oldest
                heads, seqs = heads[alive], seqs[alive]
                order = np.argsort(heads, kind="stable")
                if len(order):
                    first = int(seqs.min())
                    _put_run(connection, first, heads[order], (seqs[order] - first).astype(np.uint32))
                group = []
            if run is not None:
                group.append(run)

    def _forget(
        self, connection: Connection, expired: Sequence[tuple[int, bytes]], watermarks: Mapping[int, int]
    ) -> tuple[dict[int, ExpiredRows], Seqs]:
        """Delete those of the keys (with their model) that have no row left to live; how many of each model, and the rows."""
        if not expired:
            return {}, np.zeros(0, np.int64)
        keys = sorted({key for _, key in expired})
        heads = np.frombuffer(b"".join(key[:8] for key in keys), ">u8").astype(np.uint64)
        _, seqs = self._locate(connection, heads)
        wanted = set(keys)
        sides: dict[bytes, tuple[int, bool, bool, bool]] = {}  # model, has predictions, has outcomes, lives on
        rows: dict[bytes, list[int]] = {}
        with driver_cursor(connection) as cursor:
            for seq, key, model, expires, prediction, outcome in cursor.execute(_SIDES, [json.dumps(seqs.tolist())]):
                if key in wanted:
                    _, had_prediction, had_outcome, lives = sides.get(key, (model, False, False, False))
                    lives = lives or expires > watermarks[model]
                    sides[key] = model, had_prediction or bool(prediction), had_outcome or bool(outcome), lives
                    rows.setdefault(key, []).append(seq)
            gone = [seq for key, (*_, lives) in sides.items() if not lives for seq in rows[key]]
            cursor.execute(_DELETE, [json.dumps(gone)])
        counts: dict[int, ExpiredRows] = {}
        for model, prediction, outcome, lives in sides.values():
            if not lives:
                old = counts.get(model, ExpiredRows())
                both, alone = prediction and outcome, prediction and not outcome
                counts[model] = ExpiredRows(old[0] + both, old[1] + alone, old[2] + (not prediction))
        return counts, np.array(gone, np.int64)


def _added_up(rows: Sequence[Before]) -> list[Before]:
    """The rows of one place become one: what was submitted one after the other, which the rules take apart again."""
    held: dict[int, Before] = {}
    for row in rows:
        place, predictions, outcomes = row
        known = held.get(place)
        held[place] = row if known is None else (place, _both(known[1], predictions), _both(known[2], outcomes))
    return list(held.values())


def _both(a: bytes | None, b: bytes | None) -> bytes | None:
    return a + b if a and b else a or b


def _heads(heads: NDArray[np.uint64]) -> Heads:
    return (heads >> np.uint64(32)).astype(np.uint32)


def _read_run(connection: Connection, run: int, first_seq: int) -> _Run:
    heads, places = connection.execute(_RUN, {"p_run": run}).one()
    return _Run(run, first_seq, np.frombuffer(heads, "<u4"), np.frombuffer(places, "<u4"))


def _put_run(connection: Connection, first_seq: int, heads: Heads, places: NDArray[np.uint32]) -> None:
    values = {"heads": heads.astype("<u4").tobytes(), "places": places.astype("<u4").tobytes()}
    connection.execute(sa.insert(outcome_run), values | {"rows": len(heads), "first_seq": first_seq})


def _to_merge(rows: Sequence[int]) -> int:
    """How many of the newest runs (the last) are to become one: those up to a size of which there are four, or twice as many smaller."""
    sizes = [count.bit_length() // 2 for count in rows]  # in fours
    for size in range(sizes[-1] if sizes else 0, max(sizes, default=0) + 1):
        newest = next((place for place, older in enumerate(reversed(sizes)) if older > size), len(sizes))
        tail = sizes[len(sizes) - newest :]
        if tail.count(size) >= _OF_A_SIZE or newest >= 2 * _OF_A_SIZE:
            return newest if sum(rows[len(rows) - newest :]) <= RUN_ROWS_MAX else 0
    return 0


def _expired(
    connection: Connection, watermarks: Mapping[int, int], after: int, batch: int
) -> tuple[list[tuple[int, bytes]], int]:
    """(model, key) of expired rows behind `after`, at most `batch`, and up to where was looked; 0 at the end."""
    first = connection.scalar(sa.select(sa.func.min(_log.seq)).where(_log.seq > after))
    if first is None or not watermarks:
        return [], 0
    last = first + _SEQS_A_BATCH - 1
    statement = (
        sa.select(_log.seq, _log.model, _log.key, _log.expires_ms)
        .where(_log.seq.between(first, last), _log.expires_ms <= max(watermarks.values()))
        .order_by(_log.seq)
    )
    rows: list[tuple[int, bytes]] = []
    for seq, model, key, expires_ms in connection.execute(statement):
        if expires_ms <= watermarks.get(model, expires_ms - 1):
            if len(rows) == batch:
                return rows, seq - 1
            rows.append((model, key))
    return rows, last
