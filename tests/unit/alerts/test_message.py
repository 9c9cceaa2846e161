"""What people read: order, wording, and that nothing in a name can break it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.message import (
    DEFAULT_TEXT,
    DEFAULT_TITLE,
    FIELDS,
    Wording,
    check_link,
    check_template,
    clip,
    compose,
    what_lines,
)


def alert(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "type": "alert", "id": "a1", "fingerprint": "f1", "incident": "i1", "model": "fraud", "version": "12", "segment": None,
        "monitor": "data", "subject": "amount", "severity": "warning", "status": "firing", "corrected": False,
        "at": "2026-11-23T10:00:00.000Z", "starts_at": "2026-11-23T08:00:00.000Z", "ends_at": None, "window": "w1", "reason": "drifted",
        "text": "amount has moved by 0.41 sd [0.35, 0.47], its mean from 41 to 63 (p < 1e-9, 5,000 rows).",
    }  # fmt: skip
    return base | changes


def body(*alerts: dict[str, object], status: Status = Status.FIRING, text: str | None = None) -> bytes:
    return render_incident(incident="i1", status=status, timestamp_ms=0, alerts=alerts, text=text)


AUC = alert(
    monitor="performance", subject="roc_auc", severity="critical", text="roc_auc fell from 0.910 to 0.840 [0.82, 0.86]."
)
NULLS = alert(
    monitor="quality",
    subject="income",
    text="income is missing in 30 % of 5,000 rows.",
    starts_at="2026-11-21T09:30:00.000Z",
)


def test_the_default_text_says_everything_in_the_order_on_call_people_need() -> None:
    wording = Wording(
        links={"runbook": "https://wiki.example/$model?s=$subject", "page": "https://drift.example/a/$alert"}
    )
    message = compose(body(alert(), AUC, NULLS), wording)
    assert message.title.startswith("[CRITICAL] fraud 12: income is missing in 30 % of 5,000 rows.; also ")
    assert message.text == (
        "income is missing in 30 % of 5,000 rows. (quality, warning)\n"
        "amount has moved by 0.41 sd [0.35, 0.47], its mean from 41 to 63 (p < 1e-9, 5,000 rows). (data, warning)\n"
        "roc_auc fell from 0.910 to 0.840 [0.82, 0.86]. (performance, critical)\n"
        "\n"
        "Since: 2026-11-21 09:30 UTC, for 2 d\n"
        "Performance: roc_auc fell from 0.910 to 0.840 [0.82, 0.86]. (performance, critical)\n"
        "Likely cause: a data fault upstream of the model: income\n"
        "What to do: Mend the data first; drift of the same inputs follows from it. Do not retrain on faulty data.\n"
        "\n"
        "runbook: https://wiki.example/fraud?s=income\n"
        "page: https://drift.example/a/a1"
    )
    assert (message.firing, message.critical, message.custom) == (True, True, False)
    assert message.begun_ms == 1_795_253_400_000
    assert [label for label, _ in message.facts] == ["Since", "Performance", "Likely cause", "What to do"]


def test_the_end_gives_neither_cause_nor_advice() -> None:
    over = alert(status="resolved", ends_at="2026-11-23T09:45:00.000Z", at="2026-11-23T12:00:00.000Z")
    message = compose(body(over, status=Status.RESOLVED))
    assert message.title.startswith("[RESOLVED] fraud 12")
    assert message.text.startswith("Over: amount has moved")
    assert "Since: 2026-11-23 08:00 UTC, for 1 h 45 min" in message.text
    assert "cause" not in message.text
    assert not message.firing


def test_one_that_is_over_does_not_make_critical_what_is_left() -> None:
    message = compose(body(AUC | {"status": "resolved"}, alert()))
    assert not message.critical


def test_a_summary_of_the_caller_s_is_the_title() -> None:
    assert compose(body(alert(), text="200 models lack income")).title == "200 models lack income"


def test_of_a_summary_of_many_lines_the_first_is_the_title() -> None:
    message = compose(body(alert(), text="income is gone\nscore (data): moved"), Wording(text="$summary"))
    assert (message.title, message.text) == ("income is gone", "income is gone\nscore (data): moved")


def test_a_segment_is_named() -> None:
    assert what_lines([alert(segment={"region": "EU"}, text="moved")]) == ["moved (data, warning) [region=EU]"]


def test_what_is_too_much_is_counted() -> None:
    lines = what_lines([alert(subject=f"f{i}") for i in range(40)])
    assert len(lines) == 6
    assert lines[-1] == "and 35 more"
    assert compose(body(*(alert(subject=f"f{i}") for i in range(40)))).text.count("f0, f1, f10 and 37 more") == 1


@pytest.mark.parametrize(
    "monitor", ["quality", "volume", "data", "joint", "prediction", "performance", "concept", "retraining", "new"]
)
def test_every_monitor_has_a_cause_and_advice(monitor) -> None:
    facts = dict(compose(body(alert(monitor=monitor))).facts)
    assert "amount" in facts["Likely cause"]
    assert facts["What to do"].endswith(".")
    assert facts["Likely cause"].startswith("not clear") == (monitor == "new")


def test_templates_of_the_user_replace_title_and_text() -> None:
    wording = Wording(title="$severity $model", text="$$5 lost\n$performance\nversion $version\n$links\ncause: $cause")
    message = compose(body(alert(version=None), status=Status.RESOLVED), wording)
    assert message.title == "warning fraud"
    assert message.text == "$5 lost\nno alert about it comes with this message"
    assert message.custom


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("$modell", "unknown placeholder $modell (known: $title, "),
        ("100 $", "write $$"),
        ("${model", "write $$"),
        ("$a-b", "unknown placeholder $a "),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_with_what_to_mend(text, told) -> None:
    with pytest.raises(ValueError) as caught:
        check_template(text)
    assert told in str(caught.value)


def test_the_default_templates_and_every_field_pass_the_check() -> None:
    for text in (DEFAULT_TEXT, DEFAULT_TITLE, " ".join(f"${name}" for name in FIELDS)):
        assert check_template(text) == text


@pytest.mark.parametrize(
    "url", ["ftp://x/", "x", "https://$model.example/", "https:///a", "https://x/$user", "https://x/a b"]
)
def test_a_link_with_a_host_from_data_or_an_unknown_placeholder_is_refused(url) -> None:
    with pytest.raises(ValueError):
        check_link(url)


def test_values_in_links_cannot_be_more_than_values() -> None:
    wording = Wording(links={"page": "https://d.example/$model?from=$start_ms&to=$end_ms"})
    [(_, url)] = compose(body(alert(model="../a?b=c&d#e ü")), wording).links
    assert url == "https://d.example/..%2Fa%3Fb%3Dc%26d%23e%20%C3%BC?from=1795420800000&to=1795428000000"


TEXT = st.text(st.characters(), max_size=40)


@given(model=TEXT, subject=TEXT, text=TEXT, segment=TEXT)
def test_whatever_names_hold_the_title_is_one_line_and_all_can_be_encoded(model, subject, text, segment) -> None:
    message = compose(body(alert(model=model, subject=subject, text=text, segment={segment: segment})))
    assert "\n" not in message.title
    for part in (message.title, message.text, message.model, *(f for fact in message.facts for f in fact)):
        part.encode("utf-8")
        assert not [c for c in part if c in "\x00\x07\x1b\r\u2028"]


def test_a_body_of_another_kind_has_a_title_at_least() -> None:
    told = compose(
        json.dumps(
            {"type": "driftline.retraining", "timestamp": "t", "data": {"id": "r", "model": "m", "status": "requested"}}
        ).encode()
    )
    assert (told.title, told.model, told.incident, told.alerts, told.facts) == (
        "driftline.retraining",
        "m",
        "r",
        (),
        (),
    )


def test_a_clipped_text_says_so() -> None:
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcd", 4) == "abcd"
