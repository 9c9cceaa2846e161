from __future__ import annotations

import base64
import hashlib
import hmac
import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert import Alert
from alerts.lifecycle import Severity
from alerts.retraining import LEGAL, RetrainingStatus
from alerts.retraining_run import (
    Applied,
    Cause,
    Deadlines,
    Help,
    Report,
    apply,
    callback_token,
    deadline_ms,
    is_token_of,
    judge,
    parse_report,
    status_object,
    timed_out,
    unhelpful_running,
)

S = RetrainingStatus
SECRET, OTHER = b"k" * 32, b"o" * 32
ENDED = {status for status in S if not LEGAL[status]}


# -- the token


def test_the_token_is_an_hmac_of_the_request_and_opens_that_only() -> None:
    mac = hmac.new(SECRET, b"driftline retraining call-back\0r1", hashlib.sha256).digest()
    token = callback_token(SECRET, "r1")
    assert token == base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert is_token_of("r1", token, [SECRET])
    assert not is_token_of("r2", token, [SECRET])
    assert not is_token_of("r1", token, [OTHER])
    assert not is_token_of("r1", token, [])


def test_while_secrets_change_both_are_good() -> None:
    assert is_token_of("r", callback_token(SECRET, "r"), [OTHER, SECRET])
    assert is_token_of("r", callback_token(OTHER, "r"), [OTHER, SECRET])


@pytest.mark.parametrize("wrong", ["", "x", "\ud800", "é" * 43])
def test_what_is_no_token_is_refused_and_breaks_nothing(wrong) -> None:
    good = callback_token(SECRET, "r")
    assert not is_token_of("r", wrong, [SECRET])
    for changed in (good[:-1], good + "A", good.swapcase(), good + "="):
        assert not is_token_of("r", changed, [SECRET])


def test_a_short_secret_is_refused() -> None:
    callback_token(b"x" * 24, "r")
    with pytest.raises(ValueError, match="24 bytes"):
        callback_token(b"x" * 23, "r")


def test_comparing_takes_as_long_for_every_token(monkeypatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert is_token_of("r", callback_token(SECRET, "r"), [SECRET, OTHER])
    assert len(compared) == 2, "all secrets are compared, also after one fits"


# -- reports


def test_a_report_in_full_and_as_short_as_it_can_be() -> None:
    body = {"status": "succeeded", "run_id": 17, "url": "https://x/1", "version": "8", "message": " a\nb ", "more": [1]}
    report = parse_report(json.dumps(body).encode())
    assert report == Report(status=S.SUCCEEDED, run_id="17", url="https://x/1", version="8", message="a b")
    assert status_object(report) == {"run_id": "17", "url": "https://x/1", "version": "8", "message": "a b"}
    assert parse_report(b'{"status":"running"}') == Report(status=S.RUNNING)
    assert status_object(Report(status=S.RUNNING)) == {}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"x", b"\xff", b'{"status":"secret-word"}', b'{"status":1}', b'{"status":["running"]}',
     b'{"status":"delivered"}', b'{"status":"requested"}', b'{"status":"timed_out"}', b'{"status":"running","run_id":true}',
     b'{"status":"running","url":{"secret-word":1}}', b'{"status":"running","message":"' + b"x" * 20_000 + b'"}', b"[" * 9_000],
)  # fmt: skip
def test_a_bad_report_is_refused_without_repeating_it(body) -> None:
    with pytest.raises(ValueError) as error:
        parse_report(body)
    assert "secret-word" not in str(error.value)


def test_long_texts_are_cut() -> None:
    assert len(parse_report(json.dumps({"status": "failed", "message": "x" * 9_000}).encode()).message) == 500


# -- the machine


@pytest.mark.parametrize(
    ("current", "reported", "after", "applied"),
    [
        (S.DELIVERED, S.ACCEPTED, S.ACCEPTED, Applied.CHANGED),
        (S.DELIVERED, S.SUCCEEDED, S.SUCCEEDED, Applied.CHANGED),  # a job may skip steps
        (S.REQUESTED, S.RUNNING, S.RUNNING, Applied.CHANGED),  # the answer to the delivery was lost
        (S.RUNNING, S.RUNNING, S.RUNNING, Applied.REPEATED),
        (S.RUNNING, S.ACCEPTED, S.RUNNING, Applied.REPEATED),  # came late
        (S.SUCCEEDED, S.RUNNING, S.SUCCEEDED, Applied.REPEATED),
        (S.SUCCEEDED, S.SUCCEEDED, S.SUCCEEDED, Applied.REPEATED),
        (S.SUCCEEDED, S.FAILED, S.SUCCEEDED, Applied.REFUSED),
        (S.TIMED_OUT, S.SUCCEEDED, S.TIMED_OUT, Applied.REFUSED),
        (S.CANCELLED, S.SUCCEEDED, S.CANCELLED, Applied.REFUSED),
        (S.RUNNING, S.REJECTED, S.RUNNING, Applied.REFUSED),
    ],
)
def test_what_a_report_does(current, reported, after, applied) -> None:
    assert apply(current, reported) == (after, applied)


def test_reports_in_any_order_and_twice_end_where_the_job_ended() -> None:
    for order in permutations([S.ACCEPTED, S.RUNNING, S.SUCCEEDED]):
        status = S.DELIVERED
        for report in (*order, *order):
            status, applied = apply(status, report)
            assert applied is not Applied.REFUSED
        assert status is S.SUCCEEDED


@settings(deadline=None)
@given(st.sampled_from(S), st.lists(st.sampled_from(S)))
def test_a_status_never_goes_back_and_an_end_is_an_end(start, reports) -> None:
    order, status = list(S), start
    for report in reports:
        after, applied = apply(status, report)
        assert (after is not status) is (applied is Applied.CHANGED)
        assert order.index(after) >= order.index(status)
        assert status not in ENDED or after is status
        assert applied is not Applied.CHANGED or after is report
        status = after


# -- time-outs


LIMITS = Deadlines(approval_ms=700, answer_ms=10, run_ms=100)


def test_each_status_has_its_deadline() -> None:
    found = {status: deadline_ms(status, 1_000, LIMITS) for status in S if status not in ENDED}
    assert found == {S.REQUESTED: 1_700, S.DELIVERED: 1_010, S.ACCEPTED: 1_100, S.RUNNING: 1_100}
    assert {deadline_ms(status, 1_000, LIMITS) for status in ENDED} == {None}
    assert deadline_ms(S.DELIVERED, 1_000, LIMITS, hears_back=False) == 1_100
    assert deadline_ms(S.REQUESTED, 1_000, LIMITS, hears_back=False) == 1_700


def test_it_times_out_at_its_deadline_and_not_before() -> None:
    assert timed_out(S.RUNNING, 1_000, 1_099, LIMITS) is None
    assert timed_out(S.RUNNING, 1_000, 1_100, LIMITS) == (
        "Was running since 1970-01-01T00:00:01.000Z, and nothing was heard until 1970-01-01T00:00:01.100Z."
    )
    assert timed_out(S.SUCCEEDED, 0, 10**15, LIMITS) is None
    assert timed_out(S.DELIVERED, 0, 50, LIMITS) is not None
    assert timed_out(S.DELIVERED, 0, 50, LIMITS, hears_back=False) is None


# -- whether it helped


def alert(
    version: str | None = "8",
    subject: str = "age",
    *,
    firing: bool = True,
    starts: int = 500,
    segment: str | None = None,
) -> Alert:
    return Alert(
        id="a", seq=1, incident="i", model="m", monitor="data", subject=subject, check="distribution", version=version,
        segment=segment, severity=Severity.WARNING, firing=firing, starts_at_ms=starts, at_ms=starts + 1,
    )  # fmt: skip


def judged(*alerts: Alert, now: int = 600, new: str | None = "8", since: int | None = 400):
    return judge(
        causes=[Cause.of(alert("7"))], old_version="7", succeeded_ms=300, new_version=new, new_since_ms=since, alerts=alerts,
        now_ms=now, settle_ms=1_000, adopt_ms=5_000,
    )  # fmt: skip


def test_it_did_not_help_when_its_cause_fires_in_the_new_version() -> None:
    verdict = judged(alert())
    assert (verdict.help, verdict.escalate) == (Help.DID_NOT_HELP, True)
    assert verdict.text == "Retraining did not help: age (data) fires in version 8 as well."
    assert judged(alert(None)).escalate
    assert judged(alert(), now=10**9).escalate


@pytest.mark.parametrize(
    "other",
    [alert("7"), alert("9"), alert(subject="zip"), alert(firing=False), alert(segment="EU"), alert(None, starts=399)],
)
def test_what_was_not_its_cause_says_nothing(other) -> None:
    assert judged(other).help is Help.TOO_EARLY
    assert judged(other, now=1_400).help is Help.HELPED


def test_that_it_helped_is_said_when_enough_time_has_passed() -> None:
    assert [judged(now=now).help for now in (1_399, 1_400)] == [Help.TOO_EARLY, Help.HELPED]
    assert not judged(now=1_400).escalate


@pytest.mark.parametrize(("new", "since"), [(None, None), ("8", None), (None, 400), ("7", 400)])
def test_a_version_that_nobody_uses_is_told_of(new, since) -> None:
    early, late = judged(alert("7"), now=5_299, new=new, since=since), judged(now=5_300, new=new, since=since)
    assert (early.help, early.escalate) == (Help.TOO_EARLY, False)
    assert (late.help, late.escalate) == (Help.NOT_USED, True)


def test_how_many_running_did_not_help() -> None:
    bad, good, open_, off = (
        (S.SUCCEEDED, Help.DID_NOT_HELP),
        (S.SUCCEEDED, Help.HELPED),
        (S.RUNNING, None),
        (S.CANCELLED, None),
    )
    failed, late = (S.FAILED, None), (S.TIMED_OUT, None)
    assert unhelpful_running([]) == 0
    assert unhelpful_running([bad, good]) == 0
    assert unhelpful_running([bad, good, bad, failed, late]) == 3
    assert unhelpful_running([good, bad, off, open_, (S.SUCCEEDED, None), (S.SUCCEEDED, Help.TOO_EARLY)]) == 1
