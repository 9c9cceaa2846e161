from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from alerts.time_windows import TimeWindow, covering, parse_time_window


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("Mon-Fri 09:00-17:00", ["2026-11-23T09:00", "2026-11-27T16:59"], ["2026-11-23T08:59", "2026-11-23T17:00", "2026-11-28T12:00"]),
        ("sat,sun", ["2026-11-28T00:00", "2026-11-29T23:59"], ["2026-11-27T23:59", "2026-11-30T00:00"]),
        ("fri-mon", ["2026-11-27T00:00", "2026-11-30T23:00"], ["2026-12-01T00:00", "2026-11-26T23:59"]),
        ("22:00-24:00", ["2026-11-23T22:00", "2026-11-23T23:59"], ["2026-11-23T21:59", "2026-11-24T00:00"]),
        ("2026-12-24..2027-01-01", ["2026-12-24T00:00", "2027-01-01T23:59"], ["2026-12-23T23:59", "2027-01-02T00:00"]),
        ("2026-12-24", ["2026-12-24T12:00"], ["2026-12-25T00:00"]),
        ("2026-11-01..2026-11-30 Mon 00:00-06:00", ["2026-11-23T05:59"], ["2026-11-23T06:00", "2026-12-07T05:00", "2026-11-24T05:00"]),
    ],
)  # fmt: skip
def test_windows_of_the_calendar(window, inside, outside) -> None:
    parsed = parse_time_window(window)
    assert [moment for moment in inside if not parsed.covers(ms(moment))] == []
    assert [moment for moment in outside if parsed.covers(ms(moment))] == []
    assert str(parsed) == window


def test_hours_are_those_of_the_zone_also_when_clocks_change() -> None:
    berlin = parse_time_window("Mon-Fri 09:00-17:00", ZoneInfo("Europe/Berlin"))
    assert berlin.covers(ms("2026-11-23T08:00"))  # winter: UTC+1
    assert berlin.covers(ms("2026-07-20T07:00"))  # summer: UTC+2
    assert not berlin.covers(ms("2026-11-23T07:59"))
    east = parse_time_window("mon", timezone(timedelta(hours=14)))
    assert east.covers(ms("2026-11-22T10:00"))
    assert not east.covers(ms("2026-11-23T10:00"))


@pytest.mark.parametrize(
    "text",
    ["", "Mon-Frid", "xyz", "09:00-09:00", "17:00-09:00", "24:00-25:00", "09:60-10:00", "mon mon", "2026-13-01",
     "2026-12-24..2026-12-23", "09:00-10:00 11:00-12:00", "mon-", "2026-12-24 2026-12-25"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text) -> None:
    with pytest.raises(ValueError):
        parse_time_window(text)


def test_the_first_that_covers_is_named() -> None:
    windows = [parse_time_window("sat"), parse_time_window("sat,sun")]
    assert covering(windows, ms("2026-11-28T12:00")) is windows[0]
    assert covering(windows, ms("2026-11-29T12:00")) is windows[1]
    assert covering(windows, ms("2026-11-30T12:00")) is None


def test_times_before_1970_are_times() -> None:
    assert TimeWindow(zone=UTC, weekdays=frozenset({2})).covers(-1)  # a Wednesday
