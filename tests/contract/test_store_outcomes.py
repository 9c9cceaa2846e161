"""The join and the performance it feeds come to what a recount says, on both databases, whatever happens on the way."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from monitor.errors import TransientError
from monitor.joining.outcomes import JoinBatch, JoinCounts, LayoutKey, OutcomeRows, join_keys
from monitor.ports import PartitionId
from monitor.store import Clock, ExpiredRows, PerformanceDelta, PerformanceKey, Store
from monitor.store import outcome_log as log
from monitor.store import tables as t
from parts.outcomes import DAY, HOUR, MERGES, RETENTION, Event, batch, events, expected, fold, merge, parts
from parts.stores import GROUP, P0, P1, Worker, key, profile

MODELS = ("churn", "fraud")


def put(worker: Worker, some: list[Event], **more) -> JoinCounts:
    given = {"join": batch(some), "fold": fold, "merges": MERGES} | more
    return worker.checkpoint(**given).join


def totals(store: Store) -> dict[PerformanceKey, bytes]:
    """What all rows of all writers come to, without what cancels out."""
    found: dict[PerformanceKey, bytes] = {}
    for model in MODELS:
        with store.closing(model) as tx:
            for kind in ("pane", "arrival"):
                for k, blobs in tx.performance(kind, tx.performance_starts(kind, -DAY, 10**15)).items():
                    found[k] = reduce(merge, blobs)
    return {k: blob for k, blob in found.items() if any(blob)}


def prediction(id_: str = "a", ts: int = 0, version: str = "1", **more) -> Event:
    return Event("prediction", "churn", id_, ts, version, **more)


def label(id_: str = "a", ts: int = 5, text: str = "1", **more) -> Event:
    return Event("outcome", "churn", id_, ts, label=text, **more)


# What it comes to


@pytest.mark.parametrize(("seed", "ids"), [(1, 4), (2, 40), (3, 400)])
def test_random_streams_come_to_the_recount(store, seed, ids):
    rng = random.Random(seed)
    stream = events(rng, 600, ids)
    workers = [Worker(store, "a", P0), Worker(store, "b", P1)]
    for some in parts(rng, stream) + parts(rng, stream[::-1]):
        put(rng.choice(workers), some)
    assert totals(store) == expected(stream)
    rng.shuffle(stream)
    put(workers[0], stream)
    assert totals(store) == expected(stream)


def test_two_that_race_lose_and_double_nothing(store_url):
    """Predictions and outcomes of the same ids at the same time, in stores of their own, each in another order."""
    rng = random.Random(7)
    stream = events(rng, 4000, 900)
    stores = [Store.open(store_url, busy_timeout_ms=20_000) for _ in range(3)]
    shares = [[e for e in stream if (e.kind == "prediction") == side] for side in (True, False)] + [stream[::5]]
    start = threading.Barrier(len(stores))

    def work(place: int) -> JoinCounts:
        rng, share = random.Random(place), shares[place]
        rng.shuffle(share)
        worker = Worker(stores[place], f"w{place}", PartitionId("events", place))
        start.wait()
        return [put(worker, share[i : i + 150]) for i in range(0, len(share), 150)]

    with ThreadPoolExecutor(len(stores)) as pool:
        counts = list(pool.map(work, range(len(stores))))
    assert totals(stores[0]) == expected(stream)
    assert all(sum(c.pairs for c in some) for some in counts[:2])  # each of them was second now and then
    for store in stores:
        store.close()


def test_the_second_waits_for_the_first_and_makes_the_pair(store):
    """Else both would see one half, and nobody the pair."""
    a, b = Worker(store, "a", P0), Worker(store, "b", P1)
    put(a, [prediction("x", 0)])
    counts = []
    late = threading.Thread(target=lambda: counts.append(put(b, [label()])))

    def start(_):
        late.start()
        late.join(0.3)
        assert late.is_alive()

    event.listen(store._db._writer, "commit", start, once=True)
    assert put(a, [prediction()]).pairs == 0
    late.join()
    assert counts == [JoinCounts(pairs=1)]
    assert totals(store) == expected([prediction("x", 0), prediction(), label()])


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("point", ["fold", "after_join", "before_commit", "after_commit", "commit"])
def test_a_transaction_that_is_undone_can_be_repeated(store, store_url, monkeypatch, point):
    rng = random.Random(11)
    stream = events(rng, 300, 60)
    worker = Worker(store)
    other = Store.open(store_url)  # knows nothing of what the first one believes
    for place, some in enumerate(parts(rng, stream)):
        with monkeypatch.context() as patch:
            breaker = Breaker(store, point)
            patch.setattr("monitor.store.checkpoint.reach", breaker.reach)
            with pytest.raises(BrokenError):
                put(worker, some, fold=breaker.fold)
        assert rows_of(store, t.join_layout)  # codes stay: others may have used them by now
        if place % 2:
            worker.store = other  # another process repeats it
        put(worker, some)
        worker.store = store
    assert totals(store) == expected(stream)
    other.close()


class Breaker:
    def __init__(self, store: Store, point: str) -> None:
        self.store, self.point = store, point

    def reach(self, point: str) -> None:
        if self.point == "commit" and point == "before_commit":
            event.listen(self.store._db._writer, "commit", self.commit, once=True)
        if point == self.point:
            raise BrokenError

    def fold(self, changes):
        if self.point == "fold":
            raise BrokenError
        return fold(changes)

    def commit(self, _) -> None:
        raise BrokenError


def rows_of(store: Store, table: sa.Table) -> int:
    with store._db.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_codes_are_one_for_all(store, store_url):
    other = Store.open(store_url)
    a, b = Worker(store, "a", P0), Worker(other, "b", P1)
    put(a, [prediction(version=str(i)) for i in range(4)])
    assert put(b, [label()]).pairs == 4  # of layouts this process has never seen
    put(b, [prediction("b", version="9"), prediction("b", version="0")])
    put(a, [label("b")])
    with store._db.read() as connection:
        layouts = connection.execute(sa.select(t.join_layout.c.code, t.join_layout.c.version)).all()
    assert sorted(version for _, version in layouts) == ["", "0", "1", "2", "3", "9"]
    assert len({code for code, _ in layouts}) == 6
    stream = [prediction(version=str(i)) for i in range(4)] + [label(), label("b")]
    assert totals(store) == expected([*stream, prediction("b", version="9"), prediction("b", version="0")])
    other.close()


def test_counts_are_handed_back(store):
    worker = Worker(store)
    assert put(worker, [prediction("b"), label("c")]) == JoinCounts(orphans=1)
    assert put(worker, [prediction(), prediction(), label(), prediction("c")]) == JoinCounts(copies=1, pairs=2)
    assert put(worker, [label(text="2"), prediction(ts=-9)]) == JoinCounts(conflicts=1, corrections=1)
    assert put(worker, [Event("tombstone", "churn", "a"), label("c")]) == JoinCounts(retracted=1, repeats=1)
    assert put(worker, []) == JoinCounts()
    assert worker.checkpoint().join == JoinCounts()


def test_fold_is_asked_only_where_something_changed(store):
    worker = Worker(store)
    asked = []

    def note(changes):
        asked.append(changes)
        return fold(changes)

    put(worker, [prediction()], fold=note)
    put(worker, [prediction(), label("z")], fold=note)
    worker.checkpoint({key(0): profile(1)}, fold=note)
    assert len(asked) == 1
    changes = asked[0].predicted[LayoutKey("churn", "1", "r1")]
    assert changes.keys.tolist() == [int.from_bytes(join_keys("churn", ["a"])[0][:8], "big")]
    assert worker.checkpoint(join=batch([label()])).join.pairs == 1  # nobody wants to know


def test_many_rows_at_once_in_the_usual_way(store):
    """Through the columns: 5,000 predictions, then their outcomes in another order, with a few surprises."""
    rng = random.Random(5)
    predictions = [prediction(f"p{i}", i % 3 * HOUR, score=i % 7 / 8) for i in range(5_000)]
    labels = [label(f"p{i}", HOUR + i, text=str(i % 2)) for i in range(5_000)]
    rng.shuffle(labels)
    surprises = [*predictions[:5], label("p7", 10 * HOUR, text="9"), Event("tombstone", "churn", "p8")]
    worker = Worker(store)
    put(worker, predictions)
    put(worker, labels[:2000] + surprises)
    put(worker, labels[2000:])
    assert totals(store) == expected(predictions + labels + surprises)
    size = store.join_size()
    assert 0 <= size.rows <= 10_010
    assert size.bytes > 5_000 * 50


@pytest.mark.integration
def test_a_connection_lost_in_the_middle_of_the_join_is_transient(postgres_url):
    store = Store.open(postgres_url)
    worker = Worker(store)
    killer = sa.create_engine(postgres_url)
    real = store._join.settle

    def lose(connection, submitted):
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        with killer.begin() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        return real(connection, submitted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._join, "settle", lose)
        with pytest.raises(TransientError):
            put(worker, [prediction(), label()])
    assert put(worker, [prediction(), label()]).pairs == 1
    assert totals(store) == expected([prediction(), label()])
    killer.dispose()
    store.close()


# Expiry


def test_rows_expire_by_the_watermark_of_their_model(store):
    worker = Worker(store)
    old = [prediction(f"old{i}", i) for i in range(30)]
    met = [prediction(f"met{i}", i) for i in range(7)] + [label(f"met{i}", i) for i in range(7)]
    longer = [prediction("longer", 1), label("longer", 2 * DAY)]
    orphans = [label(f"orphan{i}", 3) for i in range(4)]
    gone = [Event("tombstone", "churn", "gone", 3)]
    others = [Event("prediction", "fraud", "old1", 1, "1")]
    for some in (old[:17], met + orphans, old[17:] + longer[:1], longer[1:] + gone + others):
        put(worker, some)
    before = totals(store)
    assert store.expire_outcomes({"churn": RETENTION - 1}, batch=4) == {}
    assert store.expire_outcomes({}) == {}
    assert store.expire_outcomes({"churn": RETENTION + 9}, batch=4) == {
        "churn": ExpiredRows(matched=7, unlabelled=10, orphans=5)
    }
    assert totals(store) == before  # what was counted stays
    assert store.expire_outcomes({"churn": RETENTION + 9, "strange": RETENTION}, batch=4) == {}
    assert put(worker, [label("old3")]) == JoinCounts(orphans=1)
    assert put(worker, [label("longer", 3 * DAY, text="5")]) == JoinCounts(corrections=1)
    assert put(worker, [Event("outcome", "fraud", "old1", 5, label="1")]) == JoinCounts(pairs=1)
    assert store.expire_outcomes({"churn": 10**14, "fraud": 10**14}) == {
        "churn": ExpiredRows(matched=1, unlabelled=20, orphans=1),
        "fraud": ExpiredRows(matched=1),
    }
    assert rows_of(store, t.outcome_join) + rows_of(store, t.outcome_log) + rows_of(store, t.outcome_run) == 0


@pytest.mark.integration
def test_expiry_passes_over_what_a_checkpoint_holds(postgres_url):
    # On SQLite writers take turns, so there is nothing to see.
    store = Store.open(postgres_url)
    worker = Worker(store)
    put(worker, [prediction("a", 0), prediction("b", 0)])
    expired = []
    later = [label("a", DAY)]
    event.listen(
        store._db._writer, "commit", lambda _: expired.append(store.expire_outcomes({"churn": RETENTION})), once=True
    )
    assert put(worker, later).pairs == 1
    assert expired == [{"churn": ExpiredRows(unlabelled=1)}]
    assert store.expire_outcomes({"churn": RETENTION}) == {}
    store.close()


# The runs of SQLite


@pytest.fixture
def small(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path}/x.db", durable=False)
    yield store
    store.close()


@pytest.mark.parametrize("cache_bytes", [0, 2_000, log.CACHE_BYTES])
def test_many_small_checkpoints_make_few_runs(small, cache_bytes):
    small._join._table = log.LogTable(small._db, cache_bytes=cache_bytes)
    rng = random.Random(3)
    stream = events(rng, 1500, 500)
    worker = Worker(small)
    for i in range(0, len(stream), 10):
        put(worker, stream[i : i + 10])
        assert sum(run.bytes for run in small._join._table._cached.values()) <= cache_bytes
    assert totals(small) == expected(stream)
    assert rows_of(small, t.outcome_run) < 16
    with small._db.read() as connection:
        assert connection.scalar(sa.select(sa.func.sum(t.outcome_run.c.rows))) == rows_of(small, t.outcome_log)


def test_runs_do_not_grow_without_bounds(small, monkeypatch):
    monkeypatch.setattr(log, "RUN_ROWS_MAX", 200)
    rng = random.Random(4)
    stream = events(rng, 1500, 500)
    worker = Worker(small)
    for some in parts(rng, stream):
        for i in range(0, len(some), 40):
            put(worker, some[i : i + 40])
    small.expire_outcomes({"churn": RETENTION})
    with small._db.read() as connection:
        assert max(connection.scalars(sa.select(t.outcome_run.c.rows))) <= 200
    assert totals(small) == expected(stream)


def test_keys_that_begin_alike_are_told_apart(small):
    worker = Worker(small)
    keys = [bytes([1, 2, 3, 4, *bytes([i]) * 12]) for i in range(40)]
    some = batch([prediction(f"x{i}") for i in range(40)]).predictions[0]
    outcomes = batch([label(f"x{i}") for i in range(40)]).outcomes[0]
    first = JoinBatch(predictions=[type(some)(layout=some.layout, keys=keys, records=some.records, retention_ms=1)])
    worker.checkpoint(join=first)
    for place in (17, 3):
        one = OutcomeRows(
            model="churn",
            keys=[keys[place]],
            ts_ms=outcomes.ts_ms[:1],
            value=outcomes.value[:1],
            labels=["1"],
            retention_ms=1,
        )
        assert worker.checkpoint(join=JoinBatch(outcomes=[one])).join == JoinCounts(pairs=1)
    small.expire_outcomes({"churn": 10})
    assert rows_of(small, t.outcome_log) == 0


@pytest.mark.parametrize(
    ("rows", "merged"),
    [
        ([], 0),
        ([100], 0),
        ([100] * 3, 0),
        ([100] * 4, 4),
        ([9000, 100, 100, 100, 100], 4),
        ([100, 9000, 100, 100, 100], 0),
        ([60_000] * 3 + [5, 60_000], 5),
        ([9000] + [1, 20] * 4, 8),
        ([log.RUN_ROWS_MAX // 2] * 4, 0),
    ],
)
def test_runs_of_a_size_become_one(rows, merged):
    assert log._to_merge(rows) == merged


# Performance


def delta(value: int, rows: int = 1) -> PerformanceDelta:
    return PerformanceDelta(rows, np.array([value] * 4, np.uint64).tobytes())


def perf(start: int, kind: str = "pane", **more) -> PerformanceKey:
    fields = {"model": "churn", "kind": kind, "start_ms": start * HOUR, "version": "1", "reference": "r1"}
    return PerformanceKey(**fields | more)  # type: ignore[arg-type]


def add(worker: Worker, deltas: dict[PerformanceKey, PerformanceDelta], **more) -> JoinCounts:
    """Any change will do: the fold says what it comes to."""
    worker.turn = getattr(worker, "turn", 0) + 1
    return put(worker, [prediction(f"{worker.name}{worker.turn}")], fold=lambda _: deltas, **more)


def values(store: Store, *starts: int, kind: str = "pane") -> dict[PerformanceKey, list[int]]:
    with store.closing("churn") as tx:
        found = tx.performance(kind, [start * HOUR for start in starts])
    return {k: [int(np.frombuffer(blob, np.uint64)[0]) for blob in blobs] for k, blobs in found.items()}


def test_writers_add_up_and_panes_become_clean_final_and_open_again(store):
    a, b = Worker(store, "a", P0), Worker(store, "b", P1)
    add(a, {perf(0): delta(1), perf(2): delta(5), perf(0, segment="s=1"): delta(4), perf(0, "arrival"): delta(9)})
    add(b, {perf(0): delta(10), perf(1, model="fraud"): delta(1)})
    add(a, {perf(0): delta(100)})
    assert values(store, 0) == {perf(0): [101, 10], perf(0, segment="s=1"): [4]}
    assert store.dirty_performance_models() == {"churn": {"pane": 0, "arrival": 0}, "fraud": {"pane": HOUR}}
    with store.closing("churn") as tx:
        assert tx.dirty_performance("pane", 2 * HOUR) == [0]
        tx.mark_performance_clean("pane", [0])
        with pytest.raises(ValueError):
            tx.mark_performance_clean("arrival", [0])
        assert tx.dirty_performance("pane", 9 * HOUR) == [2 * HOUR]
        assert tx.finalize_performance("pane", 9 * HOUR, merge) == 1
        assert tx.performance_starts("pane", 0, 9 * HOUR) == [0, 2 * HOUR]
        assert tx.performance_starts("pane", 1, 2 * HOUR) == []
    assert values(store, 0) == {perf(0): [111], perf(0, segment="s=1"): [4]}
    assert values(store, 0, kind="arrival") == {perf(0, "arrival"): [9]}
    add(a, {perf(0): delta(2**64 - 1, rows=-1)})  # a correction takes away
    with store.closing("churn") as tx:
        assert tx.dirty_performance("pane", HOUR) == [0]
        tx.mark_performance_clean("pane", [0])
        assert tx.finalize_performance("pane", HOUR, merge) == 1
    assert values(store, 0)[perf(0)] == [110]
    with store._db.read() as connection:
        s = t.performance_state.c
        assert connection.scalars(
            sa.select(s.rows).where(s.start_ms == 0, s.segment == "", s.kind == "pane")
        ).all() == [2]


def test_a_checkpoint_during_a_closing_leaves_the_pane_dirty(store):
    worker = Worker(store)
    add(worker, {perf(0): delta(1)})
    late = threading.Thread(target=add, args=[worker, {perf(0): delta(10)}])
    with store.closing("churn") as tx:
        starts = tx.dirty_performance("pane", HOUR)
        late.start()
        late.join(0.3)
        assert late.is_alive()
        tx.mark_performance_clean("pane", starts)
    late.join()
    with store.closing("churn") as tx:
        assert tx.dirty_performance("pane", HOUR) == [0]
    assert values(store, 0) == {perf(0): [11]}


def test_states_of_detectors_are_found_by_pane(store):
    with store.closing("churn") as tx:
        for start, body in [(0, "a"), (1, "b"), (3, "c"), (1, "B")]:
            tx.put_detector_state("1", "", "adwin", start, body)
        tx.put_detector_state("1", "s", "adwin", 2, "of a segment")
    with store.closing("churn") as tx:
        assert tx.detector_state("1", "", "adwin", 3) == (1, "B")
        assert tx.detector_state("1", "", "adwin", 99) == (3, "c")
        assert tx.detector_state("1", "", "adwin", 0) is None
        assert tx.detector_state("2", "", "adwin", 99) is None
    with store.closing("fraud") as tx:
        assert tx.detector_state("1", "", "adwin", 99) is None


def test_clocks_of_outcomes_only_rise_and_are_their_own(store):
    worker = Worker(store)
    for newest, read in [(50, 60), (40, 70), (50, 90)]:
        worker.checkpoint(outcome_clocks={(P0, "churn"): Clock(newest, read)})
        assert store.outcome_clocks(GROUP) == {(GROUP, P0, "churn"): (50, 60)}
    worker.checkpoint(outcome_clocks={(P0, "churn"): Clock(51, 95)}, clocks={(P0, "churn"): Clock(7, 8)})
    assert store.outcome_clocks() == {(GROUP, P0, "churn"): (51, 95)}
    assert store.model_clocks() == {(GROUP, P0, "churn"): (7, 8)}
    assert store.outcome_clocks("another") == {}


def test_what_is_pruned_takes_no_corrections(store):
    worker = Worker(store)
    add(worker, {perf(s, kind): delta(1) for s in range(5) for kind in ("pane", "arrival")}, now_ms=0)
    with store.closing("churn") as tx:
        for kind in ("pane", "arrival"):
            tx.mark_performance_clean(kind, tx.dirty_performance(kind, 4 * HOUR))
            tx.finalize_performance(kind, 4 * HOUR, merge)
        for start in range(5):
            tx.put_detector_state("1", "", "adwin", start * HOUR, "s")
            tx.put_detector_state("1", "", "ddm", start // 2 * HOUR, "s")
    add(worker, {perf(3): delta(1)}, now_ms=900)
    kept = {"performance_pane": 0, "performance_state": 7, "detector_state": 4 + 2}
    assert kept.items() <= store.prune(1000, 500, 500, batch=3).items()
    with store.closing("churn") as tx:
        assert tx.performance_starts("pane", 0, 9 * HOUR) == [3 * HOUR, 4 * HOUR]
        assert tx.performance_starts("arrival", 0, 9 * HOUR) == [4 * HOUR]
        assert tx.detector_state("1", "", "ddm", 9 * HOUR) == (2 * HOUR, "s")  # a detector goes on from its newest
    late = add(worker, {perf(0): delta(7, rows=-3), perf(3): delta(1)}, now_ms=901)
    assert late.late == 3
    assert values(store, 0, 3) == {perf(3): [1, 2]}  # of nobody and of the writer
    assert store.prune(1100, 500, 500)["performance_pane"] == 6
    assert store.prune(5000, 500, 500)["performance_pane"] == 1
