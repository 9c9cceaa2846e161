"""From events to pages on virtual time: what drifts is told once, and over when it is over, or when another version or reference ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.lifecycle import Acknowledgement, Severity, Verdict
from monitor.adoption import adopt
from monitor.store import ActRow
from tests.parts.office import SECRETS, Heard, Office
from tests.parts.receiver import receiving
from tests.parts.world import CONFIG, HOUR, T0, World, hour_of_events, write_reference

TOLD = """
receivers:
  hook: {{webhook: {{url: "BASE/hook", secret: {{env: HOOK_SECRET}}}}}}
  oncall: {{pagerduty: {{routing_key: {{env: PAGER_KEY}}, url: "BASE/pager"}}}}
routes:
  - {{receiver: hook, continue: true}}
  - {{receiver: oncall, group_wait: 30s}}
"""
MINUTE = 60_000


class Watch:
    """A world whose office is open all the time."""

    def __init__(self, world: World) -> None:
        self.world, self.office = world, Office(world.config, world.store, world.clock)

    def live(self, hours: range, **kind: object) -> None:
        """Hours of traffic, looked at every minute around their end."""
        for hour in hours:
            self.world.send(hour_of_events(hour, **kind))  # type: ignore[arg-type]
            for minute in range(5):
                self.office.until(T0 + (hour + 1) * HOUR + minute * MINUTE)
                self.world.turn()
                self.office.turn()

    def to(self, receiver: str) -> list[tuple[str, str]]:
        """When, and what."""
        return [(_time(heard), heard.what) for heard in self.office.to(receiver)]

    def told(self) -> list[tuple[str, str, float, float]]:
        """(status, reason, starts, at) in hours, of each transition of data."""
        return [
            (row.status, row.reason, (row.starts_at_ms - T0) / HOUR, (row.at_ms - T0) / HOUR)
            for row in self.world.alerts()
            if row.monitor == "data"
        ]


def _time(heard: Heard) -> str:
    minutes = (heard.at_ms - T0) // MINUTE
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def watch(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://", 1)
    with receiving() as receiver:
        world = World(tmp_path, CONFIG + TOLD.replace("BASE", receiver.base), store_url=url)
        watch = Watch(world)
        yield watch
        watch.office.close()
        world.close()


def test_drift_that_starts_at_ten_is_a_page_between_eleven_and_five_past_and_one_end(watch: Watch) -> None:
    watch.live(range(8, 10))
    watch.live(range(10, 12), shift=1.0)
    watch.live(range(12, 16))
    ((paged, page), (_, end)) = watch.to("oncall")
    assert "11:00" <= paged <= "11:05"
    assert (page, end) == ("firing: churn/data/x", "resolved: -churn/data/x")
    assert watch.to("hook") == [("11:02", "firing: churn/data/x"), ("14:02", "resolved: -churn/data/x")]
    (first,) = watch.world.store.pages()
    assert (first.model, first.incident) == ("churn", watch.world.alerts()[0].incident)


def test_what_fires_and_is_over_in_one_closing_is_told_in_order(watch: Watch) -> None:
    for hour in range(8):
        watch.world.send(hour_of_events(hour, shift=1.0 if hour == 2 else 0.0))
    watch.office.clock.ms = T0 + 6 * HOUR
    watch.world.turn()
    watch.world.turn(6.1)
    watch.office.turn()
    (message,) = watch.office.to("hook")
    assert [alert["status"] for alert in message.alerts] == ["firing", "resolved"]
    assert message.data["status"] == "resolved"
    watch.office.until(T0 + 12 * HOUR)
    assert watch.to("oncall") == [], "it was over before anybody was to be woken"


def test_another_version_that_has_taken_over_ends_the_alert(watch: Watch) -> None:
    watch.live(range(10, 12), shift=1.0)
    watch.live(range(12, 16), version="2")
    assert watch.told() == [("firing", "drifted", 10, 11), ("resolved", "new_version", 10, 14)]
    assert "version 2 has taken over from version 1" in watch.world.alerts()[-1].text
    assert [what for _, what in watch.to("oncall")] == ["firing: churn/data/x", "resolved: -churn/data/x"]
    watch.live(range(16, 17), shift=1.0)
    assert watch.told()[2:] == [("firing", "drifted", 16, 17)], "it is back, and that is another episode"


def test_a_version_that_misses_one_window_has_not_gone(watch: Watch) -> None:
    watch.live(range(10, 11), shift=1.0)
    watch.live(range(11, 12), version="2")
    watch.world.send(hour_of_events(12, version="2"))
    watch.live(range(12, 13), shift=1.0)
    assert watch.told() == [("firing", "drifted", 10, 11)]


def test_hours_that_are_closed_together_end_as_if_they_had_come_one_by_one(watch: Watch) -> None:
    for hour in range(8):
        watch.world.send(
            hour_of_events(hour, version="1" if hour in (0, 6) else "2", shift=1.0 if hour in (0, 6) else 0.0)
        )
    watch.world.turn(8.1)
    watch.world.turn(8.2)
    mine = watch.told()
    assert mine == [("firing", "drifted", 0, 1), ("resolved", "new_version", 0, 3), ("firing", "drifted", 6, 7)]


def test_a_new_reference_ends_the_alert_before_its_own_window_is_judged(watch: Watch) -> None:
    watch.live(range(10, 12), shift=1.0)
    world = watch.world
    write_reference(world.folder / "new.parquet", seed=8, shift=1.0)
    adopt(world.store, world.config.models["churn"], path=world.folder / "new.parquet", now_ms=world.clock())
    watch.live(range(12, 15), shift=1.0)
    assert watch.told() == [("firing", "drifted", 10, 11), ("resolved", "new_reference", 10, 13)]
    assert [what for _, what in watch.to("oncall")] == ["firing: churn/data/x", "resolved: -churn/data/x"]


def test_what_drifts_under_the_new_reference_too_is_another_episode_and_revisions_leave_both_alone(
    watch: Watch,
) -> None:
    watch.live(range(10, 12), shift=1.0)
    world = watch.world
    write_reference(world.folder / "new.parquet", seed=8, shift=-1.0)
    adopt(world.store, world.config.models["churn"], path=world.folder / "new.parquet", now_ms=world.clock())
    watch.live(range(12, 14), shift=1.0)
    both = [
        ("firing", "drifted", 10, 11),
        ("resolved", "new_reference", 10, 13),
        ("firing", "drifted", 12, 13),
    ]
    assert watch.told() == both
    for hour in (10, 12):
        world.send(hour_of_events(hour, 60, shift=1.0, seed=3))
    world.turn(14.2)
    world.turn(14.3)
    assert world.window("data", 10).revision == 2
    assert world.window("data", 12).revision == 2
    assert watch.told() == both
    watch.live(range(15, 18), shift=-1.0)
    assert watch.told()[3:] == [("resolved", "cleared", 12, 17)]


def test_what_somebody_called_the_new_normal_ends_as_expected(watch: Watch) -> None:
    watch.live(range(10, 12), shift=1.0)
    world = watch.world
    fired = world.alerts()[0]
    seen = Acknowledgement(
        alert=fired.id, who="ada", at_ms=world.clock(), severity=Severity.WARNING, verdict=Verdict.EXPECTED
    )
    world.store.acknowledge(seen, ActRow(at_ms=world.clock(), who="ada", act="ack", subject=fired.id, detail=""))
    write_reference(world.folder / "new.parquet", seed=8, shift=1.0)
    adopt(world.store, world.config.models["churn"], path=world.folder / "new.parquet", now_ms=world.clock())
    watch.live(range(12, 13), shift=1.0)
    assert watch.told()[1:] == [("resolved", "expected", 10, 13)]
    assert world.alerts()[-1].text == "x: closed, ada expected the change and a new reference is in force"
    assert [(page.model, page.verdict) for page in world.store.pages()] == [("churn", Verdict.EXPECTED)]


def test_late_data_that_undoes_a_closed_alert_says_nothing_more(watch: Watch) -> None:
    watch.live(range(10, 11), shift=1.0)
    watch.live(range(11, 14), version="2")
    before = watch.told()
    assert before[1][1] == "new_version"
    watch.world.send(hour_of_events(10, 6_000, seed=10))
    watch.world.turn(14.2)
    watch.world.turn(14.3)
    assert watch.world.window("data", 10).state != "drift"
    assert watch.told() == before
