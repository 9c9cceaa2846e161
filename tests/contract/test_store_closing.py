"""Closing, windows, messages and retention, on both databases."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select

from detectors.profile import encode, merge
from monitor.ports import PartitionId
from monitor.store import GapRow, ModelState, PaneRows, PaneSummary, QuarantineRow, Store
from monitor.store.tables import state
from parts.stores import HOUR, P0, P1, Worker, alert, key, message, profile, reference, request, window


def dirty(store: Store, before: int = 1000) -> list[int]:
    with store.closing("churn") as tx:
        return [start // HOUR for start in tx.dirty_panes(before * HOUR)]


def close(store: Store, before: int = 1000) -> None:
    with store.closing("churn") as tx:
        tx.mark_clean(tx.dirty_panes(before * HOUR))


def finalize(store: Store, before: int) -> int:
    with store.closing("churn") as tx:
        return tx.finalize(before * HOUR)


def put(store: Store, *rows) -> None:
    with store.closing("churn") as tx:
        for row in rows:
            tx.put_window(row)


# Panes


def test_a_checkpoint_makes_panes_dirty_and_closing_cleans_them(store):
    worker = Worker(store)
    worker.checkpoint({key(2): profile(1), key(0): profile(1), key(1, model="other"): profile(1)})
    assert dirty(store) == [0, 2]
    assert dirty(store, before=2) == [0]
    close(store, before=1)
    assert dirty(store) == [2]
    worker.checkpoint({key(0): profile(1)})
    assert dirty(store) == [0, 2]


def test_what_raises_inside_a_closing_undoes_it(store):
    Worker(store).checkpoint({key(0): profile(1)})

    def fail():
        with store.closing("churn") as tx:
            tx.mark_clean(tx.dirty_panes(HOUR))
            tx.put_window(window())
            tx.put_outbox(message("m"))
            tx.set_frontier(5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (dirty(store), list(store.windows()), store.outbox_pending()) == ([0], [], 0)
    with store.closing("churn") as tx:
        assert tx.state.frontier_ms is None


def test_a_checkpoint_during_a_closing_leaves_the_pane_dirty(store):
    worker = Worker(store)
    worker.checkpoint({key(0): profile(1, 2)})
    late = threading.Thread(target=worker.checkpoint, args=[{key(0): profile(10, 20)}])
    with store.closing("churn") as tx:
        starts = tx.dirty_panes(HOUR)
        late.start()
        late.join(0.3)
        assert late.is_alive()  # it waits: what is merged now is all there is
        assert tx.profiles(starts)[key(0)].rows == 3
        tx.mark_clean(starts)
    late.join()
    with store.closing("churn") as tx:
        assert tx.dirty_panes(HOUR) == [0]
        assert tx.profiles([0])[key(0)].rows == 33


def test_a_closing_waits_for_the_checkpoint_that_holds_its_pane(store):
    worker = Worker(store)
    worker.checkpoint({key(0): profile(1, 2)})
    merged = []

    def merge_panes():
        with store.closing("churn") as tx:
            merged.append(tx.profiles(tx.dirty_panes(HOUR))[key(0)].rows)

    closer = threading.Thread(target=merge_panes)

    def start(_):
        closer.start()
        closer.join(0.3)
        assert closer.is_alive()

    event.listen(store._db._writer, "commit", start, once=True)
    worker.checkpoint({key(0): profile(10, 20)})
    closer.join()
    assert merged == [33]


def test_only_panes_that_are_held_can_be_marked_clean(store):
    Worker(store).checkpoint({key(0): profile(1), key(1): profile(1)})
    with store.closing("churn") as tx:
        tx.dirty_panes(HOUR)
        with pytest.raises(ValueError):
            tx.mark_clean([0, HOUR])


def test_pane_rows_add_the_writers_up(store):
    a, b = Worker(store, "a", P0), Worker(store, "b", P1)
    for worker in (a, b):
        worker.checkpoint(
            {key(0): profile(1, 2), key(0, version="2"): profile(5), key(3): profile(4), key(4): profile(4)}
        )
    with store.closing("churn") as tx:
        rows = [(row.start_ms // HOUR, row.version, row.rows) for row in tx.pane_rows(0, 4 * HOUR)]
        assert rows == [(0, "1", 6), (0, "2", 10), (3, "1", 8)]
        assert tx.pane_rows(3 * HOUR, 4 * HOUR) == [
            PaneRows(start_ms=3 * HOUR, version="1", reference=key(3).reference, rows=8)
        ]
        assert [type(row.rows) for row in tx.pane_rows(0, 9 * HOUR)] == [int] * 4


def test_final_panes_are_one_row_and_keep_the_sum(store):
    a, b = Worker(store, "a", P0), Worker(store, "b", P1)
    a.checkpoint({key(0): profile(1, 2, 300), key(1): profile(8)})
    b.checkpoint({key(0): profile(4, 5, 60_000), key(0, version="2"): profile(3), key(2): profile(1)})
    close(store, before=2)  # 2 stays dirty
    assert finalize(store, before=3) == 2
    with store.closing("churn") as tx:
        found = tx.profiles([0, HOUR, 2 * HOUR])
    expected = {key(0): merge(profile(1, 2, 300), profile(4, 5, 60_000)), key(1): profile(8)}
    expected |= {key(0, version="2"): profile(3), key(2): profile(1)}
    assert {k: encode(p) for k, p in found.items()} == {k: encode(p) for k, p in expected.items()}
    with store._db.read() as connection:
        writers = connection.execute(
            select(state.c.start_ms, state.c.version, state.c.writer).order_by(*state.primary_key)
        ).all()
    assert writers == [(0, "1", ""), (0, "2", ""), (HOUR, "1", ""), (2 * HOUR, "1", "b")]
    assert store.panes() == [PaneSummary(model="churn", open=1, dirty=1, final=2, late_rows=0)]
    assert finalize(store, before=3) == 0


def test_final_panes_refuse_and_count_what_is_late(store):
    worker = Worker(store)
    worker.checkpoint({key(3): profile(1, 2), key(5): profile(1)})
    close(store)
    finalize(store, before=5)
    late = {
        key(3): profile(7),
        key(3, version="2"): profile(2),
        key(5): profile(1),
        key(1): profile(4),
        key(0, model="other"): profile(6),
    }
    result = worker.checkpoint(late)
    assert result.late_rows == {"churn": 13}  # pane 1 never was, but lies below what is final
    with store.closing("churn") as tx:
        assert {k.start_ms // HOUR: p.rows for k, p in tx.profiles([HOUR, 3 * HOUR, 5 * HOUR]).items()} == {3: 3, 5: 2}
        assert tx.dirty_panes(1000 * HOUR) == [5 * HOUR]
        assert tx.state.first_pane_ms == 3 * HOUR
    assert [(summary.late_rows, summary.dirty) for summary in store.panes()] == [(13, 1), (0, 1)]


@pytest.mark.integration
def test_panes_under_a_checkpoint_are_not_made_final(postgres_url):
    # On SQLite writers take turns, so there is nothing to see.
    store = Store.open(postgres_url)
    worker = Worker(store)
    worker.checkpoint({key(0): profile(1), key(1): profile(1)})
    close(store)
    finals = []
    event.listen(store._db._writer, "commit", lambda _: finals.append(finalize(store, before=5)), once=True)
    assert worker.checkpoint({key(0): profile(10)}).late_rows == {}
    assert finals == [1]
    with store.closing("churn") as tx:
        assert tx.profiles([0])[key(0)].rows == 11
    store.close()


def test_the_frontier_and_the_first_pane_are_remembered(store):
    with store.closing("churn") as tx:
        assert tx.state == ModelState(frontier_ms=None, first_pane_ms=None)
        tx.set_frontier(7 * HOUR)
    Worker(store).checkpoint({key(8): profile(1), key(3): profile(1)})
    with store.closing("churn") as tx:
        assert tx.state == ModelState(frontier_ms=7 * HOUR, first_pane_ms=3 * HOUR)


# Who closes


def test_a_model_is_closed_by_one_worker_at_a_time(store):
    with store.closing("churn") as tx, store.closing("churn") as second:
        assert tx is not None
        assert second is None
    with store.closing("churn") as tx:
        assert tx is not None


def test_models_are_closed_side_by_side_on_postgresql(store):
    with store.closing("churn") as tx, store.closing("other") as other:
        assert tx is not None
        assert (other is None) == store._db.is_sqlite


def test_many_closers_and_writers_at_once_agree_on_the_sum(store):
    workers = [Worker(store, name, PartitionId("events", i)) for i, name in enumerate("abc")]
    stop = threading.Event()

    def write(worker):
        for _ in range(10):
            worker.checkpoint({key(start): profile(1, 2) for start in range(5)})

    def keep_closing(_):
        while not stop.is_set():
            with store.closing("churn") as tx:
                if tx is not None:
                    starts = tx.dirty_panes(HOUR * 1000)
                    tx.mark_clean(starts)
                    for k, p in tx.profiles(starts).items():
                        revision = 1 + max(
                            (w.revision for w in tx.windows(from_ms=k.start_ms, before_ms=k.start_ms + 1)), default=0
                        )
                        tx.put_window(window(f"w{k.start_ms}", k.start_ms // HOUR, revision=revision, rows=p.rows))

    with ThreadPoolExecutor(5) as pool:
        closers = [pool.submit(keep_closing, i) for i in range(2)]
        try:
            list(pool.map(write, workers))
            end = time.monotonic() + 30
            while any(summary.dirty for summary in store.panes()) and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            stop.set()
        for closer in closers:
            closer.result()
    assert sorted((w.start_ms // HOUR, w.rows) for w in store.windows()) == [(start, 90) for start in range(5)]


# Windows


def test_the_newest_revision_stands(store):
    put(store, window("a", 0), window("b", 1))
    put(store, window("a", 0, revision=2, state="drift", digest="e"))
    assert [(w.id, w.revision, w.state) for w in store.windows()] == [("b", 1, "ok"), ("a", 2, "drift")]
    assert [(w.id, w.revision) for w in store.windows(revisions=True)] == [("a", 1), ("b", 1), ("a", 2)]
    assert store.window("a").revision == 2
    assert store.window("none") is None
    with store.closing("churn") as tx:
        assert [(w.id, w.revision) for w in tx.windows()] == [("a", 2), ("b", 1)]


def test_an_equal_revision_changes_its_status_only(store):
    put(store, window("a", 0), window("b", 1))
    put(store, window("a", 0, status="final", findings=b"other", state="drift"))
    rows = list(store.windows())
    assert [(w.id, w.status, w.state, w.findings) for w in rows] == [
        ("a", "final", "ok", b"f"),
        ("b", "provisional", "ok", b"f"),
    ]
    put(store, window("a", 0, revision=2))
    put(store, window("a", 0, revision=1, status="revised"))
    assert [(w.id, w.revision) for w in store.windows()] == [("b", 1), ("a", 2)]


def test_runs_of_no_data_grow_and_shrink_in_place(store):
    silent = {"state": "no_data", "rows": 0}
    put(store, window("n", 0, **silent), window("z", 0, monitor="quality"))
    put(store, window("n", 0, run=3, end_ms=3 * HOUR, **silent))
    assert [(w.id, w.run, w.end_ms) for w in store.windows(monitor="data")] == [("n", 3, 3 * HOUR)]
    put(store, window("m", 2, **silent), window("n", 0, run=2, end_ms=2 * HOUR, **silent))
    assert [(w.id, w.run) for w in store.windows(monitor="data")] == [("n", 2), ("m", 1)]
    assert [w.id for w in store.newest_windows()] == ["m", "z"]


def test_withdrawn_windows_are_shown_as_revisions_only(store):
    put(store, window("a", 0), window("b", 1))
    put(store, window("b", 1, withdrawn=True))
    assert [w.id for w in store.windows()] == ["a"]
    assert [w.id for w in store.windows(revisions=True)] == ["a", "b"]
    assert [w.id for w in store.newest_windows()] == ["a"]
    with store.closing("churn") as tx:
        assert [w.id for w in tx.windows()] == ["a"]
        assert [w.id for w in tx.windows(withdrawn=True)] == ["a", "b"]


def test_windows_are_found_by_what_they_are(store):
    put(
        store,
        *(
            window(f"{m}{v}{s}", s, monitor=m, version=v)
            for s in range(4)
            for m in ("data", "quality")
            for v in ("", "1")
        ),
    )
    with store.closing("churn") as tx:
        assert [w.id for w in tx.windows(monitor="data", version="")] == ["data0", "data1", "data2", "data3"]
        assert len(tx.windows(monitor="data")) == 8
        assert [w.start_ms // HOUR for w in tx.windows(version="1", from_ms=HOUR, before_ms=3 * HOUR)] == [1, 1, 2, 2]
    assert [w.id for w in store.windows("churn", "data", since_ms=3 * HOUR)] == ["data3", "data13"]
    assert list(store.windows("other")) == []
    assert [w.id for w in store.windows(limit=2)] == ["quality3", "quality13"]
    assert [(w.version, w.monitor, w.id) for w in store.newest_windows()] == [
        ("", "data", "data3"),
        ("", "quality", "quality3"),
        ("1", "data", "data13"),
        ("1", "quality", "quality13"),
    ]


def test_more_windows_than_a_page_come_in_the_order_decided(store):
    put(store, *(window(f"w{i}", 2000 - i) for i in range(1203)))
    decided = [w.decided for w in store.windows()]
    assert len(decided) == 1203
    assert decided == sorted(decided)
    assert [w.id for w in store.windows(limit=700)][:2] == ["w503", "w504"]


# Alerts and messages


def test_alert_rows_and_states(store):
    with store.closing("churn") as tx:
        tx.put_alert_state("f", "churn", "{1}")
        tx.put_alert_state("g", "churn", "{}")
        tx.put_alert_state("f", "churn", "{2}")
        tx.put_alert_state("g", "churn", None)
        for row in (alert(), alert("b", fingerprint="g"), alert(status="resolved")):
            tx.put_alert(row)
    with store.closing("churn") as tx:
        assert tx.alert_states() == {"f": "{2}"}
        assert [(a.id, a.status) for a in tx.alert_rows("f")] == [("a", "firing"), ("a", "resolved")]
        assert len(tx.alert_rows()) == 3
    with store.closing("other") as tx:
        assert (tx.alert_states(), tx.alert_rows()) == ({}, [])
    assert [(a.id, a.status) for a in store.alerts()] == [("b", "firing"), ("a", "resolved")]
    assert [a.seq for a in store.alerts(history=True)] == [1, 2, 3]


def send(store: Store, *ids: str, **more) -> None:
    with store.closing("churn") as tx:
        for name in ids:
            tx.put_outbox(message(name, **more))


def lease(store: Store, now_ms: int = 0, owner: str = "s1", limit: int = 10) -> list[str]:
    return [row.id for row in store.lease_outbox(now_ms, owner, 100, limit)]


def finish(store: Store, id: str, owner: str = "s1", *, now_ms: int = 0, again: int | None = None, sent: bool = False):
    return store.finish_outbox(
        id, owner, sent=sent, error=None if sent else "503", next_attempt_at_ms=again, now_ms=now_ms
    )


def test_messages_of_one_key_go_in_order(store):
    send(store, "a1", "a2")
    send(store, "b1", ordering_key="g")
    send(store, "c1", receiver="team")
    send(store, "a1")  # put twice is sent once
    assert lease(store) == ["a1", "b1", "c1"]
    assert finish(store, "a1", sent=True) == "sent"
    assert lease(store, owner="s2") == ["a2"]
    assert (store.outbox_pending(), store.outbox_pending("team")) == (3, 1)
    assert lease(store, owner="s2") == []


def test_a_lease_ends_and_its_former_owner_has_no_say(store):
    send(store, "a1", "a2")
    assert lease(store, 0) == ["a1"]
    assert lease(store, 99, "s2") == []
    assert lease(store, 100, "s2") == ["a1"]
    assert finish(store, "a1", "s1", sent=True) is None
    assert finish(store, "a1", "s2", sent=True) == "sent"
    assert finish(store, "a1", "s2", sent=True) is None


def test_what_failed_is_tried_again_before_what_follows(store):
    send(store, "a1", "a2")
    lease(store)
    assert finish(store, "a1", again=50) == "pending"
    assert lease(store, 49) == []
    (row,) = store.lease_outbox(50, "s2", 100, 10)
    assert (row.id, row.attempts, row.last_error) == ("a1", 1, "503")
    assert finish(store, "a1", "s2", now_ms=60) == "failed"
    assert lease(store, 60) == ["a2"]


def test_an_expired_message_is_leased_once_more_to_be_closed(store):
    send(store, "a1", expires_at_ms=40)
    assert lease(store, 50) == ["a1"]
    assert finish(store, "a1", now_ms=50) == "expired"
    assert (lease(store, 500), store.outbox_pending()) == ([], 0)


def test_no_two_senders_get_the_same_message(store):
    for i in range(60):
        send(store, f"m{i}", ordering_key=f"k{i}")
    barrier = threading.Barrier(4)

    def take(owner):
        barrier.wait()
        got = []
        while more := lease(store, 0, owner, limit=5):
            got += more
        return got

    with ThreadPoolExecutor(4) as pool:
        taken = [name for got in pool.map(take, "abcd") for name in got]
    taken += lease(store, 0, "e", limit=99)  # SKIP LOCKED may have passed some over
    assert sorted(taken) == sorted(f"m{i}" for i in range(60))


# Retention


def test_prune_forgets_what_is_old_in_batches(store):
    worker = Worker(store)
    bad = QuarantineRow(source="live", topic="events", partition=0, offset=3, reason="bad_json", detail="")
    gap = GapRow(source="live", topic="events", partition=0, from_offset=4, to_offset=6, reason="retention")
    store.add_reference(reference(recorded_at_ms=0), window_ms=HOUR)
    worker.checkpoint({key(s): profile(1) for s in range(7)}, now_ms=0, quarantine=[bad] * 7, gaps=[gap])
    close(store)
    finalize(store, before=6)
    worker.checkpoint({key(9): profile(1)}, now_ms=900, quarantine=[bad])
    with store.closing("churn") as tx:
        for i in range(7):
            tx.put_window(window(f"old{i}", i, version="old", recorded_at_ms=10))
            tx.put_alert(alert(recorded_at_ms=10))
        tx.put_window(window("young", 9, recorded_at_ms=900))
        tx.put_alert(alert(recorded_at_ms=900))
        for name in ("sent", "pending"):
            tx.put_outbox(message(name, ordering_key=name))
        tx.put_retraining(request("r", recorded_at_ms=10))
    lease(store)
    finish(store, "sent", sent=True)
    assert set(store.prune(100, 1000, 1000).values()) == {0}
    deleted = store.prune(1000, 500, 500, batch=3)
    assert {name: count for name, count in deleted.items() if count} == {
        "windows": 7,
        "alert": 7,
        "retraining": 1,
        "retraining_step": 1,
        "outbox": 1,
        "quarantine": 7,
        "gap": 1,
        "pane": 6,
        "state": 6,
        "track": 1,
    }
    assert [w.id for w in store.windows()] == ["young"]
    assert [w.id for w in store.newest_windows()] == ["young"]
    assert (len(store.quarantine()), store.outbox_pending(), len(store.references())) == (1, 1, 1)
    assert [(p.open, p.final) for p in store.panes()] == [(2, 0)]
    assert worker.checkpoint({key(0): profile(4)}).late_rows == {"churn": 4}  # what was final stays so
    with store.closing("churn") as tx:
        assert tx.state.first_pane_ms == 0
