"""Event times: RFC 3339 texts and epoch milliseconds to int64 ms UTC, a block at a time."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
LATEST_MS = 253_402_300_799_999  # the end of year 9999
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NO_DAY = -(10**9)  # stands for a date that is in no calendar
_SMALL_GROUP = 8  # below this a vector costs more than it saves

Stamp = str | int | float


class BadTimestampError(ValueError):
    """The message names the fix and holds nothing of the value."""


def parse_times(stamps: Sequence[Stamp]) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Times in ms since 1970 (UTC), and what is wrong by index; the time of a wrong one is 0. Fractions below 1 ms are cut off.

    Callers may not assume a time to be plausible: only its form and calendar were checked. Booleans must have been refused before.
    """
    whole = _whole(stamps)
    return (whole, {}) if whole is not None else _mixed(stamps)


def parse_time(stamp: Stamp) -> int:
    """One time in ms since 1970. Raises BadTimestampError."""
    return _from_text(stamp) if isinstance(stamp, str) else _from_number(stamp)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A fixed form of RFC 3339: the lowest character at each place, how many follow it there, and what its digits weigh."""

    low: NDArray[np.uint8]
    span: NDArray[np.uint8]
    weights: NDArray[np.float64]  # two rows: the date as yyyymmdd, the time of day in ms


def _layout(form: str) -> _Layout:
    form += "\n"  # the separator between joined texts; see _whole
    low = np.frombuffer(form.replace("d", "0").encode(), np.uint8)
    span = np.array([9 if c == "d" else 0 for c in form], np.uint8)
    span[[14, 17]] = 5  # tens of minutes and seconds; hours are held by the length of a day
    weights = np.zeros((2, len(form)))
    weights[0, [0, 1, 2, 3, 5, 6, 8, 9]] = [1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1]
    weights[1, [11, 12, 14, 15, 17, 18]] = [36e6, 36e5, 6e5, 6e4, 1e4, 1e3]
    if form[19] == ".":
        weights[1, [20, 21, 22]] = [100, 10, 1]
    return _Layout(low, span, weights)


_SECONDS = "dddd-dd-ddTdd:dd:dd"
_LAYOUTS = {
    len(form): _layout(form)
    for form in (_SECONDS + fraction + zone for fraction in ("", ".ddd", ".dddddd") for zone in ("Z", "+00:00"))
}


def _whole(stamps: Sequence[Stamp]) -> NDArray[np.int64] | None:
    """The times of a block that is all integers or all texts of one layout; None of any other."""
    if not stamps:
        return np.zeros(0, np.int64)
    if isinstance(stamps[0], str):
        layout = _LAYOUTS.get(len(stamps[0]))
        if layout is None:
            return None
        try:
            # One newline a text, at a place where the layout wants one: no two wrong lengths can make up for each other.
            raw = ("\n".join(cast("Sequence[str]", stamps)) + "\n").encode("ascii")
        except (TypeError, UnicodeEncodeError):
            return None
        if len(raw) != len(stamps) * len(layout.low):
            return None
        times, good = _read(raw, layout)
        return times if good is None else None
    if set(map(type, stamps)) != {int} or not 0 <= min(stamps) <= max(stamps) <= LATEST_MS:  # type: ignore[operator]
        return None
    return np.array(stamps, np.int64)


def _read(raw: bytes, layout: _Layout) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """The times of newline-ended texts, and which of them are good; None when all are, which is found out more cheaply."""
    offsets = np.frombuffer(raw, np.uint8).reshape(-1, len(layout.low)) - layout.low  # wraps below `low`
    inside = offsets <= layout.span
    well_formed = bool(inside.all())
    dates, of_day = layout.weights @ offsets.T
    first = dates.item(0)
    days: NDArray[np.float64] | int
    if (dates == first).all():  # most blocks are of one day
        days = _day(first)
        in_calendar = days != _NO_DAY
    else:
        days = np.array([_day(key) for key in dates.tolist()], np.float64)
        in_calendar = bool((days != _NO_DAY).all())
    times = (of_day + days * DAY_MS).astype(np.int64)
    if well_formed and in_calendar and of_day.max() < DAY_MS:
        return times, None
    return times, inside.all(axis=1) & (of_day < DAY_MS) & (days != _NO_DAY)


_days: dict[float, int] = {}


def _day(key: float) -> int:
    """Days since 1970 of a date written yyyymmdd. Remembered, because a stream names few dates."""
    day = _days.get(key)
    if day is None:
        if len(_days) >= 4096:
            _days.clear()
        year, month, day_of_month = int(key) // 10_000, int(key) // 100 % 100, int(key) % 100
        try:
            day = date(year, month, day_of_month).toordinal() - _EPOCH_DAY
        except ValueError:
            day = _NO_DAY
        _days[key] = day
    return day


def _mixed(stamps: Sequence[Stamp]) -> tuple[NDArray[np.int64], dict[int, str]]:
    times = np.zeros(len(stamps), np.int64)
    groups: dict[int, list[int]] = defaultdict(list)
    singly: list[int] = []
    for index, stamp in enumerate(stamps):
        if isinstance(stamp, str) and len(stamp) in _LAYOUTS and stamp.isascii():
            groups[len(stamp)].append(index)
        else:
            singly.append(index)
    for length, indices in groups.items():
        if len(indices) < _SMALL_GROUP:
            singly += indices
            continue
        raw = "".join(f"{stamps[index]}\n" for index in indices).encode("ascii")
        values, good = _read(raw, _LAYOUTS[length])
        at = np.array(indices)
        if good is None:
            times[at] = values
        else:
            times[at[good]] = values[good]
            singly += at[~good].tolist()
    wrong: dict[int, str] = {}
    for index in singly:
        try:
            times[index] = parse_time(stamps[index])
        except BadTimestampError as error:
            wrong[index] = str(error)
    return times, wrong


def _from_number(stamp: float) -> int:
    if isinstance(stamp, float) and not stamp.is_integer():
        raise BadTimestampError("epoch milliseconds must be a whole number")
    if stamp > LATEST_MS:
        raise BadTimestampError("later than year 9999: looks like micro- or nanoseconds, send milliseconds")
    if stamp < -LATEST_MS:
        raise BadTimestampError("before 2000-01-01")
    return int(stamp)


_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_NO_ZONE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?", re.ASCII)


def _from_text(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        if _NO_ZONE.fullmatch(text):
            raise BadTimestampError("has no offset: add Z or +hh:mm")
        raise BadTimestampError("not an RFC 3339 time such as 2026-11-23T08:00:00.120Z")
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, zone_hour, zone_minute = match.group(7, 8, 9, 10)
    days = _day(year * 10_000 + month * 100 + day)
    leap = second == 60 and minute == 59  # RFC 3339 knows leap seconds: the first instant of the next minute
    if days == _NO_DAY or hour > 23 or minute > 59 or (second > 59 and not leap):
        raise BadTimestampError("no such date or time of day")
    time = days * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000 + int(((fraction or "") + "000")[:3])
    if sign is None:
        return time
    if int(zone_hour) > 23 or int(zone_minute) > 59:
        raise BadTimestampError("no such offset")
    shift_ms = (int(zone_hour) * 60 + int(zone_minute)) * 60_000
    return time - shift_ms if sign == "+" else time + shift_ms
