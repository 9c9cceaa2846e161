from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert import Alert
from alerts.inhibition import RULES, Rule, inhibited
from alerts.lifecycle import Severity
from alerts.matching import fit, parse_matchers


def alert(monitor: str, subject: str = "age", *, firing: bool = True, starts: int = 0, **labels: str) -> Alert:
    model = labels.pop("model", "m")
    own = {"model": model, "monitor": monitor, "subject": subject, **labels}
    name = "/".join([model, monitor, subject, *labels.values()])
    return Alert(
        id=name, seq=0, incident="i", model=model, monitor=monitor, subject=subject, severity=Severity.WARNING,
        firing=firing, starts_at_ms=starts, at_ms=starts + 1, labels=own,
    )  # fmt: skip


def muted(*alerts: Alert) -> dict[str, str]:
    return {name: found.by for name, found in inhibited(alerts).items()}


def test_a_data_fault_inhibits_drift_of_the_same_feature_and_of_no_other() -> None:
    fault, same, other = alert("quality"), alert("data"), alert("data", "zip")
    assert muted(fault, same, other) == {same.id: fault.id}
    assert inhibited([fault, same])[same.id].text == "a data fault explains drift of the same feature: age (quality)"
    assert muted(alert("quality", model="n"), same) == {}
    assert muted(replace(fault, firing=False), same) == {}


def test_an_end_is_never_inhibited() -> None:
    assert muted(alert("quality"), alert("data", firing=False)) == {}


def test_missing_traffic_inhibits_drift_of_the_model() -> None:
    rows = alert("volume", "rows")
    drifts = [alert("data"), alert("joint", "inputs"), alert("prediction", "score")]
    assert muted(rows, *drifts) == {drift.id: rows.id for drift in drifts}
    assert muted(rows, alert("performance", "accuracy"), alert("quality")) == {}


def test_what_drifts_as_a_whole_inhibits_single_features_and_not_their_faults() -> None:
    for monitor in ("joint", "prediction", "performance", "concept"):
        whole, feature = alert(monitor, "x"), alert("data")
        assert muted(whole, feature, alert("quality", "zip")) == {feature.id: whole.id}


def test_what_holds_for_one_segment_or_version_explains_nothing_beyond_it() -> None:
    everywhere, here = alert("quality"), alert("quality", segment="region=EU")
    drift, drift_here = alert("data"), alert("data", segment="region=EU")
    assert muted(here, drift) == {}
    assert muted(here, drift_here) == {drift_here.id: here.id}
    assert muted(everywhere, drift_here) == {drift_here.id: everywhere.id}
    assert muted(alert("quality", segment="region=US"), drift_here) == {}
    assert muted(alert("quality", version="7"), alert("data", version="8")) == {}


def test_a_narrow_source_does_not_hide_a_wide_one() -> None:
    narrow, wide, drift = alert("quality", segment="region=US", starts=0), alert("quality", starts=5), alert("data")
    assert muted(narrow, wide, drift) == {drift.id: wide.id}


def test_the_oldest_source_and_the_first_rule_are_named() -> None:
    old, new, drift = alert("joint", "x", starts=1), alert("prediction", "y", starts=2), alert("data")
    assert muted(new, old, drift) == {drift.id: old.id}
    assert muted(new, old, alert("quality", starts=9), drift) == {drift.id: alert("quality").id}


def test_two_of_a_kind_do_not_mute_each_other() -> None:
    rule = Rule(name="r", source=parse_matchers("a=~.+"), target=parse_matchers("a=~.+"))
    both = [replace(alert("data"), id=name, labels={"a": name}) for name in "xy"]
    assert inhibited(both, [rule]) == {}


alerts = st.lists(
    st.builds(
        alert,
        st.sampled_from(["quality", "volume", "data", "joint", "performance"]),
        st.sampled_from(["age", "zip"]),
        firing=st.booleans(),
        starts=st.integers(0, 3),
        model=st.sampled_from(["m", "n"]),
        segment=st.sampled_from(["", "s"]),
    ),
    max_size=12,
    unique_by=lambda alert: alert.id,
)


@settings(deadline=None)
@given(alerts)
def test_the_index_finds_what_comparing_all_pairs_finds(alerts) -> None:
    def explains(rule: Rule, source: Alert, target: Alert) -> bool:
        same = all(source.labels[n] == target.labels[n] for n in rule.equal)
        wide = all(source.labels.get(n, "") in ("", target.labels.get(n, "")) for n in rule.wider)
        return fit(rule.source, source.labels) and fit(rule.target, target.labels) and same and wide

    firing = [a for a in alerts if a.firing]
    wanted = {
        t.id for t in firing for rule in RULES if any(explains(rule, s, t) for s in firing) and not fit(rule.source, t.labels)
    }  # fmt: skip
    assert set(inhibited(alerts)) == wanted
    assert all(
        not any(found.by == name for name in wanted) or found.by in wanted for found in inhibited(alerts).values()
    )
