"""One incident for what several models have in common, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert import Alert
from alerts.incident import NO_EFFECT_KNOWN, lines, models_of, shared
from alerts.lifecycle import Severity


def fault(
    model: str,
    subject: str = "age",
    *,
    monitor: str = "quality",
    start: int = 0,
    end: int = 10,
    check: str = "missing",
    seq: int = 0,
) -> Alert:
    return Alert(
        id=f"{model}/{monitor}/{subject}", seq=seq, incident=model, model=model, monitor=monitor, subject=subject, check=check,
        severity=Severity.WARNING, firing=True, starts_at_ms=start, at_ms=end,
    )  # fmt: skip


def test_models_with_the_same_fault_in_the_same_window_are_one_incident() -> None:
    assert shared([fault("a"), fault("b"), fault("c", start=5, end=15)], {}, ()) == {"b": "a", "c": "a"}


@pytest.mark.parametrize(
    "other",
    [
        fault("b", "zip"),
        fault("b", check="range"),
        fault("b", monitor="data"),
        fault("b", monitor="volume"),
        fault("b", start=10, end=20),  # the next window
        fault("a"),
    ],
)
def test_what_differs_in_feature_fault_or_window_is_not(other) -> None:
    assert shared([fault("a"), other], {}, ()) == {}


def test_the_oldest_gives_the_name_unless_people_know_another() -> None:
    assert shared([fault("b", start=3), fault("a", start=5)], {}, ()) == {"a": "b"}
    assert shared([fault("b", start=3), fault("a", start=5)], {}, {"a"}) == {"b": "a"}
    assert shared([fault("a"), fault("b")], {}, {"a", "b"}) == {}


def test_links_stay_as_they_are_and_lead_to_where_they_led() -> None:
    links = shared([fault("a"), fault("b", seq=1)], {}, ())
    assert shared([fault("b", seq=1), fault("c", seq=2)], links, ()) == {"b": "a", "c": "a"}
    assert shared([], links, ()) == links


faults = st.lists(
    st.builds(
        fault,
        st.sampled_from("abcde"),
        st.sampled_from(["age", "zip"]),
        start=st.integers(0, 9),
        end=st.integers(10, 19),
    ),
    max_size=10,
    unique_by=lambda alert: alert.id,
)


@settings(deadline=None)
@given(faults, st.sets(st.sampled_from("abcde")), st.permutations(range(10)))
def test_nothing_leads_in_circles_and_what_is_known_keeps_its_name(alerts, told, order) -> None:
    links = shared(alerts, {}, told)
    assert not set(links) & told
    assert not set(links) & set(links.values()), "every link leads to where it ends"
    shuffled = [alerts[i] for i in order if i < len(alerts)]
    assert set(shared(shuffled, links, told).items()) >= set(links.items())


def said(model: str = "fraud", monitor: str = "quality", subject: str = "age", **changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "model": model, "version": "12", "monitor": monitor, "subject": subject, "severity": "warning", "status": "firing",
        "text": f"{subject} moved.",
    }  # fmt: skip
    return plain | changes


def test_the_first_line_is_the_cause_and_the_effect_then_three_features() -> None:
    alerts = [
        said(monitor="performance", subject="accuracy", text="accuracy fell from 0.91 to 0.84.", severity="critical"),
        *(said(monitor="data", subject=f"f{i}") for i in range(4)),
        said(text="age is missing in 30 % of rows."),
    ]
    wanted = [
        "[CRITICAL] fraud 12: age is missing in 30 % of rows; accuracy fell from 0.91 to 0.84.",
        "age (quality): age is missing in 30 % of rows.",
        "f0 (data): f0 moved.",
        "f1 (data): f1 moved.",
        "and 2 more features",
    ]
    assert lines(alerts) == wanted
    assert lines(alerts[::-1]) == wanted
    assert lines(alerts, impact={"f3": -0.5, "f2": 0.4})[1:4] == [
        "f3 (data): f3 moved.",
        "f2 (data): f2 moved.",
        wanted[1],
    ]
    assert lines(alerts, effect="AUC is estimated at 0.8")[0].endswith("; AUC is estimated at 0.8")


def test_without_labels_that_is_said_too() -> None:
    assert lines([said()])[0] == f"[WARNING] fraud 12: age moved; {NO_EFFECT_KNOWN}"
    assert lines([said(monitor="performance", subject="accuracy")]) == ["[WARNING] fraud 12: accuracy moved"]


def test_several_models_are_named() -> None:
    alerts = [said(model=f"m{i}") for i in range(5)]
    assert lines(alerts)[0].startswith("[WARNING] 5 models (m0, m1, m2 and 2 more): age moved")
    assert lines(alerts[:2])[0].startswith("[WARNING] 2 models (m0, m1): ")
    assert models_of(alerts) == ["m0", "m1", "m2", "m3", "m4"]


def test_what_is_over_is_not_shown_while_something_fires() -> None:
    alerts = [said(status="resolved", severity="critical"), said(monitor="data", subject="zip")]
    assert lines(alerts) == [f"[WARNING] fraud 12: zip moved; {NO_EFFECT_KNOWN}", "zip (data): zip moved."]
    assert lines(alerts[:1])[0].startswith("[RESOLVED] fraud 12: age moved")
    with pytest.raises(ValueError):
        lines([])


def test_every_line_is_one_line() -> None:
    assert all("\n" not in line for line in lines([said(model="a\nb", subject="x\ny", text="t\r\nu")]))
