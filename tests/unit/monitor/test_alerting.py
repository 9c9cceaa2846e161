"""Who is told of what, and when a retraining is asked for: read from the outbox that closing and telling fill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts.routing import LOG
from monitor.closing.requests import TARGET
from monitor.retraining.show import show_list
from monitor.store import OutboxRow
from monitor.telling.messages import ALERTS_A_MESSAGE
from parts.world import CONFIG, HOUR, T0, World, hour_of_events

TOLD = """
receivers:
  oncall: {{webhook: {{url: "http://127.0.0.1:9/a", secret: {{env: NEVER_READ}}}}}}
  team: {{webhook: {{url: "http://127.0.0.1:9/b", secret: {{env: NEVER_READ}}}}}}
routes:
  - {{match: {{severity: critical}}, receiver: oncall}}
  - {{match: {{owner: growth}}, receiver: team}}
retraining_targets:
  airflow: {{webhook: {{url: "http://127.0.0.1:9/c", secret: {{env: NEVER_READ}}}}}}
"""

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[World] = []

    def make(*lines: str, side_effects: bool = True) -> World:
        text = CONFIG + "".join(f"    {line}\n" for line in ("labels: {{owner: growth}}", *lines)) + TOLD
        made.append(World(tmp_path, text, side_effects=side_effects))
        return made[-1]

    yield make
    for world in made:
        world.close()


def outbox(world: World) -> list[OutboxRow]:
    """All messages, in the order they were put; taken out as a sender would."""
    world.tell()
    taken = []
    while rows := world.store.lease_outbox(2**60, "test", 1_000, 100):
        for row in rows:
            taken.append(row)
            world.store.finish_outbox(row.id, "test", sent=True, error=None, next_attempt_at_ms=None, now_ms=2**60)
    return taken


def told(world: World) -> dict[str, list[tuple[str, list[tuple[str, str]]]]]:
    """Receiver -> (status of the incident, (subject, status) of its alerts) of each message."""
    found: dict[str, list[tuple[str, list[tuple[str, str]]]]] = {}
    for row in outbox(world):
        if row.kind == "notification":
            data = json.loads(row.body)["data"]
            found.setdefault(row.receiver, []).append(
                (data["status"], [(a["subject"], a["status"]) for a in data["alerts"]])
            )
    return found


def requests(world: World) -> list[tuple[str, str]]:
    return [(row.status, row.mode) for row in world.store.retraining()]


def test_the_receiver_of_the_route_and_the_log_hear_of_the_whole_episode(make: Make) -> None:
    world = make()
    world.live([0], shift=1.0)
    world.live([1, 2])
    heard = [("firing", [("x", "firing")]), ("resolved", [("x", "resolved")])]
    assert told(world) == {"team": heard, LOG: heard}


def test_a_critical_alert_goes_elsewhere(make: Make) -> None:
    world = make()
    world.live([0], nulls=60)
    heard = told(world)
    assert ("x", "firing") in heard["oncall"][0][1]
    assert "team" not in heard


def test_who_heard_that_it_fires_hears_that_it_is_over_though_it_became_critical(make: Make) -> None:
    world = make()
    world.live([0], nulls=15)
    first = told(world)
    assert set(first) == {"team", LOG}
    world.live([1], nulls=60)
    world.live([2, 3])
    later = told(world)
    assert [status for status, _ in later["team"]][-1] == "resolved"
    assert [status for status, _ in later["oncall"]][-1] == "resolved"
    transitions = [row for row in world.alerts() if row.subject == "x" and row.monitor == "quality"]
    assert [(row.status, row.severity, row.reason) for row in transitions] == [
        ("firing", "warning", "drifted"), ("firing", "critical", "escalated"), ("resolved", "critical", "cleared"),
    ]  # fmt: skip


def test_old_windows_wake_nobody(make: Make) -> None:
    world = make()
    for hour in range(3):
        world.send(hour_of_events(hour, shift=1.0 if hour == 0 else 0.0))
    world.turn(200)
    world.finish()
    assert [row.status for row in world.alerts()] == ["firing", "resolved"]
    assert set(told(world)) == {LOG}, "a backlog is for the log, also where it ends"


def test_page_max_age_is_the_models(make: Make) -> None:
    world = make("page_max_age: 30d")
    world.send(hour_of_events(0, shift=1.0))
    world.turn(200)
    world.finish()
    assert set(told(world)) == {"team", LOG}


def test_alerts_of_one_turn_are_one_message(make: Make) -> None:
    world = make()
    world.live([0], rows=240, shift=1.2, nulls=60)
    bodies = [row for row in outbox(world) if row.receiver == LOG]
    assert len(bodies) == 1
    alerts = json.loads(bodies[0].body)["data"]["alerts"]
    assert len(alerts) >= 2
    assert len({alert["incident"] for alert in alerts}) == 1


def test_a_message_holds_a_limited_number_of_alerts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ALERTS_A_MESSAGE >= 10
    monkeypatch.setattr("monitor.telling.messages.ALERTS_A_MESSAGE", 1)
    world = make()
    world.live([0], rows=240, shift=1.2, nulls=60)
    counts = [len(json.loads(row.body)["data"]["alerts"]) for row in outbox(world) if row.receiver == LOG]
    assert len(counts) >= 2
    assert set(counts) == {1}


def test_without_side_effects_alerts_are_decided_and_nobody_is_told(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow}}", side_effects=False)
    world.live([0], shift=1.0)
    assert [row.status for row in world.alerts()] == ["firing"]
    assert outbox(world) == []
    assert world.store.retraining() == []


def test_a_revision_tells_the_difference_only(make: Make) -> None:
    world = make()
    world.live([0], shift=1.0)
    assert told(world)["team"] == [("firing", [("x", "firing")])]
    world.send(hour_of_events(0, 60, shift=1.0, seed=3))
    world.turn(1.2)
    assert world.window("data", 0).revision == 2
    assert told(world) == {}, "it still drifts"
    world.send(hour_of_events(0, 6_000, seed=4))
    world.turn(1.4)
    heard = [("resolved", [("x", "resolved")])]
    assert told(world) == {"team": heard, LOG: heard}
    assert world.alerts()[-1].corrected


# -- retraining


def request_of(world: World) -> dict[str, Any]:
    (row,) = [row for row in outbox(world) if row.kind == "retraining"]
    (request,) = world.store.retraining()
    assert (row.id, row.receiver) == (request.id, f"{TARGET}airflow")
    return json.loads(row.body)


def test_auto_asks_once_an_episode(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 1h}}")
    world.live([0, 1, 2], shift=1.0)
    assert requests(world) == [("requested", "auto")]
    body = request_of(world)
    assert body["type"] == "driftline.retraining"
    assert (body["data"]["model"], body["data"]["version"]) == ("churn", "1")
    assert "x has moved" in body["data"]["reason"]


def test_the_list_tells_the_cause_after_the_delivery_too(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    world = make("retraining: {{mode: auto, target: airflow}}")
    world.live([0], shift=1.0)
    cause = request_of(world)["data"]["reason"]
    (request,) = world.store.retraining()
    assert world.store.set_retraining_status(request.id, "delivered", "the target has it", world.clock())
    show_list(world.store, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["reason"]) == ("delivered", cause)
    assert "x has moved" in cause
    show_list(world.store, as_json=False)
    assert "delivery" in capsys.readouterr().out
    (row,) = world.store.retraining()
    assert sorted(json.loads(row.detail)) == ["alert", "delivery", "fingerprint", "gates"]


def test_propose_waits_for_a_person(make: Make) -> None:
    world = make("retraining: {{mode: propose, target: airflow}}")
    world.live([0], shift=1.0)
    assert requests(world) == [("requested", "propose")]
    assert {row.kind for row in outbox(world)} == {"notification"}


@pytest.mark.parametrize("lines", [(), ("retraining: {{mode: 'off', target: airflow}}",)])
def test_off_never_asks(make: Make, lines: tuple[str, ...]) -> None:
    world = make(*lines)
    world.live([0], shift=1.0)
    assert requests(world) == []


def test_drift_on_faulty_data_asks_for_nothing(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow}}")
    world.live([0], rows=240, shift=1.2, nulls=60)
    assert {row.monitor for row in world.alerts()} == {"data", "quality"}
    assert requests(world) == []


def test_a_fault_that_was_over_before_the_turn_ended_still_counts(make: Make) -> None:
    """Hours that are closed together are judged as if they had come one by one."""
    world = make("retraining: {{mode: auto, target: airflow}}")
    for hour in range(5):
        world.send(hour_of_events(hour, 240, shift=1.2 if hour == 0 else 0.0, nulls=60 if hour == 0 else 0))
    world.turn(5)
    world.turn(5.1)
    assert [row.status for row in world.alerts()].count("resolved") == 2
    assert requests(world) == []


def test_old_windows_ask_for_nothing(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow}}")
    world.send(hour_of_events(0, shift=1.0))
    world.turn(200)
    world.finish()
    assert [row.status for row in world.alerts()] == ["firing"]
    assert requests(world) == []


def test_a_request_under_way_and_the_cooldown_hold_the_next_one_back(make: Make) -> None:
    world = make("retraining: {{mode: auto, target: airflow, cooldown: 6h}}")
    world.live([0], shift=1.0)
    world.live([1, 2])
    world.live([3], shift=1.0)
    assert len(requests(world)) == 1, "the first one is under way"
    (first,) = world.store.retraining()
    world.store.set_retraining_status(first.id, "failed", "no room", world.clock())
    assert len([row for row in world.alerts() if row.status == "firing"]) == 2
    world.live([4, 5])
    world.live([6], shift=1.0)
    assert len(requests(world)) == 2, "hour 7 is six hours after hour 1"
    world.live([7, 8])
    world.live([9], shift=1.0)
    assert len(requests(world)) == 2, "the second one is under way"


def test_an_alert_waits_for_as_many_windows_as_the_model_says(make: Make) -> None:
    world = make("alerts: {{for: 2, resolve_after: 3}}")
    world.live([0], shift=1.0)
    world.live([1])
    world.live([2, 3], shift=1.0)
    assert [(row.status, row.starts_at_ms, row.at_ms) for row in world.alerts()] == [
        ("firing", T0 + 2 * HOUR, T0 + 4 * HOUR)
    ]
    world.live([4, 5])
    assert len(world.alerts()) == 1, "two clean windows are not enough"
    world.live([6])
    assert world.alerts()[-1].status == "resolved"


def test_two_versions_side_by_side_end_nothing_of_each_other(make: Make) -> None:
    world = make()
    for hour in range(5):
        world.send([*hour_of_events(hour, shift=1.0), *hour_of_events(hour, version="2", seed=9)])
        world.turn(hour + 1)
        world.turn(hour + 1 + 2 / 60)
    assert [(row.version, row.status) for row in world.alerts() if row.monitor == "data"] == [("1", "firing")]
