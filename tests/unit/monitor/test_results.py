from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.finding import Finding, Severity, State
from monitor.results import (
    alert_object,
    decode_findings,
    encode_findings,
    quarantined_object,
    retraining_object,
    rfc3339,
    window_object,
)
from monitor.store.records import AlertRow, QuarantineRow, RetrainingRow, WindowRow

FULL = Finding(
    subject="income", check="distribution", state=State.DRIFT, severity=Severity.WARNING, value=0.31, interval=(0.25, 0.37),
    baseline=0.0, threshold=0.1414, unit="sd", p_value=1e-9, q_value=5e-8, rows=5000, smallest_visible=0.12, since_ms=1_795_000_000_000,
    detail={"psi": 0.097, "js": 0.1, "wasserstein": None, "groups": 10, "reason": "größer"},
)  # fmt: skip
BARE = Finding(subject="x", check="missing", state=State.NO_DATA)


def test_findings_come_back_as_they_were():
    for findings in ([], [BARE], [FULL], [FULL, BARE], [BARE, FULL, BARE]):
        back = decode_findings(encode_findings(findings))
        assert back == findings
        assert [type(f.state) for f in back] == [State] * len(findings)
    detail = decode_findings(encode_findings([FULL, BARE]))[0].detail
    assert list(detail) == list(FULL.detail)
    assert type(detail["groups"]) is int
    assert type(decode_findings(encode_findings([FULL]))[0].baseline) is float


def test_floats_keep_six_digits_however_small():
    finding = Finding(
        subject="x", check="c", state=State.OK, value=1.23456789, p_value=1.23456789e-300, baseline=-1.23456789e300
    )
    back = decode_findings(encode_findings([finding]))[0]
    assert (back.value, back.p_value, back.baseline) == (1.23457, 1.23457e-300, -1.23457e300)


def test_what_is_no_number_is_unknown():
    finding = Finding(subject="x", check="c", state=State.OK, value=math.nan, baseline=math.inf, detail={"a": math.nan})
    back = decode_findings(encode_findings([finding]))[0]
    assert (back.value, back.baseline, back.detail) == (None, None, {"a": None})


@pytest.mark.parametrize(
    "spoil", [lambda b: b"DLF2" + b[4:], lambda b: b[:-3], lambda b: b[:8] + b"\0\0" + b[10:], lambda b: b""]
)
def test_damage_is_refused(spoil):
    with pytest.raises(ValueError, match="findings"):
        decode_findings(spoil(encode_findings([FULL])))


def test_a_hundred_features_take_six_kilobytes():
    rng = np.random.default_rng(1)

    def noise():
        return float(rng.random()) / 10

    data = [
        Finding(
            subject=f"feature_{i}", check="distribution", state=State.OK, value=noise(), interval=(noise(), noise()), baseline=0.0,
            threshold=0.02**0.5, unit="sd", p_value=noise(), q_value=1.0, rows=1000, smallest_visible=noise(),
            detail={"psi": noise(), "js": noise(), "ks": noise(), "wasserstein": noise(), "groups": 10, "phi": noise(), "mean": noise(), "reference_mean": noise()},
        )
        for i in range(100)
    ]  # fmt: skip
    quality = [
        Finding(
            subject=f"feature_{i}", check=check, state=State.OK, value=0.0, interval=(0.0, 0.00382676), baseline=0.0, threshold=0.005,
            unit="share", p_value=1.0, q_value=1.0, rows=1000, smallest_visible=0.0231234,
        )
        for i in range(100)
        for check in ("missing", "absent", "invalid", "out_of_range")
    ]  # fmt: skip
    sizes = len(encode_findings(data)), len(encode_findings(quality))
    print(sizes)
    assert sum(sizes) <= 6_400


def window(**change):
    values = {
        "id": "w1", "model": "churn", "version": "", "monitor": "data", "start_ms": 1_795_564_800_000, "end_ms": 1_795_568_400_000,
        "state": "drift", "status": "final", "revision": 1, "rows": 5000, "digest": "d", "reference": "r", "inherited": False,
        "findings": encode_findings([FULL]), "marks": "{}", "recorded_at_ms": 1,
    }  # fmt: skip
    return WindowRow(**(values | change))


def test_window_objects_have_all_keys_in_their_order():
    found = window_object(window())
    assert list(found) == [
        "type", "id", "model", "version", "monitor", "segment", "start", "end", "reference", "inherited", "state", "status",
        "revision", "rows", "digest", "findings",
    ]  # fmt: skip
    assert (found["type"], found["version"], found["segment"], found["start"]) == (
        "window",
        None,
        None,
        "2026-11-25T00:00:00Z",
    )
    finding = found["findings"][0]
    assert list(finding) == [
        "subject", "check", "state", "severity", "value", "interval", "baseline", "threshold", "unit", "evidence", "rows",
        "smallest_visible", "since", "detail", "text",
    ]  # fmt: skip
    assert finding["interval"] == [0.25, 0.37]
    assert finding["evidence"] == {"p_value": 1e-9, "q_value": 5e-8}
    assert finding["text"].startswith("income has moved by 0.31 sd")
    assert window_object(window(version="7", segment='{"region":"EU"}', findings=b""))["segment"] == {"region": "EU"}


def test_alert_objects_have_all_keys_in_their_order():
    row = AlertRow(
        id="a", fingerprint="f", incident="i", model="churn", version="7", monitor="data", subject="income", check="distribution",
        severity="warning", status="firing", corrected=False, at_ms=1000, starts_at_ms=0, ends_at_ms=None, window="w", reason="r",
        text="t", recorded_at_ms=5,
    )  # fmt: skip
    found = alert_object(row)
    assert list(found) == [
        "type", "id", "fingerprint", "incident", "model", "version", "segment", "monitor", "subject", "severity", "status",
        "corrected", "at", "starts_at", "ends_at", "window", "reason", "text",
    ]  # fmt: skip
    assert (found["at"], found["starts_at"], found["ends_at"]) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:00Z", None)


def test_retraining_and_quarantined_objects():
    row = RetrainingRow(
        id="r",
        model="churn",
        version="",
        target="airflow",
        status="requested",
        mode="auto",
        reason="why",
        at_ms=0,
        recorded_at_ms=1,
        detail="{}",
    )
    expected = {
        "type": "retraining",
        "id": "r",
        "model": "churn",
        "status": "requested",
        "at": "1970-01-01T00:00:00Z",
        "reason": "why",
    }
    assert retraining_object(row) == expected
    assert list(retraining_object(row)) == list(expected)
    poison = QuarantineRow(
        source="live", topic="t", partition=0, offset=17, reason="bad_json", detail="d", recorded_at_ms=1500
    )
    found = quarantined_object(poison)
    assert list(found) == ["type", "source", "topic", "partition", "offset", "reason", "recorded_at"]
    assert found["recorded_at"] == "1970-01-01T00:00:01.500Z"


def test_times_have_milliseconds_only_where_there_are_some():
    assert rfc3339(1_795_564_800_120) == "2026-11-25T00:00:00.120Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"
