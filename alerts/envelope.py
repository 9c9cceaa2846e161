"""The outside of every message: `{"type","timestamp","data"}` as exact bytes, rendered once and signed as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta


def envelope(kind: str, timestamp_ms: int, data: Mapping[str, object]) -> bytes:
    """Compact JSON, keys in the caller's order, pure ASCII so that no text can fail to encode. Raises ValueError for
    NaN.
    """
    body = {"type": kind, "timestamp": rfc3339(timestamp_ms), "data": data}
    return json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def rfc3339(time_ms: int) -> str:
    """`2026-11-23T08:00:00.120Z`."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
