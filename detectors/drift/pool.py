"""Which window would a model with little traffic need? Told where even the longest pool allowed holds too few rows to judge a distribution."""

from __future__ import annotations

from detectors.finding import Finding, State

CHECK = "pool"
SUBJECT = "window"
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# What a person would choose: all of them can be a window's size, and a pool's longest.
_SENSIBLE = {
    **{f"{hours}h": hours * _HOUR_MS for hours in (1, 2, 3, 6, 12)},
    **{f"{days}d": days * _DAY_MS for days in (1, 2, 3, 7, 14, 30, 60, 90, 180, 365)},
}


def judge_pool(rows: int, *, span_ms: int, min_rows: int) -> Finding:
    """`rows` came in `span_ms`, the longest that rows may be pooled; fewer than `min_rows`, which the caller has seen to.

    `suggested_window` is the smallest sensible one that would hold enough at this rate, None where a year would not do.
    """
    enough = (name for name, size_ms in _SENSIBLE.items() if size_ms > span_ms and rows * size_ms >= min_rows * span_ms)
    detail = {
        "rows_a_day": round(rows * _DAY_MS / span_ms, 2),
        "suggested_window": next(enough, None),
        "longest": length(span_ms),
        "min_rows": min_rows,
    }
    return Finding(subject=SUBJECT, check=CHECK, state=State.INSUFFICIENT_DATA, rows=rows, detail=detail)


def length(span_ms: int) -> str:
    """As it is written in a configuration: 7d, 36h, 90m, 45s."""
    for unit, size_ms in (("d", _DAY_MS), ("h", _HOUR_MS), ("m", 60_000)):
        if span_ms % size_ms == 0:
            return f"{span_ms // size_ms}{unit}"
    return f"{span_ms / 1000:g}s"
