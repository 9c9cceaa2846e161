"""What came of one attempt to deliver, and when to try again. Pure: answers in, decisions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 3600.0
_TRY_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver said that it has it; of a retraining also by what name it runs there, as far as it told."""

    run_id: str | None = None
    run_url: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """It may work later; not before `after_seconds` where the receiver said so. It may have arrived nevertheless."""

    after_seconds: float | None
    error: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Trying again cannot help: a person has to mend something."""

    error: str


Outcome = Delivered | Retry | GaveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential with full jitter: attempt k waits anything up to base * 2**(k-1), at most `cap_seconds`."""

    base_seconds: float = 1.0
    cap_seconds: float = LONGEST_WAIT_SECONDS


def classify(status: int, headers: Mapping[str, str], now_ms: int) -> Outcome:
    """What an HTTP answer means. `headers` must find names in any case or hold them in lower case.

    A redirect is a failure: following one would send a signed message to an address nobody configured.
    """
    if 200 <= status < 300:
        return Delivered()
    if status in _TRY_AGAIN or status >= 500 or status < 200:
        return Retry(retry_after_seconds(headers.get("retry-after"), now_ms), f"answered HTTP {status}")
    if status < 400:
        return GaveUp(f"answered HTTP {status}: redirects are not followed, configure the final address")
    if status == 410:
        return GaveUp("answered HTTP 410: the receiver is gone for good")
    return GaveUp(f"answered HTTP {status}: the request was refused")


def retry_after_seconds(value: str | None, now_ms: int) -> float | None:
    """`Retry-After` as seconds or as an HTTP date, within 0 and an hour; None when absent or not understood."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000": an HTTP date is always GMT
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def backoff(attempt: int, random: float, policy: Backoff | None = None) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1). `random` is uniform in [0, 1)."""
    policy = policy or Backoff()
    doublings = min(max(attempt, 1) - 1, 60)
    return min(policy.cap_seconds, policy.base_seconds * 2.0**doublings) * random


def wait_seconds(retry: Retry, attempt: int, random: float, policy: Backoff | None = None) -> float:
    """Never sooner than the receiver asked for, and longer each time even where it always asks for little."""
    return max(backoff(attempt, random, policy), retry.after_seconds or 0.0)
