from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.delivery import Backoff, Delivered, GaveUp, Retry, backoff, classify, retry_after_seconds, wait_seconds

NOW_MS = 1_764_000_000_000  # 2025-11-24 16:00:00 UTC


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status) -> None:
    assert classify(status, {}, NOW_MS) == Delivered()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_go_away_is_tried_again(status) -> None:
    outcome = classify(status, {"retry-after": "7"}, NOW_MS)
    assert isinstance(outcome, Retry)
    assert outcome.after_seconds == 7
    assert str(status) in outcome.error


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 409, 410, 413, 422, 499])
def test_what_a_person_must_mend_is_given_up(status) -> None:
    outcome = classify(status, {"retry-after": "7"}, NOW_MS)
    assert isinstance(outcome, GaveUp)
    assert str(status) in outcome.error


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9999999999999999999999", 3600.0),
        ("1.5", None),
        ("-3", None),
        ("²", None),
        ("soon", None),
        ("", None),
        ("Mon, 24 Nov 2025 16:00:30 GMT", 30.0),
        ("Mon, 24 Nov 2025 16:00:30 -0000", 30.0),
        ("Mon, 24 Nov 2025 15:00:00 GMT", 0.0),
        ("Tue, 25 Nov 2031 16:00:00 GMT", 3600.0),
        ("Mon, 24 Nov 99999 16:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_an_hour(value, seconds) -> None:
    assert retry_after_seconds(value, NOW_MS) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_text_can_break_us(text) -> None:
    seconds = retry_after_seconds(text, NOW_MS)
    assert seconds is None or 0 <= seconds <= 3600


def test_backoff_doubles_to_its_cap_and_jitters_fully() -> None:
    almost = 1 - 1e-12
    assert [round(backoff(k, almost)) for k in (1, 2, 3, 12, 13, 1000)] == [1, 2, 4, 2048, 3600, 3600]
    assert backoff(5, 0.0) == 0.0
    assert backoff(1, 0.5, Backoff(base_seconds=5)) == 2.5
    assert backoff(3, 0.5, Backoff(base_seconds=0.01, cap_seconds=0.02)) == 0.01


def test_a_receiver_that_always_asks_for_a_second_still_gets_longer_rests() -> None:
    assert wait_seconds(Retry(1.0, "x"), 1, 0.0) == 1.0
    assert wait_seconds(Retry(1.0, "x"), 10, 0.5) == 256.0
    assert wait_seconds(Retry(None, "x"), 1, 0.5) == 0.5
