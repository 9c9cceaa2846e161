from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.decoding.timestamps import LATEST_MS, BadTimestampError, parse_time, parse_times

T = 1_795_420_800_000  # 2026-11-23T08:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T08:00:00Z", T),
        ("2026-11-23t08:00:00z", T),
        ("2026-11-23 08:00:00Z", T),
        ("2026-11-23T08:00:00.1Z", T + 100),
        ("2026-11-23T08:00:00.120Z", T + 120),
        ("2026-11-23T08:00:00.1209999999999999999Z", T + 120),
        ("2026-11-23T08:00:00.999999Z", T + 999),
        ("2026-11-23T10:30:00+02:30", T),
        ("2026-11-22T23:00:00.5-09:00", T + 500),
        ("2026-11-23T08:00:00-00:00", T),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        (T, T),
        (float(T), T),
        (-5, -5),
    ],
)
def test_reads_every_form_that_rfc_3339_and_epoch_milliseconds_allow(text, expected):
    assert parse_time(text) == expected
    times, wrong = parse_times([text] * 12)
    assert times.tolist() == [expected] * 12
    assert wrong == {}


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "",
        "2026-11-23T08:00:00",
        "2026-11-23",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T29:00:00Z",
        "2026-11-23T08:60:00Z",
        "2026-11-23T08:00:61Z",
        "2026-11-23T08:01:60Z",
        "2026-11-23T08:00:00.Z",
        "2026-11-23T08:00:00,5Z",
        "2026-11-23T08:00:00+0200",
        "2026-11-23T08:00:00+24:00",
        "2026-11-23T08:00:00+01:60",
        "2026-11-23T08:00:00.12345678Z1",
        "2026/11/23T08:00:00Z",
        "2026-11-23_08:00:00Z",
        "٢026-11-23T08:00:00Z",
        " 2026-11-23T08:00:00Z",
        "2026-11-23T08:00:00Z\n",
        "2026-11-23T08:00:0:Z",
        "2026-11-23T08:00:0/Z",
        1.5,
        float("nan"),
        float("inf"),
        10**16,
        -(10**30),
    ],
)
def test_refuses_what_is_no_time_and_keeps_the_rest_of_the_block(text):
    with pytest.raises(BadTimestampError):
        parse_time(text)
    for good in ("2026-11-23T08:00:00Z", "2026-11-23T08:00:00.000Z", T):
        times, wrong = parse_times([good] * 20 + [text] + [good] * 20)
        assert list(wrong) == [20]
        assert times.tolist() == [T] * 20 + [0] + [T] * 20


def test_two_wrong_lengths_do_not_make_up_for_each_other():
    assert set(parse_times(["2026-11-23T08:00:00.12Z2", "026-11-23T08:00:00.123Z"] * 10)[1]) == set(range(20))
    joined = "2026-11-23T08:00:00Z\n2026-11-23T08:00:00Z"
    assert set(parse_times(["2026-11-23T08:00:00Z", joined])[1]) == {1}
    assert set(parse_times(["2026-11-23T08:00:00Z", "2026-11-23T08:00:00Z\n", ""] * 10)[1]) == {
        i for i in range(30) if i % 3
    }


@pytest.mark.parametrize("stamp", ["2026-11-23T08:00:00", 1_700_000_000_000_000, "nope!", 1.5])
def test_says_how_to_mend_it_without_showing_the_value(stamp):
    with pytest.raises(BadTimestampError) as caught:
        parse_time(stamp)
    assert str(stamp) not in str(caught.value)


def test_empty_block():
    times, wrong = parse_times([])
    assert (len(times), wrong) == (0, {})


def test_the_end_of_time():
    assert parse_time("9999-12-31T23:59:59.999Z") == LATEST_MS == parse_time(LATEST_MS)


INSTANTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - the zone is drawn beside it
FORMS = st.sampled_from(["seconds", "milliseconds", "microseconds", "zulu", "number"])


@given(st.lists(st.tuples(INSTANTS, st.integers(-23 * 60, 23 * 60), FORMS), max_size=60))
def test_agrees_with_the_standard_library(drawn):
    stamps, expected = [], []
    for instant, offset, form in drawn:
        zone = timezone(timedelta(minutes=offset)) if form != "zulu" else UTC
        moment = instant.replace(tzinfo=zone)
        if form == "seconds":
            moment = moment.replace(microsecond=0)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        ms = since // timedelta(milliseconds=1)
        if form == "number":
            stamps.append(ms)
        elif form == "zulu":
            stamps.append(moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
        else:
            stamps.append(moment.isoformat(timespec=form))
        expected.append(ms)
    times, wrong = parse_times(stamps)
    assert wrong == {}
    assert times.tolist() == expected
