from __future__ import annotations

import json

import pytest

from alerts.envelope import envelope, rfc3339
from alerts.incident import incident_id, render_incident, summary
from alerts.lifecycle import Status


def alert(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "type": "alert",
        "id": "a",
        "model": "fraud",
        "version": "12",
        "monitor": "data",
        "subject": "amount",
        "severity": "warning",
        "status": "firing",
        "text": "amount moved by 0.4 sd.",
    }
    return base | changes


def test_an_alert_joins_the_incident_that_is_open_and_else_begins_one() -> None:
    assert incident_id("m", "a1", ["older", "newer"]) == "older"
    assert incident_id("m", "a1", []) == incident_id("m", "a1", [])
    assert len({incident_id("m", "a1", []), incident_id("m", "a2", []), incident_id("n", "a1", [])}) == 3


def test_the_likely_cause_comes_first_and_the_rest_is_named_up_to_three() -> None:
    alerts = [
        alert(subject="score", monitor="prediction"),
        alert(),
        alert(subject="rows", monitor="volume", text="No rows came.", severity="critical"),
        alert(subject="age", monitor="quality", text="age is missing in 30 % of rows."),
        alert(subject="zip"),
    ]
    wanted = "[CRITICAL] fraud 12: age is missing in 30 % of rows.; also rows (volume), amount (data) and 2 more"
    assert summary(alerts) == wanted
    assert summary(alerts[::-1]) == wanted


def test_what_fires_comes_before_what_resolved() -> None:
    alerts = [alert(subject="age", monitor="quality", status="resolved"), alert()]
    assert summary(alerts).startswith("[WARNING] fraud 12: amount moved")
    assert summary(alerts[:1]).startswith("[RESOLVED] fraud")


def test_a_summary_is_one_line_whatever_the_names_hold() -> None:
    line = summary([alert(model="a\nb", version=None, text="x\r\n\ty")])
    assert line == "[WARNING] a b: x y"


def test_no_alerts_no_summary() -> None:
    with pytest.raises(ValueError):
        summary([])


def test_the_body_is_these_exact_bytes() -> None:
    body = render_incident(
        incident="i", status=Status.FIRING, timestamp_ms=1_764_000_000_120, alerts=[{"id": "a", "v": None}], text="é"
    )
    assert body == (
        b'{"type":"driftline.incident","timestamp":"2025-11-24T16:00:00.120Z","data":'
        b'{"incident":"i","status":"firing","summary":"\\u00e9","alerts":[{"id":"a","v":null}]}}'
    )
    assert json.loads(body)["data"]["summary"] == "é"


def test_the_body_has_a_summary_of_its_own() -> None:
    body = json.loads(render_incident(incident="i", status=Status.FIRING, timestamp_ms=0, alerts=[alert()]))
    assert body["data"]["summary"] == summary([alert()])
    assert body["data"]["alerts"] == [alert()]


def test_no_text_can_fail_to_encode_but_nan_is_refused() -> None:
    assert json.loads(envelope("t", 0, {"x": "\ud800 \u2028"}))["data"]["x"] == "\ud800 \u2028"
    with pytest.raises(ValueError):
        envelope("t", 0, {"x": float("nan")})


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_764_000_000_999, "2025-11-24T16:00:00.999Z"),
    ],
)
def test_times_keep_their_milliseconds(time_ms, text) -> None:
    assert rfc3339(time_ms) == text
