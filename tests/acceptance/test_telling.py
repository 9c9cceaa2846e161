"""Who is told of alerts, and when: timelines on virtual time through the real store, with real notifiers and a receiver on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.config import parse_config
from monitor.store import Store
from tests.parts.alert_timeline import clock
from tests.parts.office import SECRETS, Heard, Office, Played, people
from tests.parts.receiver import Receiver, receiving
from tests.parts.world import Clock

HOOK = {"webhook": {"url": "$base/hook", "secret": {"env": "HOOK_SECRET"}}}
PAGER = {"pagerduty": {"routing_key": {"env": "PAGER_KEY"}, "url": "$base/pager"}}
CHAT = {"slack": {"url": {"env": "CHAT_URL"}}}
RECEIVERS = {"hook": HOOK, "oncall": PAGER, "team": CHAT}
ROUTES = [
    {"receiver": "hook", "continue": True},
    {"match": {"severity": "critical"}, "receiver": "oncall"},
    {"receiver": "team"},
]

Make = Callable[..., Played]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/driftline.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://", 1)
    store = Store.open(url, durable=False)
    yield store
    store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def make(store: Store, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[Office] = []
    for name, value in {**SECRETS, "CHAT_URL": f"{receiver.base}/chat"}.items():
        monkeypatch.setenv(name, value)

    def make(routes: Any = ROUTES, receivers: Any = RECEIVERS, models: Any = ("churn", "fraud"), **more: Any) -> Played:
        content = {"models": {name: {} for name in models}, "receivers": receivers, "routes": list(routes), **more}
        config = parse_config(json.loads(json.dumps(content).replace("$base", receiver.base)), tmp_path)
        made.append(Office(config, store, Clock(clock("09:00:00"))))
        return Played.at(made[-1])

    yield make
    for office in made:
        office.close()


def hooked(played: Played) -> list[Heard]:
    return [heard for heard in played.sent if heard.receiver == "hook"]


@pytest.mark.parametrize(
    "timeline",
    [
        # One page an incident, one resolve, though three monitors speak; drift that a fault explains is not told by itself.
        """
        10:00:00 fires churn quality age
        10:00:10 fires churn data age
        10:00:20 fires churn performance accuracy
        between 10:00:30 and 10:00:40 expect team firing: churn/performance/accuracy churn/quality/age
        13:00:00 over churn quality age
        13:00:00 over churn data age
        13:00:00 over churn performance accuracy
        between 13:00:00 and 13:05:30 expect team resolved: -churn/performance/accuracy -churn/quality/age
        """,
        # Drift that its fault explained is told of once the fault is over and it is not.
        """
        10:00:00 fires churn quality age
        10:00:00 fires churn data age
        between 10:00:30 and 10:00:40 expect team firing: churn/quality/age
        11:00:00 over churn quality age
        between 11:00:00 and 11:05:40 expect team firing: churn/data/age -churn/quality/age
        """,
        # A silence mutes what comes, not what is over; what still fires when it ends is told then.
        """
        10:00:00 fires churn data age
        between 10:00:30 and 10:00:40 expect team firing: churn/data/age
        12:00:00 silence model=churn for 2h
        12:30:00 fires churn data zip
        13:00:00 over churn data age
        between 13:00:00 and 13:05:40 expect team resolved: -churn/data/age
        between 14:00:00 and 14:06:00 expect team firing: churn/data/zip
        """,
        # Who heard of the warning hears the end, too, and so does who was woken when it became critical.
        """
        10:00:00 fires churn data age
        between 10:00:30 and 10:00:40 expect team firing: churn/data/age
        11:00:00 fires churn data age critical
        between 11:00:30 and 11:01:40 expect oncall firing: churn/data/age
        between 11:00:00 and 11:05:40 expect team firing: churn/data/age
        15:00:00 over churn data age
        between 15:00:00 and 15:05:40 expect oncall resolved: -churn/data/age
        between 15:00:00 and 15:05:40 expect team resolved: -churn/data/age
        """,
        # Repeated every twelve hours, unless somebody has it in hand.
        """
        10:00:00 fires churn data age
        between 10:00:30 and 10:00:40 expect team firing: churn/data/age
        between 22:00:30 and 22:05:40 expect team firing: churn/data/age
        23:00:00 ack churn data age
        day 1 23:00:00 over churn data age
        between day 1 23:00:00 and day 1 23:05:40 expect team resolved: -churn/data/age
        """,
        # An old window wakes nobody; it is told once a day, with what else was old.
        """
        10:00:00 fires churn data age stale
        11:00:00 fires fraud data zip stale
        between day 1 10:00:00 and day 1 10:00:10 expect team firing: churn/data/age fraud/data/zip
        """,
        # Two models with the same fault of a feature in the same window are one incident.
        """
        10:00:00 fires churn quality age
        10:00:10 fires fraud quality age
        10:00:20 fires churn data zip
        between 10:00:30 and 10:00:40 expect team firing: churn/data/zip churn/quality/age fraud/quality/age
        """,
    ],
)  # fmt: skip
def test_timelines(make: Make, timeline: str) -> None:
    routes = [*ROUTES[:2], {"receiver": "team"}]
    assert make(routes).play(timeline) == []


def test_a_silence_spares_people_and_the_webhook_still_hears(make: Make) -> None:
    played = make()
    faults = played.play(
        """
        10:00:00 fires churn data age
        between 10:00:30 and 10:00:40 expect team firing: churn/data/age
        12:00:00 silence model=churn for 6h
        12:30:00 fires churn data zip
        13:00:00 over churn data age
        13:30:00 over churn data zip
        between 13:00:00 and 13:05:30 expect team resolved: -churn/data/age
        """
    )
    assert faults == []
    assert [str(heard) for heard in hooked(played)] == [
        "10:00:00 expect hook firing: churn/data/age",
        "12:30:00 expect hook firing: churn/data/zip",
        "13:00:00 expect hook firing: -churn/data/age",
        "13:30:00 expect hook resolved: -churn/data/zip",
    ]
    told = {
        row.receiver: (row.outcome, row.detail) for row in played.office.store.told(hooked(played)[1].alerts[0]["id"])
    }
    assert told["team"][0] == "silenced"
    assert "by ada: w" in told["team"][1]
    assert told["hook"] == ("told", "")


def test_the_log_hears_everything_also_what_no_route_fits(make: Make) -> None:
    played = make([{"match": {"model": "churn"}, "receiver": "team"}])
    played.play("10:00:00 fires fraud data age\n11:00:00 over fraud data age\n11:00:00 fires churn data age stale")
    played.until(clock("11:30:00"))
    assert people(played) == []
    assert [heard.what for heard in played.office.to("log")] == [
        "firing: fraud/data/age", "firing: churn/data/age", "resolved: -fraud/data/age",
    ]  # fmt: skip
    fraud = played.office.to("log")[0].alerts[0]["id"]
    assert [(row.receiver, row.outcome) for row in played.office.store.told(fraud)] == [("log", "unmatched")]


def test_an_upstream_null_that_hits_two_hundred_models_is_one_message_that_names_them(
    make: Make, receiver: Receiver
) -> None:
    models = [f"m{i:03d}" for i in range(200)]
    played = make([{"receiver": "hook", "continue": True}, {"receiver": "oncall"}], models=models)
    played.play("\n".join(f"10:00:{i % 20:02d} fires {model} quality income" for i, model in enumerate(models)))
    played.until(clock("10:30:00"))
    (message,) = people(played)
    assert {alert["model"] for alert in message.alerts} == set(models)
    assert message.data["summary"].startswith("[WARNING] 200 models (m000, m001, m002 and 197 more): income moved")
    (posted,) = [json.loads(body) for path, _, body in receiver.got if path == "/pager"]
    assert all(model in posted["payload"]["custom_details"]["Models"] for model in models)
    assert sum(len(heard.alerts) for heard in hooked(played)) == 200
    assert {(page.model, page.incident) for page in played.office.store.pages()} == {
        (alert["model"], alert["incident"]) for alert in message.alerts
    }
    played.play("\n".join(f"12:00:{i % 20:02d} over {model} quality income" for i, model in enumerate(models)))
    played.until(clock("12:30:00"))
    assert [heard.what.partition(":")[0] for heard in people(played)] == ["firing", "resolved"]
    assert message.data["incident"] == people(played)[1].data["incident"]


def test_a_storm_is_a_few_pages_and_a_summary_and_the_webhook_hears_all(make: Make, receiver: Receiver) -> None:
    models = [f"m{i:02d}" for i in range(40)]
    played = make([{"receiver": "hook", "continue": True}, {"receiver": "oncall"}], models=models)
    played.play("\n".join(f"10:00:00 fires {model} data f{i}" for i, model in enumerate(models)))
    played.until(clock("10:30:00"))
    assert [heard.what.partition(" ")[0] for heard in people(played)] == ["firing:"] * 5 + ["storm:"]
    storm = people(played)[-1]
    assert storm.data["summary"].startswith("Storm: 35 incidents in 35 models (0 critical) since ")
    assert storm.data["status"] == "firing"
    assert len(storm.alerts) == 35
    assert len(hooked(played)) == 40
    assert {(row.receiver, row.outcome) for row in played.office.store.told(storm.alerts[0]["id"])} == {
        ("hook", "told"), ("oncall", "collapsed"),
    }  # fmt: skip
    played.play("\n".join(f"11:30:00 over {model} data f{i}" for i, model in enumerate(models)))
    played.until(clock("12:00:00"))
    events = [json.loads(body) for path, _, body in receiver.got if path == "/pager"]
    keys = {
        action: [e["dedup_key"] for e in events if e["event_action"] == action] for action in ("trigger", "resolve")
    }
    assert sorted(keys["trigger"]) == sorted(keys["resolve"]), "each is resolved once"
    assert len(set(keys["trigger"])) == 6


def test_two_groups_of_one_incident_are_over_when_both_are(make: Make) -> None:
    played = make([{"match": {"severity": "critical"}, "receiver": "oncall"}, {"receiver": "oncall"}])
    faults = played.play(
        """
        10:00:00 fires churn data age
        10:00:00 fires churn data zip critical
        between 10:00:30 and 10:00:40 expect oncall firing: churn/data/age
        between 10:00:30 and 10:00:40 expect oncall firing: churn/data/zip
        11:00:00 over churn data zip
        between 11:00:00 and 11:05:30 expect oncall firing: -churn/data/zip
        12:00:00 over churn data age
        between 12:00:00 and 12:05:30 expect oncall resolved: -churn/data/age
        """
    )
    assert faults == []
    assert len({heard.data["incident"] for heard in people(played)}) == 1


def test_no_two_messages_of_a_stream_hold_the_same_data_though_the_same_happens_twice(make: Make) -> None:
    """A verdict that late labels turn to and fro may say the very same thing twice."""
    from tests.parts.office import put, row_of

    played = make([{"receiver": "hook", "repeat_interval": "1h"}])
    first = played.transition(clock("10:00:00"), "churn", "performance", "accuracy", firing=True)
    for minute, status in enumerate(["firing", "resolved"] * 3 + ["firing"]):
        played.office.clock.ms = clock(f"10:{minute:02d}:00")
        row = row_of(first, 0, status=status, reason="corrected", corrected=True, at_ms=1, ends_at_ms=1)
        put(played.office.store, [row])
        played.office.turn()
    played.until(clock("14:00:00"))
    bodies = [json.dumps(heard.data, sort_keys=True) for heard in hooked(played)]
    assert len(bodies) >= 10
    assert len(set(bodies)) == len(bodies) == len({heard.id for heard in hooked(played)})


def test_a_route_that_says_when_is_kept_to(make: Make) -> None:
    played = make(
        [{"matchers": 'model=~"ch.*"', "receiver": "team", "group_wait": "5m", "mute_time_intervals": ["night"]},
         {"receiver": "team", "digest": True}],
        time_intervals={"night": ["22:00-24:00", "00:00-06:00"]},
    )  # fmt: skip
    faults = played.play(
        """
        10:00:00 fires churn data age
        between 10:05:00 and 10:05:10 expect team firing: churn/data/age
        10:00:00 fires fraud data age
        23:00:00 fires churn quality zip
        between day 1 06:00:00 and day 1 06:06:00 expect team firing: churn/data/age churn/quality/zip
        between day 1 10:00:00 and day 1 10:00:10 expect team firing: fraud/data/age
        """
    )
    assert faults == []


def test_draining_tells_what_waits(make: Make) -> None:
    played = make()
    played.play("10:00:00 fires churn data age")
    assert people(played) == []
    played.office.turn(flush=True)
    assert [heard.what for heard in played.office.to("team")] == ["firing: churn/data/age"]


def test_a_quarter_of_a_year_in_seconds(make: Make, receiver: Receiver) -> None:
    """Ninety real incidents of some hours each: a page and an end for each one, and everything to the machine."""
    played = make([{"receiver": "hook", "continue": True}, {"receiver": "oncall"}])
    for day in range(90):
        model, subject = ("churn", "fraud")[day % 2], f"f{day % 7}"
        played.office.clock.ms = clock(f"day {day} 11:59:55")
        played.turn(clock(f"day {day} 12:00:00"), [
            played.transition(clock(f"day {day} 12:00:00"), model, monitor, subject, firing=True) for monitor in ("data", "quality")
        ])  # fmt: skip
        played.office.until(clock(f"day {day} 12:10:00"))
        played.office.clock.ms = clock(f"day {day} 15:00:00")
        played.turn(clock(f"day {day} 15:00:00"), [
            played.transition(clock(f"day {day} 15:00:00"), model, monitor, subject, firing=False) for monitor in ("data", "quality")
        ])  # fmt: skip
        played.office.until(clock(f"day {day} 15:10:00"))
    assert [heard.what.partition(":")[0] for heard in people(played) or played.office.to("oncall")] == [
        "firing",
        "resolved",
    ] * 90
    assert sum(len(heard.alerts) for heard in played.office.to("hook")) == 360
    assert len(played.office.store.pages()) == 90
    assert len([path for path, _, _ in receiver.got if path == "/pager"]) == 180
