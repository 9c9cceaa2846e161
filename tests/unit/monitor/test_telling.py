"""Messages as they are composed, rules as they are read, and tellers beside each other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alerts.desk import Desk, Message
from alerts.grouping import Audience, Notice, Timing, Why
from alerts.storm import Limit
from monitor.config import parse_config
from monitor.store import AlertRow, Store
from monitor.telling.messages import ALERTS_A_MESSAGE, Known, for_log, for_people, for_stream, identity_of
from monitor.telling.rules import rules_of
from monitor.telling.teller import Teller
from tests.parts.office import put
from tests.parts.stores import alert

NOW = 1_000_000
KEY = '["team","team{}",[["incident","i"]]]'


def rows(*states: tuple[str, str, str]) -> list[AlertRow]:
    """(alert, incident, status) by seq from 1."""
    return [
        alert(name, seq=seq, incident=of, status=status, reason="drifted" if status == "firing" else "cleared")
        for seq, (name, of, status) in enumerate(states, 1)
    ]


def data_of(row: Any) -> dict[str, Any]:
    return json.loads(row.body)["data"]


def notice(*seqs: int, firing: tuple[str, ...] = (), resolved: tuple[str, ...] = (), why: Why = Why.NEW) -> Notice:
    return Notice(why=why, firing=firing, resolved=resolved, transitions=seqs)


def message(said: Notice, *, key: str = KEY, receiver: str = "team") -> Message:
    return Message(receiver=receiver, key=key, order="churn", notice=said, incidents=("i",))


def test_the_status_of_a_streams_message_is_the_incidents_right_after_it() -> None:
    told = rows(("a", "i", "firing"), ("b", "j", "firing"), ("b", "j", "resolved"), ("a", "i", "resolved"))
    bodies = [data_of(row) for row in for_log(told, Known.of(told), NOW)]
    assert [(d["incident"], d["status"], len(d["alerts"])) for d in bodies] == [
        ("i", "firing", 1), ("j", "resolved", 2), ("i", "resolved", 1),
    ]  # fmt: skip


def test_an_alert_of_which_only_the_end_is_known_had_fired_before() -> None:
    before, end = rows(("a", "i", "resolved"), ("b", "i", "resolved"))
    known = Known.of([before, end])
    assert str(known.status_after("i", before.seq)) == "firing"
    assert str(known.status_after("i", end.seq)) == "resolved"
    worse = replace(before, seq=5, id="c", status="firing", reason="escalated")
    assert str(Known.of([end, worse]).status_after("i", end.seq)) == "firing"
    begins = replace(worse, reason="drifted")
    assert str(Known.of([end, begins]).status_after("i", end.seq)) == "resolved"


def test_the_log_is_told_model_by_model_in_order_and_in_parts() -> None:
    many = [alert(f"a{n}", seq=n, model=f"m{n % 2}", incident=f"i{n % 2}") for n in range(1, 2 * ALERTS_A_MESSAGE + 3)]
    put_rows = for_log(many, Known.of(many), NOW)
    assert [(row.ordering_key, len(data_of(row)["alerts"])) for row in put_rows] == [
        ("m0", ALERTS_A_MESSAGE), ("m0", 1), ("m1", ALERTS_A_MESSAGE), ("m1", 1),
    ]  # fmt: skip
    assert [data_of(row)["sequence"] for row in put_rows] == [200, 202, 199, 201]
    assert len({row.id for row in put_rows}) == 4


def test_a_repetition_is_no_copy() -> None:
    told = rows(("a", "i", "firing"))
    again = message(notice(firing=("a",), why=Why.REPEATED), receiver="hook")
    (one,), (two,) = (for_stream(again, {"a": told[0]}, Known.of(told), now) for now in (NOW, NOW + 1))
    assert one.id != two.id
    assert data_of(one) != data_of(two)
    assert data_of(one)["alerts"] == data_of(two)["alerts"]


def test_people_read_what_is_the_matter_and_status_is_that_of_what_they_know() -> None:
    told = rows(("a", "i", "firing"), ("b", "i", "resolved"))
    newest = {row.id: row for row in told}
    row = for_people(message(notice(1, 2, firing=("a",), resolved=("b",))), newest, Desk(), NOW)
    data = data_of(row)
    assert (data["incident"], data["status"], len(data["alerts"])) == ("i", "firing", 2)
    assert data["summary"] == "[WARNING] churn 1: t; no effect on performance is known yet"
    assert "sequence" not in data
    over = data_of(for_people(message(notice(2, resolved=("b",), why=Why.RESOLVED)), newest, Desk(), NOW))
    assert over["status"] == "resolved"


def test_a_group_that_shares_no_incident_has_a_name_of_its_own() -> None:
    other = '["team","team{}",[["model","churn"]]]'
    assert identity_of(KEY) == "i"
    assert identity_of(other).startswith("group-")
    assert identity_of(other) != identity_of(other.replace("churn", "fraud"))


def test_the_rules_are_those_of_the_configuration(tmp_path: Path) -> None:
    secret = {"secret": {"env": "X"}}
    config = parse_config(
        {
            "models": {"churn": {}},
            "time_intervals": {"night": ["22:00-24:00"]},
            "receivers": {
                "hook": {"webhook": {"url": "http://127.0.0.1:9", **secret}},
                "prom": {"alertmanager": {"urls": ["http://127.0.0.1:9"]}},
                "book": {"log": {}},
                "oncall": {"pagerduty": {"routing_key": {"env": "X"}}},
                "loud": {"pagerduty": {"routing_key": {"env": "X"}}, "limit": "off"},
                "team": {"slack": {"url": {"env": "X"}}, "limit": {"messages": 2, "per": "10m", "settle": "0s"}},
            },
            "routes": [
                {"match": {"severity": "critical"}, "matchers": "model=~ch.*", "receiver": "oncall", "continue": True,
                 "group_by": ["model"], "group_wait": "1s", "mute_time_intervals": ["night"]},
                {"receiver": "hook", "repeat_interval": "1h"},
                {"receiver": "team", "digest": True},
            ],
        },
        tmp_path,
    )  # fmt: skip
    rules = rules_of(config)
    stream = [name for name, one in rules.receivers.items() if one.audience is Audience.STREAM]
    assert stream == ["hook", "prom", "book"]
    limits = {name: one.limit for name, one in rules.receivers.items() if one.limit is not None}
    assert limits == {"oncall": Limit(), "team": Limit(messages=2, per_ms=600_000, settle_ms=0)}
    first, second, third = rules.routes
    assert (first.goes_on, first.group_by, first.digest) == (True, ("model",), False)
    assert first.timing == Timing(wait_ms=1_000)
    assert [str(window) for window in first.mute] == ["22:00-24:00"]
    assert first.fits({"severity": "critical", "model": "churn"})
    assert not first.fits({"severity": "critical", "model": "fraud"})
    assert second.timing == Timing(wait_ms=0, interval_ms=1, repeat_ms=3_600_000)
    assert (third.digest, third.timing) == (True, None)


# -- tellers


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/driftline.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://", 1)
    store = Store.open(url, durable=False)
    yield store
    store.close()


def test_tellers_beside_each_other_and_closers_tell_each_transition_once(store: Store, tmp_path: Path) -> None:
    config = parse_config({"models": {"churn": {}}}, tmp_path)
    models, each = ("m0", "m1", "m2", "m3"), 30
    closed = threading.Event()

    def tell() -> None:
        teller = Teller(store, config)
        while not closed.is_set() or store.telling_due(NOW):
            teller.turn(NOW)

    def close(model: str) -> None:
        for name, status in episodes(model, each):
            put(store, [alert(name, fingerprint=name, model=model, incident=model, status=status, pending=True)])

    with ThreadPoolExecutor(2 + len(models)) as pool:
        tellers = [pool.submit(tell) for _ in range(2)]
        try:
            for closer in [pool.submit(close, model) for model in models]:
                closer.result()
        finally:
            closed.set()
        for teller in tellers:
            teller.result()
    assert logged(store) == {model: episodes(model, each) for model in models}


def episodes(model: str, count: int) -> list[tuple[str, str]]:
    return [(f"{model}-{n // 2}", ("firing", "resolved")[n % 2]) for n in range(count)]


def logged(store: Store) -> dict[str, list[tuple[str, str]]]:
    """What went out, by ordering key."""
    heard: dict[str, list[tuple[str, str]]] = {}
    while leased := store.lease_outbox(2**60, "test", 1, 1_000):
        for row in leased:
            heard.setdefault(row.ordering_key, []).extend((a["id"], a["status"]) for a in data_of(row)["alerts"])
            store.finish_outbox(row.id, "test", sent=True, error=None, next_attempt_at_ms=None, now_ms=NOW)
    return heard


def test_a_turn_that_fails_takes_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config({"models": {"churn": {}}}, tmp_path)
    put(store, [alert("a", pending=True)])

    def fail(point: str) -> None:
        raise OSError(point)

    with monkeypatch.context() as patched:
        patched.setattr("monitor.telling.teller.reach", fail)
        with pytest.raises(OSError, match="before_telling_commit"):
            Teller(store, config).turn(NOW)
    assert (store.outbox_pending(), store.telling_due(NOW)) == (0, True)
    assert Teller(store, config).turn(NOW) == 1
    assert (store.outbox_pending(), store.telling_due(NOW)) == (1, False)
    assert Teller(store, config).turn(NOW) == 0
