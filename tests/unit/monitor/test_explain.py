"""What an alert did to performance, and what came of retraining, as `explain` finds it in the store."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from detectors.finding import Finding, Severity, State
from monitor.explain import explanation
from monitor.results import encode_findings
from monitor.show_explanation import show_explanation
from monitor.store import Store, ToldRow
from parts.stores import HOUR, alert, request, window

WHY = {
    "source": "realised", "labelled": 900, "cause": "concept_change", "certainty": 0.99, "loss": "error rate", "loss_before": 0.1,
    "loss_after": 0.2, "rise": 0.1, "rise_low": 0.07, "rise_high": 0.13, "covariate": 0.01, "label": 0.0, "concept": 0.09, "axis": "score",
    "cause_1_feature": "region", "cause_1_kind": "rate", "cause_1_contribution": 0.08, "cause_1_q_value": 1e-9,
    "segment_1_values": "region = north", "segment_1_rows": 250, "segment_1_share_before": 0.25, "segment_1_share": 0.26,
    "segment_1_loss_before": 0.1, "segment_1_loss": 0.4, "segment_1_change": 0.3, "segment_1_contribution": 0.08,
}  # fmt: skip


def accuracy(value, state=State.DRIFT, check="realised", **detail):
    severity = Severity.CRITICAL if state is State.DRIFT else None
    return Finding(
        subject="accuracy", check=check, state=state, severity=severity, value=value, interval=(value - 0.02, value + 0.02), baseline=0.9,
        unit="share", rows=1_000, detail={"source": check, "labelled": 900, **detail},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path):
    opened = Store.open(f"sqlite:///{tmp_path}/s.db", durable=False)
    yield opened
    opened.close()


def filled(store, *windows, alerts=(), told=(), requests=()):
    with store.closing("churn") as tx:
        for row in windows:
            tx.put_window(row)
        for row in alerts:
            tx.put_alert(row)
        for row in requests:
            tx.put_retraining(row)
        tx.put_told(told)
    return store.alerts()[-1]


def judged(identity, start, *findings, monitor="performance", **more):
    return window(identity, start, monitor=monitor, findings=encode_findings(findings), **more)


def income(start):
    """A feature drifts from hour `start` on."""
    moved = Finding(
        subject="age",
        check="distribution",
        state=State.DRIFT,
        severity=Severity.WARNING,
        value=0.5,
        unit="sd",
        rows=1_000,
    )
    rows = [judged(f"d{hour}", hour, moved, monitor="data", state="drift") for hour in (start, start + 1)]
    return rows, alert(window=f"d{start}", starts_at_ms=start * HOUR, at_ms=(start + 1) * HOUR)


def test_a_loss_is_told_with_its_mix_and_rate_parts_and_the_values_it_falls_on(store):
    lost = alert(
        monitor="performance", subject="accuracy", check="realised", window="p5", starts_at_ms=5 * HOUR, at_ms=6 * HOUR
    )
    row = filled(store, judged("p5", 5, accuracy(0.8, **WHY), state="drift"), alerts=[lost])
    told = explanation(store, row, {})
    split = told["performance"]["split"]
    assert (split["rise"], split["covariate"], split["concept"]) == (0.1, 0.01, 0.09)
    assert [(one["feature"], one["kind"]) for one in split["features"]] == [("region", "rate")]
    assert [(one["values"], one["loss_before"], one["loss"]) for one in split["segments"]] == [
        ("region = north", 0.1, 0.4)
    ]
    out = StringIO()
    show_explanation(told, Console(file=out, width=200))
    assert "error rate +0.1 [+0.07, +0.13]: +0.01 by other rows (mix)" in out.getvalue()
    assert "region = north: +0.08, error rate 0.1 -> 0.4 on 26 % of rows (25 % before)" in out.getvalue()


def test_drift_of_an_input_is_held_against_the_labels_of_its_own_time(store):
    rows, moved = income(5)
    before, beside = judged("p1", 1, accuracy(0.7, **WHY)), judged("p6", 6, accuracy(0.89, State.OK))
    guessed = judged("p5", 5, accuracy(0.8, State.WARNING, "estimated"))
    told = explanation(store, filled(store, *rows, before, beside, guessed, alerts=[moved]), {})
    assert told["performance"]["window"]["id"] == "p6"  # labels before estimates, and nothing from before it began
    assert [one["value"] for one in told["performance"]["metrics"]] == [0.89]
    assert told["performance"]["split"] is None


def test_another_version_and_a_segment_say_nothing_of_it(store):
    rows, moved = income(5)
    others = [judged("p5", 5, accuracy(0.7), version="2"), judged("p6", 5, accuracy(0.7), segment='{"region":"EU"}')]
    told = explanation(store, filled(store, *rows, *others, alerts=[moved]), {})
    assert told["performance"] == {"window": None, "metrics": [], "split": None}


def test_of_an_alert_that_is_over_later_windows_are_shown_and_do_not_count(store):
    rows, moved = income(5)
    over = alert(
        window="d7", status="resolved", reason="cleared", starts_at_ms=5 * HOUR, at_ms=9 * HOUR, ends_at_ms=7 * HOUR
    )
    clean = Finding(subject="age", check="distribution", state=State.OK, value=0.0, unit="sd", rows=1_000)
    again = Finding(
        subject="age",
        check="distribution",
        state=State.DRIFT,
        severity=Severity.WARNING,
        value=2.0,
        unit="sd",
        rows=1_000,
    )
    later = [
        judged(f"d{hour}", hour, found, monitor="data")
        for hour, found in ((7, clean), (8, clean), (9, again), (40, again))
    ]
    told = explanation(store, filled(store, *rows, *later, alerts=[moved, over]), {})
    assert [one["id"] for one in told["windows"]] == ["d5", "d6", "d7", "d8"]
    assert told["finding"]["value"] == 0.5
    assert told["lasted_seconds"] == 2 * 3600
    assert told["action"] is None
    assert [(step["status"], step["reason"]) for step in told["history"]] == [("firing", "r"), ("resolved", "cleared")]


def test_a_refusal_and_a_request_are_told_with_their_reasons(store):
    rows, moved = income(5)
    refused = ToldRow(
        alert="a", receiver="retraining", outcome="cooldown", detail="The last one was 2 h ago.", at_ms=6 * HOUR
    )
    told = explanation(store, filled(store, *rows, alerts=[moved], told=[refused]), {})
    assert told["retraining"]["decision"] == {
        "reason": "cooldown",
        "text": "The last one was 2 h ago.",
        "at": "1970-01-01T06:00:00Z",
    }
    assert told["retraining"]["request"] is None
    assert told["told"] == []  # "retraining" is no receiver
    filled(store, requests=[request("q1", detail='{"alert": "a"}'), request("q2", detail='{"alert": "b"}')])
    asked = explanation(store, store.alerts()[-1], {})["retraining"]
    assert asked["request"]["id"] == "q1"
    assert [step["status"] for step in asked["steps"]] == ["requested"]
