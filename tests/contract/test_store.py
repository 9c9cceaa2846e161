"""Partitions, checkpoints and references: nothing is counted twice, nothing is lost, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from detectors.profile import encode, merge
from monitor.errors import FencedError, TransientError
from monitor.ports import PartitionId
from monitor.store import (
    FROM_THE_BEGINNING_MS,
    Clock,
    GapRow,
    PartitionsFencedError,
    Progress,
    QuarantineRow,
    StaleReferences,
    Store,
)
from monitor.store import tables as t
from parts.stores import GROUP, HOUR, P0, P1, REF, Worker, key, profile, reference

QUARANTINED = QuarantineRow(source="live", topic="events", partition=0, offset=3, reason="bad_json", detail="at byte 7")
GAP = GapRow(source="live", topic="events", partition=0, from_offset=4, to_offset=6, reason="retention")


def rows_of(store: Store, table: sa.Table) -> int:
    with store._db.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def merged(store: Store, *starts: int) -> dict:
    with store.closing("churn") as tx:
        return tx.profiles([start * HOUR for start in starts])


def state_of(store: Store, partition: PartitionId):
    return next(state for state in store.partition_states(GROUP) if state.partition == partition)


# Partitions


def test_new_partitions_have_a_row_and_known_ones_keep_theirs(store):
    worker = Worker(store)
    worker.checkpoint()
    store.sync_topics(GROUP, {"events": 3, "more": 1}, 5)
    assert [s.partition for s in store.partition_states(GROUP)] == [P0, P1, ("events", 2), ("more", 0)]
    assert (state_of(store, P0).next_offset, state_of(store, P0).epoch) == (10, 1)
    assert (state_of(store, P1).next_offset, state_of(store, P1).epoch, state_of(store, P1).owner) == (None, 0, None)
    assert store.partition_states("another") == []


def test_a_claim_takes_over_where_the_store_stands(store):
    worker = Worker(store)
    worker.checkpoint()
    assert store.claim(GROUP, [P1, P0], "w2", 7) == {P0: (2, 10), P1: (1, None)}
    assert state_of(store, P0).owner == "w2"


def test_a_claim_waits_for_the_checkpoint_under_way(store):
    worker = Worker(store)
    claimed = {}

    def claim(_):
        thread = threading.Thread(target=lambda: claimed.update(store.claim(GROUP, [P0], "w2", 7)))
        thread.start()
        thread.join(0.3)
        assert not claimed
        worker.thread = thread

    event.listen(store._db._writer, "commit", claim, once=True)
    worker.checkpoint()
    worker.thread.join()
    assert claimed == {P0: (2, 10)}


def test_start_offsets_and_halts_are_for_the_owner_alone(store):
    worker = Worker(store)
    store.halt(GROUP, P0, worker.epoch, "offset 12: corrupt")
    assert state_of(store, P0).halted == "offset 12: corrupt"
    store.claim(GROUP, [P0], "w2", 0)
    assert state_of(store, P0).halted is None
    with pytest.raises(FencedError):
        store.halt(GROUP, P0, worker.epoch, "late")
    with pytest.raises(FencedError):
        store.set_start(GROUP, P0, worker.epoch, 99)
    assert (state_of(store, P0).next_offset, state_of(store, P0).halted) == (0, None)


def test_leases_end_by_time_death_and_release(store):
    Worker(store, "w1", P0)
    Worker(store, "w2", P1)

    def claimable(now_ms: int, alive: str = "w1 w2") -> list[PartitionId]:
        return store.claimable(GROUP, ["events"], "w3", now_ms, 1000, lambda owner: owner in alive.split())

    assert claimable(999) == []
    assert claimable(999, alive="w1") == [P1]
    store.renew(GROUP, "w2", 500)
    assert claimable(1000) == [P0]
    store.release(GROUP, "w2")
    assert claimable(999) == [P1]
    assert store.claimable(GROUP, ["other"], "w3", 9999, 1000, lambda owner: True) == []
    assert store.claimable(GROUP, ["events"], "w1", 9999, 1000, lambda owner: True) == [P1]  # its own it has already


# Checkpoints


def test_a_fenced_checkpoint_stores_nothing_even_for_partitions_still_owned(store):
    worker = Worker(store, partition=P1)
    other = store.claim(GROUP, [P0], "w1", 0)[P0]
    store.set_start(GROUP, P0, other.epoch, 0)
    store.claim(GROUP, [P0], "w2", 0)
    both = [
        Progress(partition=P1, epoch=worker.epoch, from_offset=0, to_offset=10),
        Progress(partition=P0, epoch=other.epoch, from_offset=0, to_offset=10),
    ]
    c = worker.rows(
        {key(0): profile(1, 2)}, partitions=both, quarantine=[QUARANTINED], gaps=[GAP], unconfigured={"x": 1}
    )
    with pytest.raises(FencedError, match="events/0") as raised:
        store.checkpoint(c)
    assert isinstance(raised.value, PartitionsFencedError)
    assert raised.value.partitions == (P0,)
    assert state_of(store, P1).next_offset == 0
    assert [rows_of(store, table) for table in (t.pane, t.state, t.quarantine, t.gap, t.unconfigured)] == [0] * 5


def test_a_checkpoint_from_another_offset_is_fenced(store):
    worker = Worker(store)
    worker.checkpoint()
    worker.offset = 5
    with pytest.raises(FencedError):
        worker.checkpoint()


def test_a_released_owner_is_fenced(store):
    worker = Worker(store)
    store.release(GROUP, "w1")
    with pytest.raises(FencedError):
        worker.checkpoint({key(0): profile(1, 2)})


def test_a_checkpoint_is_all_or_nothing(store):
    worker = Worker(store)

    def die(_):
        raise KeyboardInterrupt

    event.listen(store._db._writer, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        worker.checkpoint({key(0): profile(1, 2)}, quarantine=[QUARANTINED], gaps=[GAP], unconfigured={"x": 1})
    event.remove(store._db._writer, "commit", die)
    assert state_of(store, P0).next_offset == 0
    assert [rows_of(store, table) for table in (t.pane, t.state, t.quarantine, t.gap, t.unconfigured)] == [0] * 5
    assert worker.checkpoint({key(0): profile(1, 2)}).new_panes == 1
    assert encode(merged(store, 0)[key(0)]) == encode(profile(1, 2))


def test_two_writers_add_up_and_each_overwrites_its_own_row(store):
    a, b = Worker(store, "a", P0), Worker(store, "b", P1)
    parts = [profile(i, 2 * i, 300 * i) for i in range(1, 7)]
    for worker, part in zip([a, b, b, a, a, b], parts, strict=True):
        worker.checkpoint({key(0): part, key(1, version="2"): part})
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    found = merged(store, 0, 1)
    assert {k: encode(p) for k, p in found.items()} == dict.fromkeys([key(0), key(1, version="2")], encode(total))
    assert rows_of(store, t.state) == 4


def test_many_panes_in_one_checkpoint(store):
    worker = Worker(store)
    deltas = {key(start, model=f"m{start % 40}"): profile(start, 1) for start in range(1203)}
    assert worker.checkpoint(deltas).new_panes == 1203
    assert worker.checkpoint(deltas).new_panes == 0
    with store._db.read() as connection:
        rows = connection.execute(sa.select(sa.func.sum(t.state.c.rows), sa.func.count()).select_from(t.state)).one()
    assert (int(rows[0]), rows[1]) == (2 * sum(range(1, 1204)), 1203)


@pytest.mark.parametrize("repeat", [False, True])
def test_a_commit_whose_answer_is_lost_is_found_to_have_landed(store, monkeypatch, repeat):
    worker = Worker(store)
    c = worker.rows({key(0): profile(1, 2)}, quarantine=[QUARANTINED])
    dialect = store._db._engine.dialect
    commit, begin = dialect.do_commit, dialect.do_begin
    module = dialect.loaded_dbapi
    broken = module.OperationalError("disk I/O error")
    broken.sqlite_errorcode = 10  # as sqlite3 sets it

    def commit_and_lose(connection):
        commit(connection)
        monkeypatch.setattr(dialect, "do_commit", commit)
        if repeat:  # nor can the outcome be read at once
            monkeypatch.setattr(dialect, "do_begin", lose)
        raise broken

    def lose(connection):
        monkeypatch.setattr(dialect, "do_begin", begin)
        raise broken

    monkeypatch.setattr(dialect, "do_commit", commit_and_lose)
    if repeat:
        with pytest.raises(TransientError):
            store.checkpoint(c)
        assert store.checkpoint(c).new_panes == 0
    else:
        assert store.checkpoint(c).new_panes == 1
    assert state_of(store, P0).next_offset == 10
    assert encode(merged(store, 0)[key(0)]) == encode(profile(1, 2))
    assert len(store.quarantine()) == 1


def test_a_commit_that_did_not_land_is_an_error(store, monkeypatch):
    worker = Worker(store)
    dialect = store._db._engine.dialect
    broken = dialect.loaded_dbapi.OperationalError("disk I/O error")
    broken.sqlite_errorcode = 10

    def lose(connection):
        dialect.do_rollback(connection)
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr(dialect, "do_commit", lose)
        with pytest.raises(TransientError):
            worker.checkpoint({key(0): profile(1, 2)})
    assert worker.checkpoint({key(0): profile(1, 2)}).new_panes == 1
    assert merged(store, 0)[key(0)].rows == 3


def test_clocks_and_progress_only_rise(store):
    worker = Worker(store)

    def checkpoint(newest, read, caught_up, outcomes=False):
        progress = worker.rows().partitions[0]
        given = {"newest_ms": newest, "newest_read_ms": read, "caught_up_ms": caught_up, "outcomes_seen": outcomes}
        kept = {name: getattr(progress, name) for name in ("partition", "epoch", "from_offset", "to_offset")}
        clocks = {} if newest is None else {(P0, "churn"): Clock(newest, read)}
        worker.checkpoint(partitions=[Progress(**kept, **given)], clocks=clocks)
        state = state_of(store, P0)
        clock = store.model_clocks(GROUP).get((GROUP, P0, "churn"))
        return (state.newest_ms, state.newest_read_ms, state.caught_up_ms, state.outcomes_seen), clock

    assert checkpoint(None, None, None) == ((None, None, None, False), None)
    assert checkpoint(50, 60, None, outcomes=True) == ((50, 60, None, True), (50, 60))
    assert checkpoint(40, 70, 75) == ((50, 60, 75, True), (50, 60))
    assert checkpoint(50, 90, 74) == ((50, 60, 75, True), (50, 60))  # the time it was first read stays
    assert checkpoint(51, 91, 95) == ((51, 91, 95, True), (51, 91))
    assert store.model_clocks("another") == {}


def test_quarantine_and_gaps_are_kept_with_the_time(store):
    worker = Worker(store)
    worker.checkpoint(quarantine=[QUARANTINED] * 3, gaps=[GAP], now_ms=77)
    worker.checkpoint(
        quarantine=[QuarantineRow(source="live", topic="events", partition=0, offset=12, reason="too_deep", detail="")]
    )
    assert [row.offset for row in store.quarantine(limit=2)] == [3, 12]
    assert len(store.quarantine()) == 4
    assert store.quarantine()[0].recorded_at_ms == 77
    assert store.quarantine_counts() == {("events", "bad_json"): 3, ("events", "too_deep"): 1}
    assert [(row.from_offset, row.to_offset, row.recorded_at_ms) for row in store.gaps()] == [(4, 6, 77)]


def test_a_hundred_names_of_unconfigured_models_are_kept(store):
    worker = Worker(store)
    worker.checkpoint(unconfigured={f"m{i:03}": 2 for i in range(99)})
    worker.checkpoint(unconfigured={"m000": 5, "x1": 7, "x2": 9, "x3": 1})
    rows = store.unconfigured()
    assert len(rows) == 101
    assert {row.model: row.records for row in rows if row.records != 2} == {"m000": 7, "x1": 7, "": 10}


def test_workers_cannot_make_more_than_a_hundred_names_together(store):
    workers = [Worker(store, name, PartitionId("events", i)) for i, name in enumerate("abcd")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda w: w.checkpoint(unconfigured={f"{w.name}{i}": 1 for i in range(80)}), workers))
    rows = store.unconfigured()
    assert (len(rows), sum(row.records for row in rows)) == (101, 320)


def test_workers_that_touch_the_same_panes_do_not_lose_counts(store):
    workers = [Worker(store, name, PartitionId("events", i)) for i, name in enumerate("abcd")]

    def work(worker):
        for i in range(8):
            starts = range(10) if i % 2 else reversed(range(10))
            worker.checkpoint({key(start): profile(1, 2) for start in starts})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, workers))
    assert {k.start_ms: p.rows for k, p in merged(store, *range(10)).items()} == {s * HOUR: 96 for s in range(10)}


# References


def test_a_reference_is_in_force_after_the_newest_pane(store):
    store.add_reference(reference(), window_ms=HOUR)
    Worker(store).checkpoint({key(4): profile(1), key(2): profile(1), key(9, model="other"): profile(1)})
    store.add_reference(reference("b" * 64), window_ms=HOUR)
    store.add_reference(reference("c" * 64, model="new"), window_ms=HOUR)
    stored = [(r.hash[0], r.effective_from_ms) for r in store.references()]
    assert stored == [("a", FROM_THE_BEGINNING_MS), ("b", 5 * HOUR), ("c", FROM_THE_BEGINNING_MS)]
    assert [r.hash[0] for r in store.references("new")] == ["c"]
    assert store.references()[0].payload == b"p"


def test_a_versions_own_reference_is_in_force_for_all_of_a_version_that_has_no_predictions_yet(store):
    store.add_reference(reference(), window_ms=HOUR)
    Worker(store).checkpoint({key(4): profile(1), key(2, version="2"): profile(1)})
    store.add_reference(reference("b" * 64, version="3"), window_ms=HOUR)
    store.add_reference(reference("c" * 64, version="2"), window_ms=HOUR)
    stored = {r.version: r.effective_from_ms for r in store.references()}
    assert stored == {"": FROM_THE_BEGINNING_MS, "3": FROM_THE_BEGINNING_MS, "2": 3 * HOUR}


def test_a_new_reference_makes_a_checkpoint_stale(store):
    store.add_reference(reference(), window_ms=HOUR)
    worker = Worker(store)
    c = worker.rows({key(0): profile(1, 2)})
    store.add_reference(reference("b" * 64), window_ms=HOUR)
    with pytest.raises(StaleReferences):
        store.checkpoint(c)
    assert (rows_of(store, t.state), state_of(store, P0).next_offset) == (0, 0)
    worker.checkpoint({key(0): profile(1, 2)})


def test_a_reference_waits_for_the_checkpoint_under_way(store):
    worker = Worker(store)
    adding = threading.Thread(target=store.add_reference, args=[reference()], kwargs={"window_ms": HOUR})

    def add(_):
        adding.start()
        adding.join(0.3)
        assert adding.is_alive()

    event.listen(store._db._writer, "commit", add, once=True)
    worker.checkpoint({key(6): profile(1)})
    adding.join()
    assert store.references()[0].effective_from_ms == 7 * HOUR


def test_the_same_reference_twice_is_one_and_fences_nobody(store):
    store.add_reference(reference(), window_ms=HOUR)
    generation = store.reference_generation()
    store.add_reference(reference(recorded_at_ms=9), window_ms=HOUR)
    assert (len(store.references()), store.reference_generation()) == (1, generation)
    store.add_reference(reference("b" * 64), window_ms=HOUR)
    store.add_reference(reference(), window_ms=HOUR)  # and back again
    assert [r.hash for r in store.references()] == [REF, "b" * 64, REF]
    assert store.reference_generation() == generation + 2
