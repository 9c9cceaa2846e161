"""Has a model gone silent? A window without a single row, judged against how much there usually is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import special

from detectors.finding import Finding, Severity, State
from detectors.policy import Policy

CHECK, SUBJECT = "silence", "rows"
LEVEL = 1e-6  # probability of no row at all, below which no row is no accident
HISTORY = 168  # windows: a week of hours
_DAY_MS = 86_400_000
_ENOUGH, _ENOUGH_DAYS = 24, 7  # windows of history, and where a window is a day or longer
_ENOUGH_SAME_HOUR = 9  # windows at this hour of the day, one before and one after: three days of them


def judge_silence(rows: int, history: Sequence[int], policy: Policy, *, window_ms: int = 3_600_000) -> Finding:
    """`history`: row counts of up to 168 windows before this one, oldest first, zeros included; older ones are ignored.

    Any row is ok. No row is drift (critical) where history makes it implausible: taken as a whole, or by the hour of the day, which
    finds a silent noon of a model that sleeps at night. Zeros in the history make zero plausible, but for a run of them at its end:
    that is the silence itself, still going on. Otherwise no row is no_data: nothing is known.
    """
    recent = list(history[-HISTORY:])
    running = next((i for i, count in enumerate(reversed(recent)) if count > 0), len(recent))
    before = recent[: len(recent) - running]
    expected = sum(before) / len(before) if before else None
    enough = _ENOUGH_DAYS if window_ms >= _DAY_MS else _ENOUGH
    p, basis = _zero(before) if len(before) >= enough else None, before
    same_hour = _same_hour(recent, running, window_ms)
    p_hour = _zero(same_hour) if len(same_hour) >= _ENOUGH_SAME_HOUR else None
    if p_hour is not None and (p is None or p_hour < p):
        p, basis, expected = p_hour, same_hour, sum(same_hour) / len(same_hour)
    if rows > 0:
        return _finding(State.OK, rows, expected, None, {"windows": len(basis)})
    if p is None or p > LEVEL * policy.level_scale:
        return _finding(
            State.NO_DATA, rows, expected, p, {"windows": len(basis), "reason": _why_unknown(before, enough, p)}
        )
    return _finding(State.DRIFT, rows, expected, p, {"windows": len(basis), "silent_windows": running + 1})


def _zero(counts: Sequence[int]) -> float | None:
    """P(0) under a negative binomial with the mean of `counts` and as much spread as they leave possible. None if there is a zero among them."""
    if min(counts) == 0:
        return None
    k = len(counts)
    mean = sum(counts) / k
    variance = sum((count - mean) ** 2 for count in counts) / (k - 1)
    variance *= (k - 1) / float(
        special.chdtri(k - 1, 0.95)
    )  # its upper 95 % bound: few windows know little about the spread
    if variance <= mean:
        return math.exp(-mean)
    return math.exp(-mean * mean / (variance - mean) * math.log(variance / mean))


def _same_hour(recent: Sequence[int], running: int, window_ms: int) -> list[int]:
    """Counts of the windows one, two, ... days ago, with a neighbour on either side, as far as they lie before the running silence.

    None for a model that has paused more than once at hours when it usually works: it may do so at any hour.
    """
    if window_ms >= _DAY_MS or _DAY_MS % window_ms or _DAY_MS // window_ms < 4:
        return []
    day = _DAY_MS // window_ms
    if _pauses(recent[: len(recent) - running], day) > 1:
        return []
    lags = [lag + side for lag in range(day, len(recent) + 1, day) for side in (-1, 0, 1)]
    return [recent[-lag] for lag in lags if running < lag <= len(recent)]


def _pauses(counts: Sequence[int], day: int) -> int:
    """Runs of windows without a row at hours of the day that had rows on more than half of the days."""
    works = [2 * sum(count > 0 for count in counts[hour::day]) > len(counts[hour::day]) for hour in range(day)]
    idle = [count == 0 and works[i % day] for i, count in enumerate(counts)]
    return sum(now and not before for before, now in zip([False, *idle], idle, strict=False))


def _why_unknown(before: Sequence[int], enough: int, p: float | None) -> str:
    if len(before) < enough:
        return f"{len(before)} windows of history, {enough} are needed"
    return (
        "windows without a row have been seen before" if p is None else "so few rows are usual that none may be chance"
    )


def _finding(
    state: State, rows: int, expected: float | None, p: float | None, detail: dict[str, float | int | str | None]
) -> Finding:
    return Finding(
        subject=SUBJECT,
        check=CHECK,
        state=state,
        severity=Severity.CRITICAL if state is State.DRIFT else None,
        value=float(rows),
        baseline=expected,
        unit="rows",
        p_value=p,
        rows=rows,
        detail=detail,
    )
