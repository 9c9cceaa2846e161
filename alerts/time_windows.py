"""Spans of the calendar: hours in which nobody is told, and days on which nothing is trained.

```
Mon-Fri 09:00-17:00      Sat,Sun      22:00-24:00      2026-12-24..2027-01-01      2026-12-24..2027-01-01 Mon 00:00-06:00
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MIDNIGHT = 24 * 60
_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DATES = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """Covers a moment when weekday (0 is Monday; none given: any), minute of the day and date all do, in `zone`.

    `to_minute` is left out of the window, `last_day` is in it. A window never runs over midnight: give two.
    """

    weekdays: frozenset[int] = frozenset()
    from_minute: int = 0
    to_minute: int = _MIDNIGHT
    first_day: date | None = None
    last_day: date | None = None
    zone: tzinfo = UTC
    text: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.from_minute < self.to_minute <= _MIDNIGHT:
            raise ValueError(
                "hours must end after they start and not run over midnight (write 22:00-24:00 and 00:00-06:00)"
            )
        if self.first_day is not None and self.last_day is not None and self.last_day < self.first_day:
            raise ValueError("the last day comes before the first")

    def covers(self, time_ms: int) -> bool:
        local = (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(self.zone)
        if self.weekdays and local.weekday() not in self.weekdays:
            return False
        if not self.from_minute <= local.hour * 60 + local.minute < self.to_minute:
            return False
        day = local.date()
        return (self.first_day is None or day >= self.first_day) and (self.last_day is None or day <= self.last_day)

    def __str__(self) -> str:
        return self.text or repr(self)


def covering(windows: Iterable[TimeWindow], time_ms: int) -> TimeWindow | None:
    """The first of the windows that covers the moment."""
    return next((window for window in windows if window.covers(time_ms)), None)


def parse_time_window(text: str, zone: tzinfo = UTC) -> TimeWindow:
    """Days of the week, hours and dates in any order, each at most once. Raises ValueError that shows how to write it."""
    weekdays: frozenset[int] | None = None
    hours: tuple[int, int] | None = None
    days: tuple[date, date] | None = None
    for word in text.split():
        if (found := _HOURS.fullmatch(word)) and hours is None:
            hours = (_minute(found[1], found[2]), _minute(found[3], found[4]))
        elif (found := _DATES.fullmatch(word)) and days is None:
            days = (date.fromisoformat(found[1]), date.fromisoformat(found[2] or found[1]))
        elif weekdays is None and word[:3].lower() in _DAYS:
            weekdays = _weekdays(word)
        else:
            raise ValueError(
                f"cannot read {word!r} of a time window (such as: Mon-Fri 09:00-17:00, 2026-12-24..2027-01-01)"
            )
    if weekdays is None and hours is None and days is None:
        raise ValueError("a time window is empty (such as: Mon-Fri 09:00-17:00, 2026-12-24..2027-01-01)")
    first, last = days or (None, None)
    start, end = hours or (0, _MIDNIGHT)
    return TimeWindow(
        weekdays=weekdays or frozenset(),
        from_minute=start,
        to_minute=end,
        first_day=first,
        last_day=last,
        zone=zone,
        text=" ".join(text.split()),
    )


def _minute(hour: str, minute: str) -> int:
    if int(minute) > 59:
        raise ValueError(f"{hour}:{minute} is no time of the day")
    return int(hour) * 60 + int(minute)


def _weekdays(word: str) -> frozenset[int]:
    chosen: set[int] = set()
    for part in word.lower().split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if first not in _DAYS or last not in _DAYS:
            raise ValueError(f"{part!r} is no day of the week (mon, tue, wed, thu, fri, sat, sun)")
        start, end = _DAYS.index(first), _DAYS.index(last)
        chosen |= {day % 7 for day in range(start, (end if end >= start else end + 7) + 1)}
    return frozenset(chosen)
