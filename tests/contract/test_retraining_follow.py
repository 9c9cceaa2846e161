"""What becomes of requests that went out: time-outs, runs that are asked for, and whether they helped; on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.lifecycle import alert_id
from alerts.routing import LOG
from monitor.config import Config, parse_config
from monitor.retraining.follow import JUDGE_EVERY_MS, LOOK_EVERY_MS, POLL_EVERY_MS, POLLS_A_TURN, Follow
from monitor.store import ActRow, AlertRow, Store
from monitor.telling.teller import Teller
from parts.stores import HOUR, Worker, alert, key, message, profile, request
from tests.parts.training_apis import Airflow3, Asked, serving

DAY = 24 * HOUR
CALLBACK = {"url": "https://drift.example", "secret": {"env": "CALLBACK"}}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK", "a-secret-of-the-call-backs-long-enough")
    monkeypatch.setenv("AIRFLOW", Airflow3().password)


def config(url: str = "", *, callback: bool = True) -> Config:
    airflow = {"url": url, "dag": "retrain", "auth": {"mode": "login", "user": "drift"}, "secret": {"env": "AIRFLOW"}}
    targets = {"airflow": {"airflow3": airflow} if url else {"http": {"url": "http://127.0.0.1:9/x"}}}
    document = {
        "models": {"churn": {"task": "unlabelled"}},
        "retraining": {"approval": "2d", "answer": "1h", "run": "6h"} | ({"callback": CALLBACK} if callback else {}),
        "http": {"listen": "127.0.0.1:8080"},
        "retraining_targets": targets,
    }
    return parse_config(document, base_dir=Path())


def follow(store: Store, url: str = "", *, callback: bool = True) -> Follow:
    return Follow.of(config(url, callback=callback), store)


def put(store: Store, *names: str, **more: object) -> None:
    with store.closing("churn") as tx:
        for name in names:
            assert tx.put_retraining(request(name, **more))


def status(store: Store, name: str) -> str:
    return next(row.status for row in store.retraining() if row.id == name)


def detail(store: Store, name: str) -> dict[str, object]:
    found: dict[str, object] = next(json.loads(row.detail) for row in store.retraining() if row.id == name)
    return found


# -- the end that never comes


def test_what_nobody_approves_or_answers_times_out(store: Store) -> None:
    put(store, "waits", detail='{"waits": true}')
    put(store, "goes")  # its message is in the outbox, and ends it one day
    put(store, "sent")
    store.set_retraining_status("sent", "delivered", "the target has it", 0)
    one = follow(store)
    assert one.turn(HOUR - 1) == 0
    assert one.turn(HOUR + LOOK_EVERY_MS) == 1
    assert [status(store, name) for name in ("waits", "goes", "sent")] == ["requested", "requested", "timed_out"]
    assert "nothing was heard until 1970-01-01T01:00" in str(detail(store, "sent")["delivery"])
    assert one.turn(2 * DAY + LOOK_EVERY_MS) == 1
    assert [status(store, name) for name in ("waits", "goes", "sent")] == ["timed_out", "requested", "timed_out"]


def test_each_word_of_the_job_gives_it_time_and_words_about_nothing_new_do_not(store: Store) -> None:
    put(store, "r1")
    store.set_retraining_status("r1", "delivered", "", 0)
    store.set_retraining_status("r1", "running", "", HOUR // 2)
    store.set_retraining_status("r1", "running", "still", 5 * HOUR)
    one = follow(store)
    one.turn(6 * HOUR)
    assert status(store, "r1") == "running"
    one.turn(7 * HOUR)
    assert status(store, "r1") == "timed_out"


def test_a_target_that_can_neither_call_nor_be_asked_has_the_whole_time_of_a_run(store: Store) -> None:
    put(store, "r1")
    store.set_retraining_status("r1", "delivered", "", 0)
    one = follow(store, callback=False)
    one.turn(2 * HOUR)
    assert status(store, "r1") == "delivered"
    one.turn(6 * HOUR)
    assert status(store, "r1") == "timed_out"
    assert detail(store, "r1")["unheard"] is True


def test_of_a_target_that_never_reports_the_traffic_tells(store: Store) -> None:
    traffic(store, "1", 9)
    put(store, "r1", at_ms=10 * HOUR, recorded_at_ms=10 * HOUR)
    store.set_retraining_status("r1", "delivered", "", 10 * HOUR)
    one, hearing = follow(store, callback=False), follow(store)
    one.turn(11 * HOUR)
    traffic(store, "2", 11)
    hearing.turn(10 * HOUR + HOUR // 2)
    assert status(store, "r1") == "delivered"
    one.turn(12 * HOUR)
    assert (status(store, "r1"), detail(store, "r1")["version"]) == ("succeeded", "2")
    assert detail(store, "r1")["delivery"] == "the traffic says: succeeded"


def test_it_looks_now_and_then(store: Store) -> None:
    put(store, "r1", detail='{"waits": true}', recorded_at_ms=0)
    one = follow(store)
    one.turn(2 * DAY)
    put(store, "r2", detail='{"waits": true}', recorded_at_ms=0)
    assert one.turn(2 * DAY + LOOK_EVERY_MS - 1) == 0
    assert one.turn(2 * DAY + LOOK_EVERY_MS) == 1


# -- runs that nobody tells of


@pytest.fixture
def airflow() -> Iterator[tuple[Airflow3, str, list[Asked]]]:
    api = Airflow3()
    with serving(api) as (url, asked):
        yield api, url, asked


def test_runs_are_asked_for_in_turn_a_few_at_a_time(store: Store, airflow) -> None:
    api, url, asked = airflow
    names = [f"r{i}" for i in range(POLLS_A_TURN + 1)]
    put(store, *names, recorded_at_ms=0)
    for name in names:
        store.set_retraining_status(name, "delivered", "", 0)
        api.runs[name] = {"dag_run_id": name, "state": "running"}
    one = follow(store, url, callback=False)

    def polls() -> int:
        return sum(one.method == "GET" for one in asked)

    assert one.turn(LOOK_EVERY_MS) == 0
    assert polls() == 0, "it was only just delivered"
    assert one.turn(POLL_EVERY_MS) == POLLS_A_TURN
    assert one.turn(POLL_EVERY_MS + LOOK_EVERY_MS) == 1
    assert {status(store, name) for name in names} == {"running"}
    assert one.turn(POLL_EVERY_MS + 2 * LOOK_EVERY_MS) == 0
    assert polls() == len(names)


def test_none_of_many_runs_is_forgotten(store: Store, airflow) -> None:
    api, url, asked = airflow
    names = [f"r{i}" for i in range(POLLS_A_TURN + 1)]
    put(store, *names, recorded_at_ms=0)
    for name in names:
        store.set_retraining_status(name, "delivered", "", 0)
        api.runs[name] = {"dag_run_id": name, "state": "a new word"}
    one = follow(store, url, callback=False)
    for turn in (1, 2):
        one.turn(turn * POLL_EVERY_MS)
    assert {one.path.rpartition("/")[2] for one in asked if one.method == "GET"} == set(names)


def test_an_end_that_is_found_is_the_end_and_nobody_asks_again(store: Store, airflow) -> None:
    api, url, asked = airflow
    put(store, "r1", recorded_at_ms=0)
    store.set_retraining_status("r1", "delivered", "", 0)
    one = follow(store, url, callback=False)
    now = POLL_EVERY_MS
    one.turn(now)  # the run is not there (404): nothing is known
    assert status(store, "r1") == "delivered"
    api.runs["r1"] = {"dag_run_id": "r1", "state": "success"}
    one.turn(now := now + POLL_EVERY_MS)
    assert (status(store, "r1"), detail(store, "r1")["ended_ms"]) == ("succeeded", now)
    assert detail(store, "r1")["delivery"] == "the target says: succeeded"
    before = len(asked)
    one.turn(now + 10 * POLL_EVERY_MS)
    assert len(asked) == before


# -- whether it helped

MARK = "f" * 32


def cause(version: str = "1", **more: object) -> AlertRow:
    start = more.get("starts_at_ms", 10 * HOUR)
    return alert(alert_id(MARK + version, start), fingerprint=MARK + version, version=version, **{"starts_at_ms": start, "status": "firing", "at_ms": 11 * HOUR, **more})  # type: ignore[arg-type]  # fmt: skip


def retrained(store: Store, name: str = "r1", *, version: str | None = "2", at_ms: int = 11 * HOUR) -> None:
    """A request for `cause()` that has succeeded an hour later."""
    told = json.dumps({"alert": cause().id})
    with store.closing("churn") as tx:
        if not tx.alert_rows():
            tx.put_alert(cause())
        tx.put_retraining(request(name, detail=told, at_ms=at_ms, recorded_at_ms=at_ms))
    ended = {"ended_ms": at_ms + HOUR} | ({"version": version} if version else {})
    store.set_retraining_status(name, "delivered", "", at_ms + HOUR)
    store.set_retraining_status(name, "succeeded", "", at_ms + HOUR, ended)


def traffic(store: Store, version: str, start: int, *alerts: AlertRow) -> None:
    Worker(store).checkpoint({key(start, version=version): profile(5)})
    with store.closing("churn") as tx:
        for row in alerts:
            tx.put_alert(row)


def escalations(store: Store) -> list[tuple[str, str]]:
    return [(row.status, row.reason) for row in store.alerts(history=True) if row.monitor == "retraining"]


def test_it_helped_when_its_cause_stays_away_for_a_day(store: Store) -> None:
    retrained(store)
    traffic(store, "2", 13)
    one = follow(store)
    for now in (14 * HOUR, 13 * HOUR + DAY - 1):
        one.turn(now)
        assert "help" not in detail(store, "r1")
    one.turn(13 * HOUR + DAY + JUDGE_EVERY_MS)
    assert detail(store, "r1")["help"] == "helped"
    assert status(store, "r1") == "succeeded"
    assert escalations(store) == []


def test_that_it_did_not_help_is_told_once_until_the_next_one_is_asked_for(store: Store) -> None:
    retrained(store)
    traffic(store, "2", 13, cause("2", starts_at_ms=13 * HOUR))
    one, other = follow(store), follow(store)
    for now in range(14 * HOUR, 14 * HOUR + 5 * JUDGE_EVERY_MS, JUDGE_EVERY_MS):
        one.turn(now)
        other.turn(now)
    assert detail(store, "r1")["help"] == "did_not_help"
    (told,) = [row for row in store.firing_alerts() if row.monitor == "retraining"]
    assert (told.model, told.subject, told.check, told.severity, told.pending) == (
        "churn", "airflow", "help", "warning", True,
    )  # fmt: skip
    assert told.text == "Retraining did not help: age (data) fires in version 2 as well."
    assert Teller(store, config()).turn(15 * HOUR) > 0
    (sent,) = [row for row in store.lease_outbox(15 * HOUR, "test", 1_000, 10) if told.id in row.body.decode()]
    assert sent.receiver == LOG
    put(store, "r2", at_ms=20 * HOUR, recorded_at_ms=20 * HOUR)
    one.turn(21 * HOUR)
    assert escalations(store) == [("firing", "drifted"), ("resolved", "cleared")]
    one.turn(22 * HOUR)
    assert len(escalations(store)) == 2


def test_a_version_that_nobody_uses_is_told_of_and_taken_back_when_it_is_used_and_helps(store: Store) -> None:
    retrained(store)
    one = follow(store)
    one.turn(12 * HOUR + 7 * DAY - 1)
    assert escalations(store) == []
    for hour in (13, 14, 15):
        one.turn(hour * HOUR + 7 * DAY)
    assert detail(store, "r1")["help"] == "not_used"
    assert escalations(store) == [("firing", "drifted")]
    traffic(store, "2", 15 + 7 * 24)
    one.turn(20 * HOUR + 8 * DAY)
    assert detail(store, "r1")["help"] == "helped"
    assert escalations(store) == [("firing", "drifted"), ("resolved", "cleared")]


def test_the_new_version_is_found_where_the_job_does_not_name_it(store: Store) -> None:
    traffic(store, "shadow", 9)
    retrained(store, version=None)
    traffic(store, "shadow", 12)
    traffic(store, "1", 12)
    one = follow(store)
    one.turn(14 * HOUR + DAY)
    assert "help" not in detail(store, "r1"), "no version is new: the shadow was there before"
    traffic(store, "9", 15)
    one.turn(16 * HOUR + DAY)
    assert detail(store, "r1")["help"] == "helped"


def test_what_a_version_did_before_the_request_is_no_sign_that_it_is_used(store: Store) -> None:
    traffic(store, "2", 9)
    retrained(store)
    one = follow(store)
    one.turn(11 * HOUR + 2 * DAY)
    assert "help" not in detail(store, "r1")


def test_what_a_person_cancelled_is_not_judged(store: Store) -> None:
    put(store, "r1")
    with store.closing("churn") as tx:
        tx.put_outbox(message("r1", kind="retraining"))
    assert store.cancel_retraining("r1", "no", 5, ActRow(at_ms=5, who="ada", act="x", subject="r1", detail=""))
    one = follow(store)
    assert one.turn(100 * DAY) == 0
    assert status(store, "r1") == "cancelled"
