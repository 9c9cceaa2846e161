from __future__ import annotations

from detectors.finding import Finding, Severity, State
from detectors.judge import sentence

SHIFT = {
    "subject": "income", "check": "distribution", "value": 0.31, "interval": (0.25, 0.37), "baseline": 0.0, "threshold": 0.1414,
    "unit": "sd", "p_value": 1e-9, "q_value": 5e-8, "rows": 5000, "smallest_visible": 0.2,
}  # fmt: skip


def test_drift_says_what_moved_from_what_to_what_by_how_much_and_how_sure_it_is():
    detail = {"mean": 51_234.0, "reference_mean": 43_210.5}
    text = sentence(Finding(state=State.DRIFT, severity=Severity.WARNING, detail=detail, **SHIFT))
    assert text == (
        "income has moved by 0.31 sd (95 % interval 0.25 to 0.37), its mean from 43,210 to 51,234 (q = 5e-08, 5,000 rows)."
    )


def test_a_category_is_named():
    detail = {"category": "DE", "share": 0.31, "reference_share": 0.5}
    text = sentence(Finding(state=State.DRIFT, severity=Severity.WARNING, detail=detail, **SHIFT))
    assert "DE from 50 % to 31 %" in text


def test_a_warning_says_why_it_is_no_drift():
    text = sentence(Finding(state=State.WARNING, detail={"reason": "the order is unknown"}, **SHIFT))
    assert text.endswith("A warning only: the order is unknown.")


def test_ok_says_what_would_have_been_seen():
    assert "0.2 sd would have been seen" in sentence(Finding(state=State.OK, **SHIFT))


def test_a_share_is_told_in_percent_with_the_reference():
    finding = Finding(
        subject="age", check="missing", state=State.DRIFT, severity=Severity.CRITICAL, value=0.25, interval=(0.22, 0.28),
        baseline=0.001, threshold=0.01, unit="share", p_value=0.0, q_value=0.0, rows=1000,
    )  # fmt: skip
    assert sentence(finding) == (
        "age is missing in 25 % of 1,000 rows, 95 % interval 22 % to 28 %, against 0.1 % in the reference (q below 1e-12)."
    )


def test_silence():
    finding = Finding(
        subject="rows",
        check="silence",
        state=State.DRIFT,
        severity=Severity.CRITICAL,
        value=0.0,
        baseline=1200.4,
        p_value=1e-20,
    )
    assert sentence(finding) == "Not one row came, 1,200 are usual (p below 1e-12)."


def test_states_without_a_judgement_give_their_reason():
    finding = Finding(
        subject="x", check="distribution", state=State.INSUFFICIENT_DATA, detail={"reason": "3 rows, 200 are needed"}
    )
    assert sentence(finding) == "x (distribution): too little data: 3 rows, 200 are needed."
    assert sentence(Finding(subject="x", check="distribution", state=State.ERROR)) == "x (distribution): error."


def test_a_check_of_another_detector_still_reads():
    text = sentence(Finding(subject="joint", check="covariance", state=State.DRIFT, value=0.4, unit="nats", rows=10))
    assert text == "joint (covariance): drift, 0.4 nats, 10 rows."


def test_all_but_one_in_a_million_is_not_called_all():
    finding = Finding(subject="x", check="missing", state=State.OK, value=0.999999, baseline=1.0, rows=10**6)
    assert "over 99.9 %" in sentence(finding)
