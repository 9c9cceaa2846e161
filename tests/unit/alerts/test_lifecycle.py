"""The fold: its table, and the laws that every history must keep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.lifecycle import (
    AlertState,
    Observation,
    Phase,
    Policy,
    Reason,
    Severity,
    Signal,
    Status,
    Subject,
    Transition,
    alert_id,
    decode_state,
    difference,
    encode_state,
    fingerprint,
    refold,
    step,
)

HOUR = 3_600_000
MARKS = {
    "-": (Signal.CLEAN, Severity.WARNING),
    "?": (Signal.UNKNOWN, Severity.WARNING),
    "w": (Signal.DRIFT, Severity.WARNING),
    "C": (Signal.DRIFT, Severity.CRITICAL),
}


def history(marks: str) -> list[Observation]:
    """One window an hour: - clean, ? unknown, w warning, C critical."""
    return [
        Observation(
            window_id=f"w{i}",
            start_ms=i * HOUR,
            end_ms=(i + 1) * HOUR,
            signal=MARKS[mark][0],
            severity=MARKS[mark][1],
            text=f"{mark}{i}",
        )
        for i, mark in enumerate(marks)
    ]


def told(transitions: Sequence[Transition]) -> list[tuple[str, str, str, int, int]]:
    return [
        (t.status.value, t.reason.value, t.severity.value, t.starts_at_ms // HOUR, t.at_ms // HOUR) for t in transitions
    ]


@pytest.mark.parametrize(
    ("marks", "policy", "phase", "reason", "wanted"),
    [
        ("", Policy(), "inactive", "nothing_seen", []),
        ("--", Policy(), "inactive", "quiet", []),
        ("-w", Policy(), "firing", "drifted", [("firing", "drifted", "warning", 1, 2)]),
        ("ww", Policy(), "firing", "still_drifting", [("firing", "drifted", "warning", 0, 1)]),
        ("w-", Policy(), "resolving", "settling", [("firing", "drifted", "warning", 0, 1)]),
        (
            "w--",
            Policy(),
            "resolved",
            "cleared",
            [("firing", "drifted", "warning", 0, 1), ("resolved", "cleared", "warning", 0, 3)],
        ),
        ("w-w-", Policy(), "resolving", "settling", [("firing", "drifted", "warning", 0, 1)]),
        ("w-w", Policy(), "firing", "came_back", [("firing", "drifted", "warning", 0, 1)]),
        ("w-?", Policy(), "resolving", "settling", [("firing", "drifted", "warning", 0, 1)]),
        (
            "wCw",
            Policy(),
            "firing",
            "still_drifting",
            [("firing", "drifted", "warning", 0, 1), ("firing", "escalated", "critical", 0, 2)],
        ),
        (
            "w-C",
            Policy(),
            "firing",
            "escalated",
            [("firing", "drifted", "warning", 0, 1), ("firing", "escalated", "critical", 0, 3)],
        ),
        ("ww", Policy(for_windows=3), "pending", "waiting", []),
        ("ww-", Policy(for_windows=3), "inactive", "short_lived", []),
        ("w-ww", Policy(for_windows=3), "pending", "waiting", []),
        ("w?ww", Policy(for_windows=3), "firing", "drifted", [("firing", "drifted", "warning", 0, 4)]),
        ("Cww", Policy(for_windows=3), "firing", "drifted", [("firing", "drifted", "critical", 0, 3)]),
        (
            "w-w",
            Policy(resolve_after=1),
            "firing",
            "drifted",
            [
                ("firing", "drifted", "warning", 0, 1),
                ("resolved", "cleared", "warning", 0, 2),
                ("firing", "drifted", "warning", 2, 3),
            ],
        ),
        (
            "C--w",  # a new episode has its own severity
            Policy(),
            "firing",
            "drifted",
            [
                ("firing", "drifted", "critical", 0, 1),
                ("resolved", "cleared", "critical", 0, 3),
                ("firing", "drifted", "warning", 3, 4),
            ],
        ),
        ("w---", Policy(), "resolved", "quiet", None),
    ],
)
def test_a_history_ends_where_the_table_says(marks, policy, phase, reason, wanted) -> None:
    state, transitions = refold(history(marks), policy)
    assert (state.phase, state.reason) == (phase, reason)
    if wanted is not None:
        assert told(transitions) == wanted


def test_an_episode_ends_with_its_last_drifting_window_not_with_the_clean_one_that_proves_it() -> None:
    _, transitions = refold(history("ww?--"), Policy())
    assert [t.ends_at_ms for t in transitions] == [None, 2 * HOUR]


def test_a_transition_carries_the_window_that_caused_it() -> None:
    _, transitions = refold(history("-w--"), Policy())
    assert [(t.window_id, t.text) for t in transitions] == [("w1", "w1"), ("w3", "-3")]


def test_zero_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Policy(for_windows=0)
    with pytest.raises(ValueError, match="at least 1"):
        Policy(resolve_after=0)


def test_a_revision_that_takes_the_drift_away_resolves_the_alert_as_corrected() -> None:
    _, before = refold(history("-w"), Policy())
    _, after = refold(history("--"), Policy())
    [correction] = difference(before, after)
    assert (correction.status, correction.reason, correction.corrected) == (Status.RESOLVED, Reason.CORRECTED, True)
    assert (correction.starts_at_ms, correction.ends_at_ms) == (HOUR, 2 * HOUR)
    assert correction.text == "Taken back after late data: w1"


def test_a_revision_that_shows_drift_raises_it_and_closes_it_when_it_is_over() -> None:
    _, before = refold(history("----"), Policy())
    _, after = refold(history("-C--"), Policy())
    corrections = difference(before, after)
    assert told(corrections) == [("firing", "drifted", "critical", 1, 2), ("resolved", "cleared", "critical", 1, 4)]
    assert all(t.corrected for t in corrections)


def test_an_alert_that_was_resolved_too_soon_fires_again_under_the_same_start() -> None:
    _, before = refold(history("w--"), Policy())
    _, after = refold(history("w-w"), Policy())
    assert told(difference(before, after)) == [("firing", "corrected", "warning", 0, 1)]


def test_a_changed_severity_of_a_firing_alert_is_told_in_both_directions() -> None:
    _, warning = refold(history("ww"), Policy())
    _, critical = refold(history("wC"), Policy())
    assert told(difference(warning, critical)) == [("firing", "corrected", "critical", 0, 2)]
    assert told(difference(critical, warning)) == [("firing", "corrected", "warning", 0, 1)]


def test_a_wrong_alert_that_has_resolved_by_itself_is_left_alone() -> None:
    _, before = refold(history("w--"), Policy())
    assert difference(before, []) == []


def test_an_earlier_start_closes_the_old_episode_before_it_opens_the_true_one() -> None:
    _, before = refold(history("-w"), Policy())
    _, after = refold(history("ww"), Policy())
    assert [(t.status.value, t.starts_at_ms) for t in difference(before, after)] == [("resolved", HOUR), ("firing", 0)]


histories = st.text(alphabet="-?wC", max_size=30).map(history)
policies = st.builds(Policy, for_windows=st.integers(1, 3), resolve_after=st.integers(1, 3))


@given(histories, policies, st.integers(0, 30))
def test_the_fold_of_a_prefix_and_then_of_the_rest_is_the_fold_of_all(windows, policy, cut) -> None:
    state, first = refold(windows[:cut], policy)
    state, rest = refold(windows[cut:], policy, decode_state(encode_state(state)))  # also across a restart
    assert (state, first + rest) == refold(windows, policy)


@given(histories, policies)
def test_refolding_an_unchanged_history_has_nothing_to_tell(windows, policy) -> None:
    _, transitions = refold(windows, policy)
    assert difference(transitions, transitions) == []


@given(histories, policies)
def test_firing_and_resolved_alternate_and_times_are_in_order(windows, policy) -> None:
    state, transitions = refold(windows, policy)
    changes = [t for t in transitions if t.reason is not Reason.ESCALATED]
    assert [t.status for t in changes] == [(Status.FIRING, Status.RESOLVED)[i % 2] for i in range(len(changes))]
    assert [t.at_ms for t in transitions] == sorted({t.at_ms for t in transitions})
    assert state.active == bool(changes and changes[-1].status is Status.FIRING)
    for t in transitions:
        assert t.starts_at_ms < t.at_ms
        assert (t.ends_at_ms is None) == (t.status is Status.FIRING)
        assert t.ends_at_ms is None or t.starts_at_ms < t.ends_at_ms < t.at_ms


@given(histories, policies)
def test_unknown_windows_change_nothing(windows, policy) -> None:
    known = [window for window in windows if window.signal is not Signal.UNKNOWN]
    assert refold(windows, policy) == refold(known, policy)


def active(transitions: Sequence[Transition]) -> dict[int, Severity]:
    last = {t.starts_at_ms: t for t in transitions}
    return {start: t.severity for start, t in last.items() if t.status is Status.FIRING}


@given(st.lists(st.text(alphabet="-?wC", min_size=12, max_size=12), min_size=2, max_size=4), policies)
def test_after_every_revision_people_believe_what_the_refold_says(versions, policy) -> None:
    emitted: list[Transition] = []
    for marks in versions:
        state, refolded = refold(history(marks), policy)
        corrections = difference(emitted, refolded)
        emitted += corrections
        assert active(emitted) == active(refolded)
        assert state.active == bool(active(emitted))
        assert {t.starts_at_ms for t in refolded} <= {t.starts_at_ms for t in emitted}
        assert difference(emitted, refolded) == []
        assert all(t.corrected for t in corrections)


@given(st.lists(st.text(alphabet="-wC", min_size=12, max_size=12), min_size=2, max_size=4))
def test_of_one_alert_firing_comes_first_and_resolved_never_twice_running(versions) -> None:
    emitted: list[Transition] = []
    for marks in versions:
        emitted += difference(emitted, refold(history(marks), Policy())[1])
    for start in {t.starts_at_ms for t in emitted}:
        statuses = [t.status for t in emitted if t.starts_at_ms == start]
        assert statuses[0] is Status.FIRING
        assert (Status.RESOLVED, Status.RESOLVED) not in pairwise(statuses)


def test_a_fingerprint_tells_every_field_apart_and_an_id_every_start() -> None:
    base = {"model": "m", "version": "1", "segment": None, "monitor": "data", "subject": "x", "check": "distribution"}
    prints = {fingerprint(Subject(**base))} | {fingerprint(Subject(**{**base, name: "other"})) for name in base}
    assert len(prints) == 1 + len(base)
    assert fingerprint(Subject(**{**base, "version": None})) != fingerprint(Subject(**{**base, "version": ""}))
    assert fingerprint(Subject(**{**base, "model": "m\x00", "version": "1"})) not in prints
    assert all(len(p) == 32 and int(p, 16) >= 0 for p in prints)
    # Stored in people's systems: it may never change.
    assert fingerprint(Subject(**base)) == "287a62dab91c436da935cde4a424dbaa"
    assert alert_id("f", 1) != alert_id("f", 2) != alert_id("g", 2)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format":2}', '{"format":1,"phase":"firing"}', '{"format":1,"x":1}']
)
def test_a_broken_state_is_a_value_error(text) -> None:
    with pytest.raises(ValueError):
        decode_state(text)


def test_a_step_from_a_state_without_an_episode_cannot_resolve() -> None:
    state, transition = step(AlertState(), history("-")[0], Policy(resolve_after=1))
    assert (state.phase, transition) == (Phase.INACTIVE, None)
