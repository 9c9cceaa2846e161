"""A model whose longest pool still holds too few rows is told which window it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.finding import Finding
from detectors.sentences import sentence
from monitor.commands import objects
from monitor.results import decode_findings
from monitor.show import window_line
from parts.world import CONFIG, HOUR, World, hour_of_events

SMALL = CONFIG.replace("max: 12h", "max: 4h")


def made(tmp_path: Path, config: str = SMALL) -> World:
    return World(tmp_path, config)


def pool_findings(world: World, monitor: str, hour: int, hours: int) -> list[Finding]:
    row = world.window(monitor, hour, hours=hours)
    return [finding for finding in decode_findings(row.findings) if finding.check == "pool"]


def test_the_longest_pool_names_the_window_to_configure(tmp_path: Path) -> None:
    world = made(tmp_path)
    world.live(range(5), rows=10)
    row = world.window("data", 0, hours=4)
    assert (row.state, row.rows) == ("insufficient_data", 40)
    (finding,) = pool_findings(world, "data", 0, 4)
    assert (finding.subject, finding.state, finding.rows) == ("window", "insufficient_data", 40)
    assert (finding.detail["rows_a_day"], finding.detail["suggested_window"]) == (240.0, "12h")
    assert "only 40 rows in 4h" in window_line(row), "a person sees it in `windows`"
    (shown,) = [f for f in objects(row)[0]["findings"] if f["check"] == "pool"]
    assert shown["text"] == sentence(finding)
    others = {f.subject: f.state for f in decode_findings(row.findings) if f.check != "pool"}
    assert others == {"x": "insufficient_data", "c": "insufficient_data"}
    world.close()


def test_only_the_longest_pool_does(tmp_path: Path) -> None:
    """Neither its members, nor a pool that got enough rows, nor a monitor that judges nothing or is content with fewer rows."""
    world = made(tmp_path)
    world.live(range(4), rows=60)
    world.live(range(4, 9), rows=10)
    rows = [row for row in world.windows() if any(f.check == "pool" for f in decode_findings(row.findings))]
    assert [(row.monitor, row.end_ms - row.start_ms) for row in rows] == [("data", 4 * HOUR)]
    assert world.window("prediction", 4, hours=4).state == "not_configured"
    world.close()


def test_a_pool_that_what_followed_came_too_late_for(tmp_path: Path) -> None:
    """Two hours of ten rows and then a pause: twenty rows came within the longest pool allowed."""
    world = made(tmp_path)
    world.live([0, 1], rows=10)
    world.live([6], rows=10)
    (finding,) = pool_findings(world, "data", 0, 2)
    assert (finding.rows, finding.detail["rows_a_day"]) == (20, 120.0)
    world.close()


@pytest.mark.parametrize(("rows", "told"), [(20, 1), (120, 0)])
def test_a_window_as_long_as_a_pool_may_be(tmp_path: Path, rows: int, told: int) -> None:
    world = made(tmp_path, CONFIG.replace("max: 12h", "max: 1h"))
    world.live([0], rows=rows)
    assert len(pool_findings(world, "data", 0, 1)) == told
    world.close()


def test_the_digest_is_that_of_the_counts_alone(tmp_path: Path) -> None:
    """Equal counts, whatever was told of them: in the second world forty rows are enough."""
    digests = []
    for name, config in (("told", SMALL), ("enough", SMALL.replace("100", "40"))):
        (tmp_path / name).mkdir()
        world = made(tmp_path / name, config)
        world.live(range(4), rows=10)
        assert len(pool_findings(world, "data", 0, 4)) == (name == "told")
        digests.append(world.window("data", 0, hours=4).digest)
        world.close()
    assert digests[0] == digests[1]


def test_late_rows_that_fill_the_pool_take_the_finding_back(tmp_path: Path) -> None:
    world = made(tmp_path)
    world.live(range(5), rows=10)
    assert pool_findings(world, "data", 0, 4)
    world.send(hour_of_events(3, 80, seed=3))
    world.turn(5.3)
    assert pool_findings(world, "data", 0, 4) == []
    assert world.window("data", 0, hours=4).state in ("ok", "warning")
    world.close()
