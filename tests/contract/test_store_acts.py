"""What people do, and what is kept of it, on both databases: silences, acknowledgements, verdicts, posts, retention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from alerts.desk import Desk
from alerts.lifecycle import Acknowledgement, Severity, Verdict
from alerts.matching import parse_matcher
from alerts.silence import Silence, expire
from monitor.store import ActRow, Store, ToldRow
from monitor.store import tables as t
from parts.stores import alert, request

SILENCE = Silence(
    id="s1",
    matchers=(parse_matcher("model=churn"), parse_matcher("subject=~inc.*")),
    starts_ms=10,
    ends_ms=500,
    who="ann",
    why="a migration",
)


def act(at_ms: int = 9, **more: object) -> ActRow:
    fields = {"at_ms": at_ms, "who": "ann", "act": "ack", "subject": "a", "detail": ""}
    return ActRow(**fields | more)  # type: ignore[arg-type]


def acknowledge(store: Store, alert_id: str, verdict: Verdict | None = None, at_ms: int = 9, who: str = "ann") -> None:
    given = Acknowledgement(
        alert=alert_id, who=who, at_ms=at_ms, severity=Severity.CRITICAL, verdict=verdict, comment="seen"
    )
    store.acknowledge(given, act(at_ms, who=who, subject=alert_id))


def put(store: Store, *rows) -> None:
    with store.closing("churn") as tx:
        for row in rows:
            tx.put_alert(row)


def test_a_silence_is_kept_and_ends_early_under_its_id(store):
    store.put_silence(SILENCE, act(5, act="silence add", subject="s1"))
    store.put_silence(replace(SILENCE, id="s0", ends_ms=400), act(6, act="silence add", subject="s0"))
    assert [s.id for s in store.silences()] == ["s0", "s1"]
    assert store.silences()[1] == SILENCE
    ended = expire(SILENCE, 300, "bob")
    store.put_silence(ended, act(300, who="bob", act="silence expire", subject="s1"))
    assert store.silences()[0] == ended
    assert [(a.seq, a.who, a.act, a.subject) for a in store.acts()] == [
        (1, "ann", "silence add", "s1"),
        (2, "ann", "silence add", "s0"),
        (3, "bob", "silence expire", "s1"),
    ]


def test_the_last_acts_come_oldest_first(store):
    for at_ms in range(4):
        store.put_act(act(at_ms))
    assert [a.at_ms for a in store.acts(2)] == [2, 3]
    assert [a.at_ms for a in store.acts()] == [0, 1, 2, 3]


def test_the_newest_acknowledgement_holds(store):
    acknowledge(store, "a")
    acknowledge(store, "b", Verdict.REAL)
    acknowledge(store, "a", Verdict.EXPECTED, at_ms=5, who="bob")  # by when it came, not by what its clock says
    assert [(a.who, a.verdict, a.comment) for a in store.acknowledgements("a")] == [
        ("ann", None, "seen"),
        ("bob", Verdict.EXPECTED, "seen"),
    ]
    with store.telling() as tx:
        assert {name: a.who for name, a in tx.acknowledgements(["a", "b", "c"]).items()} == {"a": "bob", "b": "ann"}
    with store.closing("churn") as tx:
        assert tx.acknowledgements(["a"])["a"].severity is Severity.CRITICAL
        assert tx.acknowledgements([]) == {}
    assert store.acknowledgements("c") == []
    assert [a.subject for a in store.acts()] == ["a", "b", "a"]


def test_pages_have_the_newest_verdict_of_their_incident(store):
    put(store, alert("a", incident="i"), alert("b", incident="i"), alert("c", incident="j"), alert("a", incident="i"))
    with store.telling() as tx:
        tx.put_pages([("i", "churn", 1), ("j", "churn", 2), ("k", "churn", 3)])
    acknowledge(store, "a", Verdict.FALSE)
    acknowledge(store, "b", Verdict.REAL)
    acknowledge(store, "a")  # somebody else looks at it and says nothing
    assert [(p.incident, p.verdict) for p in store.pages()] == [("i", Verdict.REAL), ("j", None), ("k", None)]
    acknowledge(store, "a", Verdict.FALSE)
    assert store.pages()[0].verdict is Verdict.FALSE


def test_posts_are_found_after_a_restart(store, store_url):
    posts = store.posts("slack", lambda: 7)
    assert posts.recall("i") is None
    posts.remember("i", "C1", "1.5")
    posts.remember("i", "C1", "2.5")
    again = Store.open(store_url)
    assert again.posts("slack", lambda: 7).recall("i") == ("C1", "2.5")
    assert again.posts("team", lambda: 7).recall("i") is None
    again.close()
    posts.forget("i")
    assert posts.recall("i") is None


def test_posts_that_cannot_be_kept_are_told_and_do_no_harm(store, store_url, monkeypatch):
    monkeypatch.setattr("monitor.store.engine.LOCK_TIMEOUT_MS", 200)
    hasty = Store.open(store_url, busy_timeout_ms=200)
    posts = hasty.posts("slack", lambda: 7)
    posts.remember("i", "C1", "1.5")
    with store._db.write() as connection, capture_logs() as logs:
        connection.execute(sa.update(t.post).values(at_ms=8))
        posts.remember("i", "C1", "9.9")
        posts.forget("i")
    assert [line["receiver"] for line in logs] == ["slack", "slack"]
    assert posts.recall("i") == ("C1", "1.5")
    hasty.close()


# Retention


def test_prune_keeps_what_fires_or_waits_and_forgets_what_belonged_to_the_rest(store):
    put(
        store,
        alert("over", recorded_at_ms=10),
        alert("over", status="resolved", recorded_at_ms=10),
        alert("fires", recorded_at_ms=10),
        alert("waits", status="resolved", pending=True, recorded_at_ms=10),
        alert("young", status="resolved", recorded_at_ms=900),
    )
    for name in ("over", "fires", "young"):
        acknowledge(store, name, at_ms=900)
    told = [ToldRow(alert=n, receiver="oncall", outcome="told", detail="", at_ms=900) for n in ("over", "fires")]
    with store.telling() as tx:
        tx.put_told(told)
        tx.put_pages([("i", "churn", 10), ("j", "churn", 900)])
        tx.keep(Desk(links={"j": "i"}), [], 5)
    store.put_silence(SILENCE, act(10))
    store.put_silence(replace(SILENCE, id="s2", ends_ms=501), act(900))
    for at_ms, incident in ((10, "i"), (900, "j")):
        store.posts("slack", lambda at_ms=at_ms: at_ms).remember(incident, "C1", "1.5")
    with store.closing("churn") as tx:
        tx.put_retraining(request("old", recorded_at_ms=10))
        tx.put_retraining(request("new", recorded_at_ms=900))
    deleted = store.prune(1001, 500, 500, batch=2)
    assert {name: count for name, count in deleted.items() if count} == {
        "alert": 2,
        "alert_told": 1,
        "acknowledgement": 1,
        "page": 1,
        "post": 1,
        "silence": 1,
        "act": 1,
        "retraining": 1,
        "retraining_step": 1,
    }
    assert [a.id for a in store.alerts()] == ["fires", "waits", "young"]
    assert (store.told_to("oncall"), store.acknowledgements("over")) == ({"fires"}, [])
    assert [p.incident for p in store.pages()] == ["j"]
    assert [s.id for s in store.silences()] == ["s2"]
    assert [len(store.retraining_steps(name)) for name in ("old", "new")] == [0, 1]
    with store.telling() as tx:
        assert tx.desk().links == {"j": "i"}


@pytest.mark.parametrize("name", ["telling", "retraining"])
def test_nothing_ever_deletes_a_turn(store, name):
    store.prune(10**15, 1, 1)
    with store._db.read() as connection:
        assert connection.scalar(sa.select(t.turn.c.name).where(t.turn.c.name == name)) == name
