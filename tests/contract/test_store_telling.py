"""Telling in the store, on both databases: every transition is taken once, by one worker, together with what was made of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import pytest
import sqlalchemy as sa

from alerts.desk import Desk
from alerts.grouping import Group, Member
from alerts.lifecycle import Acknowledgement, Severity
from alerts.matching import parse_matcher
from alerts.silence import Silence
from alerts.storm import Held, StormState
from monitor.store import ActRow, BusyError, Store, ToldRow, engine
from monitor.store import tables as t
from parts.stores import alert, message

KEY = '["oncall","",[["incident","i"]]]'
GROUP = Group(members={"a": Member(alert="a", severity=Severity.WARNING, firing=True, waiting=(1, 2))}, look_ms=500)
HELD = Held(key=KEY, incident="i", models=("churn",), is_critical=True, text="t", at_ms=3)
STORM = StormState(sent_ms=(1, 2), held=(HELD,), summaries={"storm-1": (KEY,)}, alone=frozenset({KEY}))


def put(store: Store, *rows, model: str = "churn") -> None:
    with store.closing(model) as tx:
        for row in rows:
            tx.put_alert(row)


def keep(store: Store, desk: Desk, *changed: str, look_ms: int | None = None) -> None:
    with store.telling() as tx:
        tx.keep(desk, changed, look_ms)


def pending(store: Store) -> list[int]:
    with store.telling() as tx:
        return [row.seq for row in tx.arrivals()]


def rows_of(store: Store, *tables: sa.Table) -> list[int]:
    with store._db.read() as connection:
        return [connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]


# Transitions


def test_the_newest_transition_of_an_alert_stands(store):
    put(store, alert("a"), alert("b"), alert("a", severity="critical"))
    put(store, alert("b", status="resolved"))
    assert [(a.seq, a.id, a.severity) for a in store.alerts()] == [(3, "a", "critical"), (4, "b", "warning")]
    assert [a.id for a in store.firing_alerts()] == ["a"]
    assert [a.seq for a in store.alert_history("b")] == [2, 4]
    put(store, alert("a", status="resolved"), alert("a", status="firing", corrected=True))
    assert [(a.seq, a.corrected) for a in store.firing_alerts()] == [(6, True)]
    assert len(store.alerts(history=True)) == 6


def test_what_a_closer_puts_it_reads_at_once(store):
    with store.closing("churn") as tx:
        tx.put_alert(alert("a"))
        assert [row.id for row in tx.alert_rows()] == ["a"]
        tx.put_alert(alert("a", status="resolved", stale=True, pending=True))
    assert [(a.status, a.stale, a.pending) for a in store.alerts(history=True)] == [
        ("firing", False, False),
        ("resolved", True, True),
    ]


@pytest.mark.parametrize(
    ("condition", "index"), [(t.IS_FIRING, "ix_alert_firing"), (t.alert.c.pending, "ix_alert_pending")]
)
def test_what_is_read_all_the_time_has_its_index(store, condition, index):
    put(store, *(alert(f"a{i}", status="resolved") for i in range(50)), alert("z", pending=True))
    with store._db.read() as connection:
        sql = str(sa.select(t.alert.c.id).where(condition).compile(connection))
        if not store._db.is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if store._db.is_sqlite else "EXPLAIN "
        plan = " ".join(str(row) for row in connection.exec_driver_sql(explain + sql))
    assert index in plan


# Who tells


def test_pending_transitions_are_taken_by_name(store):
    put(
        store,
        alert("a", pending=True),
        alert("b"),
        alert("c", pending=True),
        alert("a", status="resolved", pending=True),
    )
    assert store.telling_due(0)
    with store.telling() as tx:
        assert [row.seq for row in tx.arrivals(limit=2)] == [1, 3]
        assert [row.seq for row in tx.arrivals()] == [1, 3, 4]
        assert [(row.seq, row.id) for row in tx.transitions([3, 1, 99])] == [(1, "a"), (3, "c")]
        assert [(row.seq, row.id) for row in tx.alerts(["a", "gone"])] == [(2, "b"), (3, "c"), (4, "a")]
        tx.taken([1, 4])
    assert pending(store) == [3]
    with store.telling() as tx:
        tx.taken([3])
    assert not store.telling_due(10**15)


def test_one_worker_tells_at_a_time(store):
    with store.telling() as tx, store.telling() as second:
        assert tx is not None
        assert second is None
    with store.telling() as tx:
        assert tx is not None


def test_closers_go_on_while_one_tells_on_postgresql(store):
    put(store, alert("a", pending=True))
    with store.telling() as tx:
        assert [row.seq for row in tx.arrivals()] == [1]
        with store.closing("other") as closer:
            assert (closer is None) == store._db.is_sqlite
            if closer is not None:
                closer.put_alert(alert("b", model="other", pending=True))
        tx.taken([1])
    assert pending(store) == ([] if store._db.is_sqlite else [2])


def test_what_raises_while_telling_undoes_it(store):
    put(store, alert("a", pending=True))

    def fail():
        with store.telling() as tx:
            tx.taken([1])
            tx.keep(Desk(groups={KEY: GROUP}, storms={"oncall": STORM}, links={"j": "i"}), [KEY], 5)
            tx.put_outbox(message("m"))
            tx.put_told([ToldRow(alert="a", receiver="oncall", outcome="told", detail="", at_ms=1)])
            tx.put_pages([("i", "churn", 1)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert pending(store) == [1]
    assert rows_of(store, t.alert_group, t.alert_desk, t.alert_told, t.page, t.outbox) == [0] * 5


KILLED = """
import os, sys
from alerts.desk import Desk
from monitor.store import Store
from parts.stores import message
from contract.test_store_telling import GROUP, KEY, STORM
with Store.open(sys.argv[1]).telling() as tx:
    tx.taken([row.seq for row in tx.arrivals()])
    tx.keep(Desk(groups={KEY: GROUP}, storms={"oncall": STORM}, links={"j": "i"}), [KEY], 5)
    tx.put_outbox(message("m"))
    tx.put_pages([("i", "churn", 1)])
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_killed_teller_leaves_nothing_half_written_and_the_next_takes_over(store, store_url):
    put(store, alert("a", pending=True), alert("b", pending=True))
    path = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    teller = subprocess.Popen(
        [sys.executable, "-c", KILLED, store_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path
    )
    assert teller.stdout.readline() == "written\n"
    with store.telling() as tx:
        assert tx is None
    teller.kill()
    teller.communicate()
    end = time.monotonic() + 10
    while not (taken := took_over(store)) and time.monotonic() < end:
        time.sleep(0.02)  # the server finds out that its client is gone
    assert taken == [1, 2]
    assert rows_of(store, t.alert_group, t.alert_desk, t.page, t.outbox) == [0] * 4


def took_over(store: Store) -> list[int]:
    with store.telling() as tx:
        return [] if tx is None else [row.seq for row in tx.arrivals()]


@pytest.mark.integration
def test_no_transition_is_skipped_that_is_committed_out_of_order(postgres_url):
    # On SQLite writers take turns, so there is nothing to see.
    store = Store.open(postgres_url)
    with store.closing("churn") as slow:
        slow.put_alert(alert("a", pending=True))
        slow.alert_rows()  # writes it: seq 1, which nobody sees yet
        put(store, alert("b", model="other", pending=True), model="other")
        with store.telling() as tx:
            assert [row.seq for row in tx.arrivals()] == [2]
            tx.taken([2])
    with store.telling() as tx:
        assert [row.seq for row in tx.arrivals()] == [1]
        tx.taken([1])
    assert not store.telling_due(0)
    store.close()


def test_closers_and_tellers_at_once_tell_every_transition_once(store):
    closing = threading.Event()

    def close(model: str) -> int:
        turns = 0
        for turn, status in zip(range(30), cycle(["firing", "resolved"]), strict=False):
            names = [f"{model}{i}" for i in range(6)]
            with store.closing(model) as tx:
                if tx is not None:  # in another order each time
                    turns += 1
                    for name in names if turn % 2 else reversed(names):
                        tx.put_alert(alert(name, model=model, fingerprint=name, status=status, pending=True))
        return turns

    def tell() -> int:
        told = 0
        while True:
            over = closing.is_set() and not store.telling_due(0)
            with store.telling() as tx:
                if tx is not None:
                    rows = tx.arrivals(limit=7)[::-1]
                    tx.taken([row.seq for row in rows])
                    for row in rows:
                        tx.put_outbox(message(f"m{row.seq}", ordering_key=row.model))
                    told += len(rows)
            if over:
                return told

    with ThreadPoolExecutor(5) as pool:
        tellers = [pool.submit(tell) for _ in range(2)]
        turns = sum(pool.map(close, ["x", "y", "z"]))
        closing.set()
        told = [teller.result() for teller in tellers]
    assert turns > 30
    assert sum(told) == len(store.alerts(history=True)) == 6 * turns
    with store._db.read() as connection:
        sent = set(connection.scalars(sa.select(t.outbox.c.id)))
        newest = connection.scalar(sa.select(sa.func.count()).where(t.alert.c.newest))
    assert sent == {f"m{row.seq}" for row in store.alerts(history=True)}
    assert (newest, len(store.alerts())) == (18, 18)
    assert sum(told) == len(sent)


# What is kept


def test_the_desk_is_kept(store):
    other = KEY.replace('"i"', '"j"')
    desk = Desk(groups={KEY: GROUP, other: GROUP}, storms={"oncall": STORM}, links={"j": "i"})
    keep(store, desk, KEY, other, look_ms=500)
    with store.telling() as tx:
        assert tx.desk() == desk
        assert (tx.silences(0), tx.acknowledgements(["a"])) == ([], {})
    after = Desk(groups={KEY: GROUP})
    keep(store, after, other)
    with store.telling() as tx:
        assert tx.desk() == after
    keep(store, Desk(groups={}), KEY)
    with store.telling() as tx:
        assert tx.desk() == Desk()


def test_only_groups_that_changed_are_written(store):
    keep(store, Desk(groups={KEY: GROUP}), KEY)
    keep(store, Desk(groups={KEY: Group(members={}, look_ms=None)}))
    with store.telling() as tx:
        assert tx.desk().groups == {KEY: GROUP}


def test_telling_is_due_when_a_look_is(store):
    assert not store.telling_due(10**15)
    keep(store, Desk(groups={KEY: GROUP}), KEY, look_ms=500)
    assert (store.telling_due(499), store.telling_due(500)) == (False, True)
    keep(store, Desk(groups={KEY: Group(members={}, look_ms=None)}, storms={"oncall": STORM}), KEY, look_ms=300)
    assert (store.telling_due(299), store.telling_due(300)) == (False, True)
    keep(store, Desk(), KEY)
    assert not store.telling_due(10**15)


def test_the_newest_record_of_an_alert_and_a_receiver_holds(store):
    def told(alert_id: str, receiver: str, outcome: str, at_ms: int) -> ToldRow:
        return ToldRow(alert=alert_id, receiver=receiver, outcome=outcome, detail=f"at {at_ms}", at_ms=at_ms)

    put(store, alert("a"), alert("b"))
    with store.telling() as tx:
        tx.put_told([told("a", "oncall", "silenced", 1), told("b", "oncall", "told", 1), told("a", "team", "told", 1)])
        tx.put_told([])
    with store.telling() as tx:
        tx.put_told(
            [told("a", "oncall", "silenced", 2), told("a", "oncall", "told", 2), told("b", "oncall", "held", 3)]
        )
    with store.closing("churn") as tx:
        tx.put_told([told("a", "retraining", "cooldown", 4), told("gone", "retraining", "cooldown", 5)])
    assert [(row.receiver, row.outcome, row.detail) for row in store.told("a")] == [
        ("oncall", "told", "at 2"),
        ("retraining", "cooldown", "at 4"),
        ("team", "told", "at 1"),
    ]
    assert (store.told_to("oncall"), store.told_to("team"), store.told_to("x")) == ({"a"}, {"a"}, set())
    assert [(row.at_ms, of.id) for row, of in store.told_by("oncall")] == [(2, "a"), (3, "b")]
    assert [(row.detail, of.seq) for row, of in store.told_by("retraining")] == [("at 4", 1)]


def test_the_first_page_of_an_incident_stays(store):
    with store.telling() as tx:
        tx.put_pages([("i", "churn", 7), ("i", "other", 8), ("h", "churn", 9)])
        tx.put_pages([("i", "churn", 9)])
        tx.put_pages([])
    assert [(p.incident, p.model, p.at_ms, p.verdict) for p in store.pages()] == [
        ("i", "churn", 7, None),
        ("i", "other", 8, None),
        ("h", "churn", 9, None),
    ]


def test_silences_that_are_over_are_not_asked(store):
    act = ActRow(at_ms=0, who="ann", act="silence", subject="s", detail="")
    for name, starts_ms, ends_ms in [("over", 0, 10), ("now", 0, 11), ("later", 20, 30)]:
        matchers = (parse_matcher("model=churn"),)
        silence = Silence(id=name, matchers=matchers, starts_ms=starts_ms, ends_ms=ends_ms, who="ann", why="w")
        store.put_silence(silence, act)
    with store.telling() as tx:
        assert [s.id for s in tx.silences(10)] == ["now", "later"]


# People beside the teller


def acknowledged(store: Store, alert_id: str = "a", severity: Severity = Severity.WARNING) -> None:
    given = Acknowledgement(alert=alert_id, who="ann", at_ms=9, severity=severity)
    store.acknowledge(given, ActRow(at_ms=9, who="ann", act="ack", subject=alert_id, detail=""))


def test_an_acknowledgement_reaches_the_groups_of_its_alert(store):
    other = KEY.replace('"i"', '"j"')
    stranger = Group(members={"b": Member(alert="b", severity=Severity.WARNING, firing=True)}, look_ms=1)
    put(store, alert("a"))
    keep(store, Desk(groups={KEY: GROUP, other: stranger}), KEY, other)
    acknowledged(store)
    with store.telling() as tx:
        groups = tx.desk().groups
        assert groups[KEY].members["a"].acknowledged
        assert groups[other] == stranger
        assert [a.who for a in tx.acknowledgements(["a", "b"]).values()] == ["ann"]
    put(store, alert("a", severity="critical"))
    acknowledged(store, severity=Severity.WARNING)  # of what it was: the alert is worse by now
    with store.telling() as tx:
        assert not tx.desk().groups[KEY].members["a"].acknowledged


def test_an_acknowledgement_waits_for_the_turn_under_way(store):
    put(store, alert("a", pending=True))
    person = threading.Thread(target=acknowledged, args=[store])
    with store.telling() as tx:
        person.start()
        person.join(0.3)
        assert person.is_alive()
        tx.keep(Desk(groups={KEY: GROUP}), [KEY], 500)
        tx.taken([1])
    person.join()
    with store.telling() as tx:
        assert tx.desk().groups[KEY].members["a"].acknowledged


def test_an_acknowledgement_that_would_wait_too_long_is_transient_and_leaves_nothing(store, store_url, monkeypatch):
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 200)
    hasty = Store.open(store_url, busy_timeout_ms=200)
    with store.telling(), pytest.raises(BusyError):
        acknowledged(hasty)
    assert (store.acknowledgements("a"), store.acts()) == ([], [])
    acknowledged(hasty)
    assert len(store.acknowledgements("a")) == len(store.acts()) == 1
    hasty.close()
