"""Histories of a model on virtual time, from records to windows and alerts, through the real engine."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.finding import Finding, Severity, State
from detectors.judge import Policy
from monitor.adoption import adopt
from monitor.commands import objects
from monitor.store import AlertRow, WindowRow
from parts.world import CONFIG, HOUR, T0, World, hour_of_events, write_reference

SMALL = CONFIG.replace("min_rows: 100, max: 12h", "min_rows: 100, max: 4h")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """Pools of at most four hours."""
    world = World(tmp_path, SMALL)
    yield world
    world.close()


def told(world: World, monitor: str = "data") -> list[tuple[str, bool, float, float, float | None]]:
    """(status, corrected, starts, at, ends) in hours, of each transition."""
    hour = lambda ms: None if ms is None else (ms - T0) / HOUR
    return [
        (row.status, row.corrected, hour(row.starts_at_ms), hour(row.at_ms), hour(row.ends_at_ms))
        for row in world.alerts()
        if row.monitor == monitor
    ]


def states(world: World, monitor: str, version: str = "1") -> dict[tuple[int, int], str]:
    return {((r.start_ms - T0) // HOUR, (r.end_ms - T0) // HOUR): r.state for r in world.windows(monitor, version)}


# -- drift and its alert


def test_a_drift_fires_once_and_is_resolved_after_two_clean_windows(world: World) -> None:
    world.live(range(3))
    world.live([3, 4], shift=1.0)
    world.live(range(5, 9))
    assert told(world) == [("firing", False, 3, 4, None), ("resolved", False, 3, 7, 5)]
    first, last = (row for row in world.alerts() if row.monitor == "data")
    assert (first.id, first.fingerprint, first.incident) == (last.id, last.fingerprint, last.incident)
    assert first.subject == "x"
    assert first.window == world.window("data", 3).id
    finding = next(f for f in objects(world.window("data", 4))[0]["findings"] if f["subject"] == "x")
    assert (finding["state"], finding["since"]) == ("drift", "2026-01-05T03:00:00Z")


def test_the_fingerprint_is_the_same_in_the_next_episode_and_the_id_is_not(world: World) -> None:
    world.live([0], shift=1.0)
    world.live([1, 2])
    world.live([3], shift=1.0)
    first, _, second = (row for row in world.alerts() if row.monitor == "data")
    assert first.fingerprint == second.fingerprint
    assert first.id != second.id


def test_windows_close_when_the_watermark_passes_and_not_before(world: World) -> None:
    world.send(hour_of_events(0))
    world.turn(1)
    assert not world.windows()
    world.turn(1 + 0.5 / 60)
    assert not world.windows("data"), "the lateness has not passed"
    world.turn(1 + 2 / 60)
    assert world.window("data", 0).status == "final"


def test_a_backlog_is_not_closed_by_the_clock(world: World) -> None:
    """Read a year after it was written: only its own stream moves the time on."""
    world.send([*hour_of_events(0), *hour_of_events(1)])
    world.turn(9_000)
    assert states(world, "data") == {(0, 1): "ok"}


# -- late events


def test_late_events_turn_a_clean_window_into_drift_and_later_ones_back(world: World) -> None:
    world.live(range(4))
    world.send(hour_of_events(1, 100, shift=2.5, seed=9))
    world.turn(4.2)
    window = world.window("data", 1)
    assert (window.state, window.revision, window.status, window.rows) == ("drift", 2, "revised", 220)
    # Told from its beginning to its end: two clean windows have followed it.
    assert told(world) == [("firing", True, 1, 2, None), ("resolved", True, 1, 4, 2)]
    world.send(hour_of_events(1, 4_000, seed=10))
    world.turn(4.4)
    window = world.window("data", 1)
    assert (window.state, window.revision, window.status) in [("ok", 3, "revised"), ("warning", 3, "revised")]
    assert told(world)[-1][0] == "resolved"


def test_an_alert_that_fires_is_taken_back_when_late_events_undo_its_window(world: World) -> None:
    world.live(range(2))
    world.live([2], shift=0.8)
    assert told(world) == [("firing", False, 2, 3, None)]
    world.send(hour_of_events(2, 4_000, seed=10))
    world.turn(3.2)
    assert world.window("data", 2).revision == 2
    assert told(world)[1:] == [("resolved", True, 2, 3, 3)]
    world.live([3], shift=1.0)
    assert told(world)[-1] == ("firing", False, 3, 4, None)


def test_events_after_the_horizon_are_counted_and_change_nothing(world: World) -> None:
    world.live(range(27))
    before = world.digests()
    world.send(hour_of_events(0, 50, seed=5))
    world.turn(27.3)
    assert world.digests() == before
    (panes,) = world.store.panes()
    assert panes.late_rows == 50


def test_events_within_the_horizon_are_not_refused(world: World) -> None:
    world.live(range(24))
    world.send(hour_of_events(0, 50, seed=5))
    world.turn(24.3)
    assert world.window("data", 0).rows == 170
    assert world.store.panes()[0].late_rows == 0


def test_two_late_panes_leave_the_windows_between_them_alone(world: World) -> None:
    world.live(range(6))
    world.send([*hour_of_events(1, 10, seed=5), *hour_of_events(4, 10, seed=5)])
    world.turn(6.2)
    rows = {hour: (world.window("data", hour).rows, world.window("data", hour).revision) for hour in range(6)}
    assert rows == {0: (120, 1), 1: (130, 2), 2: (120, 1), 3: (120, 1), 4: (130, 2), 5: (120, 1)}


# -- little traffic


def test_few_rows_are_pooled(small: World) -> None:
    small.live(range(4), rows=60)
    assert states(small, "data") == {
        (0, 1): "insufficient_data", (0, 2): "ok", (1, 2): "insufficient_data",
        (2, 3): "insufficient_data", (2, 4): "ok", (3, 4): "insufficient_data",
    }  # fmt: skip
    pooled = small.window("data", 0, hours=2)
    assert (pooled.rows, pooled.status) == (120, "final")
    assert (0, 2) not in states(small, "quality"), "sixty rows are enough for quality"


def test_pooled_drift_fires_an_alert(small: World) -> None:
    small.live(range(2), rows=60, shift=1.2)
    assert told(small) == [("firing", False, 0, 2, None)]


def test_a_window_with_enough_rows_discards_the_pool(small: World) -> None:
    small.live([0], rows=60)
    small.live([1], rows=120)
    small.live([2, 3], rows=60)
    assert [span for span in states(small, "data") if span[1] - span[0] > 1] == [(2, 4)]


def test_a_pool_is_withdrawn_when_late_rows_make_a_pane_enough_alone(small: World) -> None:
    small.live(range(2), rows=60, shift=1.2)
    assert told(small) == [("firing", False, 0, 2, None)]
    small.send(hour_of_events(1, 400, seed=7))
    small.turn(2.3)
    assert (0, 2) not in states(small, "data")
    assert states(small, "data")[1, 2] in ("ok", "warning")
    assert told(small)[1:] == [("resolved", True, 0, 2, 2)]
    withdrawn = [row for row in small.store.windows("churn", "data", revisions=True) if row.withdrawn]
    assert [(row.revision, row.rows) for row in withdrawn] == [(2, 0)]


def test_a_late_pane_joins_the_pool_it_would_have_been_in(tmp_path: Path) -> None:
    """A pool that ended too small is not carved in stone: rows in any order, the same pools."""
    parts = [hour_of_events(hour, rows) for hour, rows in ((0, 30), (1, 30), (3, 30), (6, 30), (7, 120))]
    found = []
    for name, order in (("ordered", (0, 1, 2, 3, 4)), ("late", (0, 1, 3, 2, 4))):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, SMALL)
        for place, part in enumerate(order):
            world.send(parts[part])
            world.turn(8 + place / 2)
            world.turn(8 + place / 2 + 0.2)
        world.finish()
        found.append(world.digests())
        world.close()
    assert found[0] == found[1]
    assert ("data", "1", 0, 4) in found[0]


# -- silence


def test_a_silent_hour_is_critical_once(world: World) -> None:
    world.live(range(30))
    world.turn(33.1)
    world.live([33, 34, 35])
    volume = {span: state for span, state in states(world, "volume", "").items() if span[0] >= 29}
    assert volume == {
        (29, 30): "ok",
        (30, 31): "drift",
        (31, 32): "drift",
        (32, 33): "drift",
        **{(h, h + 1): "ok" for h in (33, 34, 35)},
    }
    assert told(world, "volume") == [("firing", False, 30, 31, None), ("resolved", False, 30, 35, 31)]
    assert [row.severity for row in world.alerts() if row.monitor == "volume"] == ["critical", "critical"]
    assert len([row for row in world.store.windows("churn", "volume") if row.state == "drift"]) == 1, (
        "stored as one run"
    )
    ids = [row.id for row in world.windows("volume")]
    assert len(set(ids)) == len(ids)


def test_a_long_silence_keeps_its_verdict(tmp_path: Path) -> None:
    """Past the history that a window is judged by nothing is known any more, which resolves nothing."""
    world = World(tmp_path)
    world.live(range(30))
    for hour in (40, 150, 230, 300):
        world.turn(hour + 0.1)
    silent = [row for row in world.store.windows("churn", "volume", revisions=True) if row.start_ms >= T0 + 30 * HOUR]
    assert [(row.state, row.run, row.revision) for row in silent] == [("drift", 145, 1), ("no_data", 125, 1)]
    assert len(told(world, "volume")) == 1
    world.close()


def test_late_rows_split_a_silence(world: World) -> None:
    world.live(range(30))
    world.turn(35.1)
    world.send(hour_of_events(32, 20))
    world.turn(35.2)
    world.turn(35.3)
    volume = {
        (r.start_ms - T0) // HOUR: (r.state, r.rows, r.revision)
        for r in world.windows("volume")
        if r.start_ms >= T0 + 30 * HOUR
    }
    assert volume[30] == volume[31] == ("drift", 0, 1)
    assert volume[32] == ("ok", 20, 2)
    assert volume[33] == volume[34] == ("no_data", 0, 2), "a model that has paused before may do it again"
    assert len(volume) == 5
    assert len(world.windows("volume")) == len({row.start_ms for row in world.windows("volume")})


def test_a_silence_that_takes_in_another_leaves_no_window_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late rows change the verdict on what comes after them. The rule of this test is simple: after a busy hour all silence is drift."""

    def verdict(rows: int, history: Sequence[int], policy: Policy, *, window_ms: int) -> Finding:
        running = next((i for i, count in enumerate(reversed(history)) if count), len(history))
        bad = not rows and (running == 0 or max(history) > 200)
        state = State.DRIFT if bad else State.NO_DATA if not rows else State.OK
        return Finding(
            subject="rows", check="silence", state=state, severity=Severity.CRITICAL if bad else None, rows=rows
        )

    monkeypatch.setattr("monitor.closing.data.judge_silence", verdict)
    world.live(range(3))
    world.turn(6.1)
    silent = lambda: [(r.start_ms - T0) // HOUR for r in world.windows("volume") if r.state == "drift"]
    assert silent() == [3]
    world.send(hour_of_events(1, 120, seed=6))
    world.turn(6.2)
    assert silent() == [3, 4, 5]
    starts = [row.start_ms for row in world.windows("volume")]
    assert len(starts) == len(set(starts)) == 6


def test_every_silent_window_is_told_once(world: World) -> None:
    """A run that grows is told window by window, as a machine that reads the decisions must see them."""
    world.live(range(30))
    for hour in (32, 33, 35):
        world.turn(hour + 0.1)
    starts = [
        (item["start"], item["revision"])
        for decision in world.decided
        if isinstance(decision, WindowRow) and decision.monitor == "volume"
        for item in objects(decision)
    ]
    assert len(starts) == len(set(starts)) == 35


# -- versions


def test_a_gap_of_a_version_is_no_data(world: World) -> None:
    world.live([0], version="1")
    world.live([1, 2], version="2")
    world.live([3], version="1")
    assert states(world, "data", "1") == {(0, 1): "ok", (1, 2): "no_data", (2, 3): "no_data", (3, 4): "ok"}
    assert states(world, "data", "2") == {(1, 2): "ok", (2, 3): "ok"}
    assert len([r for r in world.store.windows("churn", "data") if r.state == "no_data"]) == 1, "stored as one run"
    assert set(states(world, "volume", "").values()) == {"ok"}, "the model was never silent"


def test_no_gap_is_filled_before_its_time(world: World) -> None:
    """Rows ahead of the watermark do not close the empty windows before them."""
    world.send([*hour_of_events(0), *hour_of_events(5)[:1]])
    world.log.append("events", hour_of_events(1)[0], partition=0, timestamp_ms=T0 + 10_000 * HOUR)
    world.turn(6)
    assert set(states(world, "data")) == {(0, 1), (1, 2)}
    world.finish()
    assert [states(world, "data")[hour, hour + 1] for hour in (2, 3, 4)] == ["no_data"] * 3


def test_late_rows_in_a_gap_of_a_version(world: World) -> None:
    world.live([0], version="1")
    world.live([1, 2, 3], version="2")
    world.live([4], version="1")
    world.send(hour_of_events(2, version="1", seed=4))
    world.turn(5.2)
    found = {(r.start_ms - T0) // HOUR: (r.state, r.rows, r.revision) for r in world.windows("data", "1")}
    assert found == {
        0: ("ok", 120, 1),
        1: ("no_data", 0, 1),
        2: ("ok", 120, 2),
        3: ("no_data", 0, 1),
        4: ("ok", 120, 1),
    }


def test_two_versions_are_judged_apart(world: World) -> None:
    for hour in range(2):
        world.send(hour_of_events(hour, version="1"))
        world.send(hour_of_events(hour, version="2", shift=1.0, seed=2))
        world.turn(hour + 1)
        world.turn(hour + 1.05)
    assert set(states(world, "data", "1").values()) == {"ok"}
    assert set(states(world, "data", "2").values()) == {"drift"}
    assert {row.version for row in world.alerts()} == {"2"}
    assert {row.rows for row in world.windows("volume")} == {240}


def test_a_version_without_a_reference_of_its_own_inherits(world: World) -> None:
    world.live([0], version="1")
    assert world.window("data", 0).inherited
    write_reference(world.folder / "two.parquet", seed=3)
    adopt(
        world.store, world.config.models["churn"], path=world.folder / "two.parquet", version="2", now_ms=world.clock()
    )
    world.live([1], version="1")
    world.live([2], version="2")
    assert world.window("data", 1).inherited
    assert not world.window("data", 2, "2").inherited
    assert not world.window("volume", 0, "").inherited


def test_events_without_a_version_use_the_unversioned_reference(world: World) -> None:
    world.live([0], version=None)
    assert not world.window("data", 0, "").inherited
    assert objects(world.window("data", 0, ""))[0]["version"] is None


def test_a_reference_adopted_in_between_takes_force_at_the_next_boundary(world: World) -> None:
    world.live([0, 1])
    world.send(hour_of_events(2)[:60])
    world.turn(2.5)
    write_reference(world.folder / "new.parquet", seed=8, shift=0.5)
    new = adopt(world.store, world.config.models["churn"], path=world.folder / "new.parquet", now_ms=world.clock())
    world.send(hour_of_events(2)[60:])
    world.live([3, 4])
    old = world.window("data", 0).reference
    assert old != new.hash
    assert [world.window("data", hour).reference for hour in range(5)] == [old, old, old, new.hash, new.hash]
    assert [world.window("data", hour).rows for hour in range(5)] == [120] * 5
    assert world.window("data", 2).state == "ok"
    assert world.window("data", 3).state == "drift"


# -- end of input


def test_the_end_of_input_makes_provisional_windows_and_no_silence(world: World) -> None:
    world.ingest = world.worker(group="replay", live=False)
    for hour in range(30):
        world.send(hour_of_events(hour))
    world.send(hour_of_events(32))
    world.finish()
    assert {(r.start_ms - T0) // HOUR: r.status for r in world.windows("data")}[32] == "provisional"
    assert {r.status for r in world.windows("data") if r.start_ms < T0 + 32 * HOUR} == {"final"}
    assert states(world, "volume", "")[30, 31] == "drift", "a silence between events is one"
    assert max(end for _, end in states(world, "volume", "")) == 33
    assert min(start for start, _ in states(world, "volume", "")) == 0


def test_provisional_windows_become_final_when_the_stream_goes_on(world: World) -> None:
    world.send(hour_of_events(0))
    world.turn(1)
    world.finish()
    assert world.window("data", 0).status == "provisional"
    world.live([1])
    windows = [
        world.window(monitor, 0, version) for monitor, version in (("data", "1"), ("quality", "1"), ("volume", ""))
    ]
    assert [(row.status, row.revision) for row in windows] == [("final", 1)] * 3


def test_a_provisional_window_that_grows_becomes_final_with_a_new_revision(world: World) -> None:
    world.send(hour_of_events(0)[:60])
    world.turn(0.5)
    world.finish()
    world.send(hour_of_events(0)[60:])
    world.live([1])
    window = world.window("data", 0)
    assert (window.status, window.revision, window.rows) == ("final", 2, 120)


# -- order does not matter


def played(
    batches: Sequence[Sequence[bytes]], *, partitions: int = 1, every: int = 1
) -> dict[tuple[str, str, int, int], str]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), SMALL, partitions=partitions)
        for place, batch in enumerate(batches):
            for index, value in enumerate(batch):
                world.send([value], partition=index % partitions)
            if place % every == 0:
                world.turn(20 + place / 100)
        world.finish()
        digests = world.digests()
        world.close()
    return digests


def _events() -> list[bytes]:
    """Two versions, pools, gaps and a quiet hour in less than a day."""
    plan = [
        (0, 120, "1"),
        (1, 40, "1"),
        (2, 40, "1"),
        (3, 40, "1"),
        (5, 20, "1"),
        (6, 120, "1"),
        (7, 30, "2"),
        (9, 90, "2"),
        (10, 120, "1"),
        (12, 130, "1"),
    ]
    return [value for hour, rows, version in plan for value in hour_of_events(hour, rows, version=version)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 3))
def test_any_order_within_the_horizon_gives_equal_digests(chance: random.Random, partitions: int, every: int) -> None:
    events = _events()
    chance.shuffle(events)
    cuts = sorted(chance.sample(range(1, len(events)), 5))
    batches = [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    assert played(batches, partitions=partitions, every=every) == ORDERED


ORDERED = played([_events()])


def test_the_ordered_run_holds_what_the_test_is_about() -> None:
    spans = {(monitor, end - start) for monitor, _, start, end in ORDERED}
    assert {("data", 1), ("volume", 1)} < spans
    assert any(hours > 1 for monitor, hours in spans if monitor == "data")


# -- decisions for machines


def test_decisions_come_in_order_with_windows_before_their_alerts(world: World) -> None:
    world.live([0], shift=1.0)
    kinds = [("alert" if isinstance(item, AlertRow) else f"window {item.monitor}") for item in world.decided]
    assert kinds == ["window volume", "window data", "window prediction", "window quality", "alert"]
    body = json.loads(json.dumps(objects(world.decided[-1])[0]))
    assert list(body) == [
        "type", "id", "fingerprint", "incident", "model", "version", "segment", "monitor", "subject", "severity", "status",
        "corrected", "at", "starts_at", "ends_at", "window", "reason", "text",
    ]  # fmt: skip
