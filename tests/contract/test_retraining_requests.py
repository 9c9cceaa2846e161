"""When a retraining is asked for, by real closers on both databases: the gates with all their facts, races and restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from alerts.lifecycle import Subject, fingerprint
from alerts.retraining import decide, request_id
from alerts.routing import DECISIONS
from monitor.closing.requests import TARGET
from monitor.errors import UserError
from monitor.retraining import acts
from monitor.retraining.gates import Gates, Ledger
from monitor.retraining.show import show_list, show_request
from monitor.store import RetrainingRow
from monitor.store.tables import performance_state
from parts.stores import alert, request
from parts.world import CONFIG, HOUR, T0, World, hour_of_events

TARGETS = """
retraining_targets:
  airflow: {{webhook: {{url: "http://127.0.0.1:9/c", secret: {{env: HOOK_OF_NOBODY}}}}}}
time_intervals:
  mondays: ["Mon"]
"""
FRAUD = """
  fraud:
    task: unlabelled
    reference: {{path: reference.parquet}}
    window: {{size: 1h, min_rows: 100, max: 12h}}
    lateness: 60s
    retraining: {{mode: auto, target: airflow}}
"""
AUTO = "retraining: {{mode: auto, target: airflow, cooldown: 1h}}"

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path, store_url: str) -> Iterator[Make]:
    made: list[World] = []

    def make(retraining: str = AUTO, *, more: str = "", log_of: World | None = None) -> World:
        """With `log_of` a service that was started again: it goes on where that one stopped."""
        world = World(tmp_path, f"{CONFIG}    {retraining}\n{more}{TARGETS}", store_url=store_url)
        if log_of is not None:
            world.log, world.clock.ms = log_of.log, log_of.clock.ms
            world.ingest = world.worker("again")
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def rows(world: World) -> list[RetrainingRow]:
    return sorted(world.store.retraining(), key=lambda row: row.at_ms)


def decided(world: World) -> list[str]:
    return [told.outcome for told, _ in world.store.told_by(DECISIONS)]


def messages(world: World) -> int:
    return world.store.outbox_pending(f"{TARGET}airflow")


def ended(world: World, status: str = "failed") -> None:
    """Every request there is has come to its end."""
    for row in rows(world):
        world.store.set_retraining_status(row.id, status, "no room", world.clock())


def drift(world: World, *hours: int) -> None:
    """An hour of drift each, with two hours after it that end the episode."""
    for hour in hours:
        world.live([hour], shift=1.0)
        world.live([hour + 1, hour + 2])


# -- races


def test_two_services_that_close_at_once_ask_once(make: Make) -> None:
    world, other = make(), make()
    for hour in range(4):
        world.send(hour_of_events(hour, shift=1.0))
    world.turn(0.5)
    world.clock.ms = other.clock.ms = T0 + 5 * HOUR
    world.read()
    start = threading.Barrier(2)

    def close(closer) -> None:
        start.wait(10)
        for _ in range(5):
            closer.step()

    threads = [threading.Thread(target=close, args=(one.closer,)) for one in (world, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(rows(world)) == 1
    assert messages(world) == 1
    assert decided(world) == ["automatic"]


def test_two_models_that_race_for_the_last_of_the_fleets_budget(make: Make) -> None:
    more = FRAUD + "\nretraining: {{budget: {{requests: 1, per: 7d}}}}\n"
    world, other = make(more=more), make(more=more)
    for model in ("churn", "fraud"):
        world.send(hour_of_events(0, shift=1.0, model=model))
        world.send(hour_of_events(1, shift=1.0, model=model, seed=1))
    world.read()
    world.clock.ms = other.clock.ms = T0 + int(2.1 * HOUR)
    world.read()
    start = threading.Barrier(2)

    def close(one: World, model: str) -> None:
        one.closer.watched = {model: one.closer.watched[model]}
        start.wait(10)
        for _ in range(5):
            one.closer.step()

    pairs = ((world, "churn"), (other, "fraud"))
    threads = [threading.Thread(target=close, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(world.alerts()) >= 2
    assert len(rows(world)) == 1
    assert sorted(decided(world)) == ["automatic", "fleet_budget"]


def test_a_request_that_is_there_is_neither_changed_nor_sent_again(make: Make) -> None:
    """Of this very episode: another worker was quicker, or its state was lost and is folded anew."""
    world = make()
    x = Subject(model="churn", version="1", segment=None, monitor="data", subject="x", check="distribution")
    known = request(request_id("churn", fingerprint(x), T0), status="cancelled", at_ms=T0 - 9 * HOUR)
    with world.store.closing("churn") as tx:
        assert tx.put_retraining(known)
    world.live([0], shift=1.0)
    assert decided(world) == ["automatic"]
    assert rows(world) == [known]
    assert messages(world) == 0


def test_of_two_causes_that_are_decided_together_one_asks(make: Make) -> None:
    world = make()
    for hour in range(5):
        world.send(hour_of_events(hour, shift=1.0 if hour in {0, 3} else 0.0))
    world.turn(5)
    world.turn(5.1)
    assert sorted(decided(world)) == ["automatic", "request_active"]
    assert len(rows(world)) == 1


# -- data faults


@pytest.mark.parametrize("hours", [1, 3])
def test_a_data_fault_never_asks_and_says_so(make: Make, hours: int) -> None:
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 0s}}")
    world.live(range(hours), rows=240, shift=1.2, nulls=60)
    assert {row.monitor for row in world.alerts()} >= {"data", "quality"}
    assert rows(world) == []
    assert messages(world) == 0
    assert set(decided(world)) == {"cause_is_data_fault", "data_fault_active"}


def test_what_was_decided_is_kept_with_each_alert(make: Make) -> None:
    world = make("retraining: {{mode: 'off'}}")
    world.live([0], shift=1.0)
    ((told, alert),) = world.store.told_by(DECISIONS)
    assert (told.alert, told.outcome, told.detail) == (alert.id, "mode_off", "Retraining is off for this model.")
    assert world.store.told(alert.id)[-1].receiver == DECISIONS


# -- gates that hold across a restart


def restarted(world: World, make: Make, retraining: str, more: str = "") -> World:
    world.ingest.close()
    world.close()
    return make(retraining, more=more, log_of=world)


def test_the_cooldown_holds_across_a_restart_whatever_came_of_the_request(make: Make) -> None:
    settings = "retraining: {{mode: auto, target: airflow, cooldown: 6h}}"
    world = make(settings)
    drift(world, 0)
    ended(world)
    world = restarted(world, make, settings)
    drift(world, 3)
    assert [row.status for row in rows(world)] == ["failed"]
    assert decided(world) == ["automatic", "cooldown"]
    drift(world, 6)
    assert len(rows(world)) == 2, "the window of hour 6 ends six hours after that of hour 0"


def test_the_budget_holds_across_a_restart(make: Make) -> None:
    settings = "retraining: {{mode: auto, target: airflow, cooldown: 0s, budget: {{requests: 2, per: 12h}}}}"
    world = make(settings)
    drift(world, 0)
    ended(world)
    drift(world, 3)
    ended(world)
    world = restarted(world, make, settings)
    drift(world, 6)
    assert decided(world) == ["automatic", "automatic", "budget"]
    drift(world, 12)
    assert len(rows(world)) == 3, "twelve hours after the first"


def test_a_freeze_holds_across_a_restart(make: Make) -> None:
    """The world begins on a Monday."""
    settings = "retraining: {{mode: auto, target: airflow, freeze: [mondays]}}"
    world = make(settings)
    drift(world, 0)
    world = restarted(world, make, settings)
    drift(world, 3)
    assert decided(world) == ["frozen", "frozen"]
    world.live(range(6, 24))
    drift(world, 24)
    assert decided(world) == ["frozen", "frozen", "automatic"]


def test_drift_that_goes_on_asks_again_when_the_reason_has_passed_and_then_no_more(make: Make) -> None:
    settings = "retraining: {{mode: auto, target: airflow, cooldown: 1h, freeze: [mondays]}}"
    world = make(settings)
    world.live(range(22), shift=1.0)
    assert (decided(world), len(rows(world))) == (["frozen"], 0)
    world = restarted(world, make, settings)
    world.live(range(22, 26), shift=1.0)
    assert decided(world) == ["automatic"]
    (row,) = rows(world)
    assert row.at_ms == T0 + 24 * HOUR, "the first window that is judged on Tuesday"
    ended(world)
    world.live(range(26, 29), shift=1.0)
    assert len(rows(world)) == 1, "one request an episode"


def test_drift_that_a_request_was_under_way_for_is_answered_by_it(make: Make) -> None:
    world = make(AUTO.replace("1h", "0s"))
    drift(world, 0)
    world.live([3], shift=1.0)
    assert decided(world) == ["automatic", "request_active"]
    ended(world)
    world.live([4], shift=1.0)
    assert decided(world) == ["automatic", "request_active"]


def test_a_freeze_of_the_fleet_holds_for_each_model(make: Make) -> None:
    world = make(more="\nretraining: {{freeze: [mondays]}}\n")
    drift(world, 0)
    assert decided(world) == ["frozen"]


def test_a_pause_holds_across_a_restart_until_it_is_taken_back(make: Make) -> None:
    world = make()
    told = acts.pause(world.store, world.config, None, who="ada", why="a bad release", now_ms=world.clock())
    assert "all models" in told
    drift(world, 0)
    world = restarted(world, make, AUTO)
    drift(world, 3)
    assert decided(world) == ["paused", "paused"]
    with pytest.raises(UserError, match=r"not paused for churn \(all models are"):
        acts.resume(world.store, world.config, "churn", who="ada", now_ms=world.clock())
    acts.resume(world.store, world.config, None, who="ada", now_ms=world.clock())
    drift(world, 6)
    assert decided(world)[-1] == "automatic"
    assert [(act.who, act.act, act.subject) for act in world.store.acts()] == [
        ("ada", "retraining pause", "all"),
        ("ada", "retraining resume", "all"),
    ]


def test_others_that_are_under_way_count_and_so_does_their_end(make: Make) -> None:
    world = make(more=FRAUD + "\nretraining: {{max_active: 1}}\n")
    world.send(hour_of_events(0, model="fraud", shift=1.0))
    world.live([0])
    assert [row.model for row in rows(world)] == ["fraud"]
    world.send(hour_of_events(1, model="fraud"))
    world.live([1], shift=1.0)
    assert decided(world)[-1] == "fleet_busy"
    ended(world, "failed")
    for hour in (2, 3, 4):
        world.send(hour_of_events(hour, model="fraud"))
        world.live([hour], shift=1.0 if hour == 4 else 0.0)
    assert [row.model for row in rows(world)] == ["fraud", "churn"]


def test_a_models_own_requests_count_once_for_the_fleet_and_do_not_block_as_anothers(make: Make) -> None:
    fleet = "\nretraining: {{max_active: 1, budget: {{requests: 2, per: 7d}}}}\n"
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 0s, timeout: 1h}}", more=fleet)
    drift(world, 0, 3)
    assert decided(world) == ["automatic", "automatic"], "after the time-out the first counts as ended"


def test_too_few_labels_and_none_that_can_be_counted(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow, min_new_labels: 10}}")
    drift(world, 0)
    ((told, _),) = world.store.told_by(DECISIONS)
    assert told.outcome == "too_few_labels"
    assert "10 are needed" in told.detail
    with world.store._db.write() as connection:
        fields = {"model": "churn", "kind": "arrival", "start_ms": T0, "version": "1", "reference": "r", "segment": ""}
        connection.execute(sa.insert(performance_state), {**fields, "writer": "w", "rows": 10, "profile": b""})
    with world.store.closing("churn") as tx:
        settings = world.config.models["churn"].retraining
        assert settings is not None
        model, gates = world.config.models["churn"], Gates.of(world.config)
        ledger = Ledger.read(tx, model, settings, gates, (), faulty=False, at_ms=T0, now_ms=T0)
        assert decide(ledger.facts(alert(monitor="data"), T0)).reason == "automatic"
        trained = request("r", status="succeeded", at_ms=T0 + HOUR)
        tx.put_retraining(trained)
        again = Ledger.read(tx, model, settings, gates, (), faulty=False, at_ms=T0, now_ms=T0)
        assert again.new_labels == 0, "all of them came before the last training"


def test_after_two_that_came_to_nothing_a_person_decides(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 0s}}")
    drift(world, 0)
    ended(world)
    drift(world, 3)
    ended(world)
    drift(world, 6)
    assert decided(world) == ["automatic", "automatic", "did_not_help"]
    last = rows(world)[-1]
    assert json.loads(last.detail)["waits"] is True
    assert "2 retrainings did not help" in json.loads(last.detail)["gates"]


def test_that_nothing_is_heard_of_a_target_that_never_reports_costs_no_patience(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 0s, patience: 1}}")
    drift(world, 0)
    (row,) = rows(world)
    world.store.set_retraining_status(row.id, "delivered", "", world.clock())
    world.store.set_retraining_status(row.id, "timed_out", "", world.clock(), {"unheard": True})
    drift(world, 3)
    assert decided(world) == ["automatic", "automatic"]


def test_new_versions_that_drift_at_once_count_when_the_next_one_is_decided(make: Make) -> None:
    """Nobody has judged the last one yet: it is judged by the very window that asks for the next."""
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 0s, patience: 1}}")
    world.live([0], shift=1.0)
    world.store.set_retraining_status(rows(world)[0].id, "delivered", "", world.clock())
    report = {"version": "2", "ended_ms": world.clock()}
    world.store.set_retraining_status(rows(world)[0].id, "succeeded", "", world.clock(), report)
    world.live([1, 2], version="2")
    assert [row.reason for row in world.alerts()][-1] == "new_version"
    world.live([3], shift=1.0, version="2")
    assert decided(world) == ["automatic", "did_not_help"]


# -- what people do


def test_an_approval_asks_the_gates_that_nobody_may_overrule(make: Make) -> None:
    world = make("retraining: {{mode: propose, target: airflow}}")
    world.live([0], shift=1.0)
    (row,) = rows(world)
    assert messages(world) == 0

    def approve(now_ms: int | None = None, one: World = world) -> str:
        return acts.approve(one.store, one.config, row.id[:8], who="ada", now_ms=now_ms or one.clock())

    acts.pause(world.store, world.config, "churn", who="bob", why="", now_ms=1)
    with pytest.raises(UserError, match="Retraining is paused"):
        approve()
    acts.resume(world.store, world.config, "churn", who="bob", now_ms=1)
    world.live([1], rows=240, shift=1.2, nulls=60)
    with pytest.raises(UserError, match="data fault"):
        approve()
    world.live([2, 3, 4])
    frozen = make("retraining: {{mode: propose, target: airflow, freeze: [mondays]}}", log_of=world)
    with pytest.raises(UserError, match="Frozen: Mon"):
        approve(one=frozen)
    assert messages(world) == 0
    assert approve(one=frozen, now_ms=T0 + 25 * HOUR) == f"request {row.id} goes to airflow"
    assert messages(world) == 1
    with pytest.raises(UserError, match="nothing to approve"):
        approve(one=frozen, now_ms=T0 + 25 * HOUR)
    act = world.store.acts()[-1]
    assert (act.who, act.act, act.subject) == ("ada", "retraining approve", row.id)
    detail = json.loads(rows(world)[0].detail)
    assert (detail["waits"], detail["approved_by"]) == (False, "ada")


def test_cancelling_takes_the_message_with_it(make: Make) -> None:
    world = make()
    world.live([0], shift=1.0)
    (row,) = rows(world)
    told = acts.cancel(world.store, row.id, who="ada", why="not now", now_ms=world.clock())
    assert told == f"request {row.id} is cancelled"
    assert messages(world) == 0
    assert [(one.status, json.loads(one.detail)["delivery"]) for one in rows(world)] == [
        ("cancelled", "cancelled by ada: not now")
    ]
    with pytest.raises(UserError, match="is cancelled, there is nothing to cancel"):
        acts.cancel(world.store, row.id, who="ada", why="", now_ms=world.clock())
    for name in ("nothing", row.id[:3]):
        with pytest.raises(UserError, match="unknown"):
            acts.cancel(world.store, name, who="ada", why="", now_ms=world.clock())


def test_what_is_shown(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    world = make()
    drift(world, 0, 3)
    show_list(world.store, refused=True, as_json=True)
    (refused,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (refused["type"], refused["model"], refused["reason"]) == ("retraining_refusal", "churn", "request_active")
    (row,) = rows(world)
    world.store.set_retraining_status(row.id, "delivered", "the target has it", 5, {"run_id": "run 7"})
    show_request(world.store, row.id[:10], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [(step["status"], step["told"]) for step in told["steps"]] == [
        ("requested", row.reason),
        ("delivered", "the target has it"),
    ]
    assert (told["run_id"], told["target"], told["version"], told["help"]) == ("run 7", "airflow", "1", None)
    show_request(world.store, row.id, as_json=False)
    show_list(world.store, as_json=False)
    said = capsys.readouterr().out
    assert "run 7" in said
    assert "1 alerts asked in vain" in said
