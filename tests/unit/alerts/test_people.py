"""What people do to alerts: acknowledge, judge, close; and the record that their verdicts make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from alerts.lifecycle import (
    CLOSING,
    Acknowledgement,
    AlertState,
    Observation,
    Phase,
    Policy,
    Reason,
    Severity,
    Signal,
    Status,
    Subject,
    Verdict,
    close,
    decode_state,
    difference,
    encode_state,
    in_hand,
    is_fresh,
    is_superseded,
    refold,
    step,
)
from alerts.record import QUARTER_MS, Page, poisson_interval, record, records

SEEN = Acknowledgement(alert="a", who="ada", at_ms=5, severity=Severity.WARNING, verdict=Verdict.REAL, comment="c")
SUBJECT = Subject(model="m", version="7", segment=None, monitor="data", subject="x", check="distribution")


def windows(marks: str) -> list[Observation]:
    signals = {"w": Signal.DRIFT, "-": Signal.CLEAN, "?": Signal.UNKNOWN}
    return [
        Observation(window_id=f"w{i}", start_ms=i * 10, end_ms=i * 10 + 10, signal=signals[mark], text=f"t{i}")
        for i, mark in enumerate(marks)
    ]


def after(marks: str, policy: Policy | None = None) -> AlertState:
    return refold(windows(marks), policy or Policy())[0]


def test_what_somebody_has_seen_is_in_hand_until_it_is_worse() -> None:
    assert in_hand(SEEN, Severity.WARNING)
    assert not in_hand(SEEN, Severity.CRITICAL)
    assert in_hand(replace(SEEN, severity=Severity.CRITICAL), Severity.WARNING)
    assert in_hand(replace(SEEN, severity=Severity.CRITICAL), Severity.CRITICAL)
    assert not in_hand(None, Severity.WARNING)


def test_an_acknowledgement_has_a_name() -> None:
    with pytest.raises(ValueError, match="whom"):
        replace(SEEN, who=" ")


@pytest.mark.parametrize("reason", sorted(CLOSING))
@pytest.mark.parametrize(("marks", "ends"), [("-ww", 30), ("-w-", 20)])
def test_closing_ends_an_episode_at_once_and_says_why(marks, ends, reason) -> None:
    state, told = close(after(marks), reason, at_ms=99, window_id="w9", text="Version 8 took over.")
    assert (state.phase, state.reason, state.active) == (Phase.RESOLVED, reason, False)
    assert told is not None
    assert (told.status, told.reason, told.at_ms, told.starts_at_ms) == (Status.RESOLVED, reason, 99, 10)
    assert (told.ends_at_ms, told.window_id, told.text, told.corrected) == (ends, "w9", "Version 8 took over.", False)
    assert decode_state(encode_state(state)) == state


def test_closing_what_nobody_was_told_of_tells_nobody() -> None:
    pending = after("w", Policy(for_windows=2))
    assert close(pending, Reason.NEW_VERSION, at_ms=9, window_id="", text="") == (
        AlertState(reason=Reason.NEW_VERSION),
        None,
    )
    for marks in ("", "-", "w--"):
        state = after(marks)
        assert close(state, Reason.NEW_VERSION, at_ms=9, window_id="", text="") == (state, None)


def test_windows_and_revisions_do_not_close_by_hand() -> None:
    for reason in set(Reason) - CLOSING:
        with pytest.raises(ValueError, match="no reason"):
            close(after("w"), reason, at_ms=9, window_id="", text="")


def test_after_a_closed_episode_the_next_drift_is_a_new_one() -> None:
    state, _ = close(after("ww"), Reason.NEW_REFERENCE, at_ms=20, window_id="", text="")
    state, told = step(state, windows("--w")[2], Policy())
    assert told is not None
    assert (told.reason, told.starts_at_ms) == (Reason.DRIFTED, 20)


def test_windows_are_counted_anew_in_each_phase() -> None:
    patient = Policy(for_windows=3, resolve_after=2)
    assert (after("www--w", patient).phase, after("www--w", patient).run) == (Phase.PENDING, 1)
    assert after("www--ww", patient).phase is Phase.PENDING
    assert [after(marks).run for marks in ("w-", "w-w", "w-ww", "w-w-")] == [1, 0, 0, 1]


def test_a_revision_does_not_undo_a_close() -> None:
    _, emitted = refold(windows("-ww"), Policy())
    _, told = close(after("-ww"), Reason.EXPECTED, at_ms=30, window_id="w2", text="")
    assert told is not None
    assert difference([*emitted, told], emitted) == []
    assert difference([*emitted, told], []) == []
    undone = [*emitted, replace(told, reason=Reason.CLEARED)]
    assert [t.status for t in difference(undone, emitted)] == [Status.FIRING], "what had only cleared fires again"


def test_alerts_of_another_version_end_when_one_takes_over() -> None:
    assert is_superseded(SUBJECT, "8")
    assert not is_superseded(SUBJECT, "7")
    assert not is_superseded(replace(SUBJECT, version=None), "8")


def test_fresh_up_to_page_max_age_and_that_included() -> None:
    assert [is_fresh(0, now, 10) for now in (0, 10, 11)] == [True, True, False]


# -- the record


def page(name: str, verdict: Verdict | None = None, *, model: str = "m", at: int = 0) -> Page:
    return Page(incident=name, model=model, at_ms=at, verdict=verdict)


def test_the_record_of_a_model() -> None:
    pages = [
        page("a", Verdict.REAL), page("b", Verdict.REAL), page("c", Verdict.EXPECTED), page("d", Verdict.FALSE), page("e"),
        page("z", Verdict.FALSE, model="n"),
    ]  # fmt: skip
    found = record("m", pages, watched_ms=int(QUARTER_MS * 2), promised=1.0)
    assert (found.pages, found.judged, found.real, found.expected, found.false) == (5, 4, 2, 1, 1)
    assert found.share_real == 0.75
    assert found.false_per_quarter == pytest.approx(1 * 5 / 4 / 2)
    assert found.low == pytest.approx(chi2.ppf(0.025, 2) / 2 * 5 / 8)
    assert found.high == pytest.approx(chi2.ppf(0.975, 4) / 2 * 5 / 8)
    assert found.kept is True


def test_an_incident_is_one_page_and_its_last_verdict_counts() -> None:
    pages = [page("a", Verdict.FALSE, at=2), page("a", Verdict.REAL, at=3), page("a", at=1)]
    found = record("m", pages, watched_ms=1, promised=None)
    assert (found.pages, found.real, found.false, found.kept) == (1, 1, 0, None)


def test_what_cannot_be_known_is_not_said() -> None:
    nothing = record("m", [page("a")], watched_ms=int(QUARTER_MS), promised=1.0)
    assert (nothing.pages, nothing.share_real, nothing.false_per_quarter, nothing.low, nothing.kept) == (
        1,
        None,
        None,
        None,
        None,
    )
    assert record("m", [page("a", Verdict.FALSE)], watched_ms=0, promised=1.0).false_per_quarter is None


def test_a_promise_is_broken_only_when_bad_luck_does_not_explain_it() -> None:
    def kept(false: int) -> bool | None:
        pages = [page(str(i), Verdict.FALSE) for i in range(false)]
        return record("m", pages, watched_ms=int(QUARTER_MS), promised=1.0).kept

    assert [kept(false) for false in (1, 3, 4, 9)] == [True, True, False, False]


def test_every_watched_model_has_a_record() -> None:
    found = records([page("a", Verdict.REAL)], watched_ms={"n": 5, "m": 5}, promised={"m": 1.0})
    assert {name: (r.pages, r.promised) for name, r in found.items()} == {"m": (1, 1.0), "n": (0, None)}


@settings(deadline=None)
@given(st.integers(0, 120))
def test_the_interval_is_the_exact_one(count) -> None:
    low, high = poisson_interval(count)
    assert low == pytest.approx(chi2.ppf(0.025, 2 * count) / 2 if count else 0, rel=1e-6)
    assert high == pytest.approx(chi2.ppf(0.975, 2 * count + 2) / 2, rel=1e-6)
    with pytest.raises(ValueError):
        poisson_interval(-1)
