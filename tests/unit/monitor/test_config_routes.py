"""Routes, time intervals, limits and false alarms in the configuration: what they give, and every mistake with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alerts.grouping import Timing
from alerts.routing import GROUP_BY
from alerts.storm import Limit
from alerts.time_windows import covering
from monitor.config import load_config, parse_config
from monitor.errors import UserError
from monitor.schema_json import config_schema

BASE = "models: {m: {}}\nreceivers: {r: {log: {}}, hook: {webhook: {url: 'http://h/', secret: {env: A}}}}\n"
PAGER = "models: {m: {}}\nreceivers: {r: {pagerduty: {routing_key: {env: A}}%s}}"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text):
        Path("driftline.yaml").write_text(text)
        return load_config("driftline.yaml")

    return load


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


def test_a_route_that_says_nothing_more_than_its_receiver_leaves_the_rest_to_the_kind_of_receiver(load) -> None:
    [route] = load(BASE + "routes: [{receiver: r}]").routes
    assert (route.goes_on, route.group_by, route.digest, route.matchers) == (False, GROUP_BY, False, ())
    assert route.timing_over(Timing()) is None


def test_the_whole_of_a_route_is_read(load) -> None:
    text = """\
routes:
  - match: {severity: critical}
    matchers: 'model=~"churn.*", team!=risk'
    receiver: r
    continue: true
    group_by: [model, monitor]
    group_wait: 0s
    group_interval: 10m
    repeat_interval: off
    mute_time_intervals: [night]
    active_time_intervals: [office]
  - {matchers: [model=churn, 'text=a, b'], receiver: hook, group_by: ['...'], repeat_interval: 4h}
  - {receiver: r, digest: true}
time_intervals:
  night: ["22:00-24:00", "00:00-06:00"]
  office: {times: [Mon-Fri 09:00-17:00], location: Europe/Berlin}
  freeze: 2026-12-24..2027-01-01
"""
    config = load(BASE + text)
    first, second, third = config.routes
    assert [str(matcher) for matcher in first.matchers] == ['model=~"churn.*"', 'team!="risk"']
    assert (first.goes_on, first.group_by) == (True, ("model", "monitor"))
    assert first.timing_over(Timing(repeat_ms=5)) == Timing(wait_ms=0, interval_ms=600_000, repeat_ms=None)
    assert [str(matcher) for matcher in second.matchers] == ['model="churn"', 'text="a, b"']
    assert second.timing_over(Timing()) == Timing(repeat_ms=4 * 3_600_000)
    assert third.digest
    office = config.windows_of(["office"])
    assert covering(office, ms(2026, 7, 1, 7, 30)) is not None  # 09:30 in Berlin in summer
    assert covering(office, ms(2026, 7, 1, 15, 30)) is None
    both = config.windows_of(["night", "freeze"])
    assert [str(window) for window in both] == ["22:00-24:00", "00:00-06:00", "2026-12-24..2027-01-01"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("routes: [{receiver: nobody}]", "3:21: routes.0.receiver: unknown receiver nobody"),
        ("routes: [{receiver: r, matchers: 'a=~b('}]", "3:34: routes.0.matchers: 'b(' is no regular expression"),
        ("routes: [{receiver: r, matchers: [a=b, x]}]", "3:40: routes.0.matchers.1: 'x' is no matcher (write label=value"),
        ("routes: [{receiver: r, matchers: [a=b, 3]}]", "3:40: routes.0.matchers.1: should be text (write it in quotes)"),
        ("routes: [{receiver: r, matchers: 3}]", "3:34: routes.0.matchers: should be a list"),
        ("routes: [{receiver: r, group_by: [a b]}]", "3:35: routes.0.group_by.0: has characters that are not allowed"),
        ("routes: [{receiver: r, group_wait: 5}]", "3:36: routes.0.group_wait: is not a duration"),
        ("routes: [{receiver: r, group_interval: 0s}]", "3:40: routes.0.group_interval: should be longer than zero"),
        ("routes: [{receiver: r, repeat_interval: 0s}]", "routes.0.repeat_interval: should be longer than zero (write off"),
        ("routes: [{receiver: r, digest: true, group_wait: 1s}]", "3:10: routes.0: a digest goes out once a day (leave out"),
        (
            "routes: [{receiver: r, mute_time_intervals: [nigt]}]\ntime_intervals: {night: 22:00-24:00}",
            "3:46: routes.0.mute_time_intervals.0: unknown time interval nigt (did you mean night?)",
        ),
        ("routes: [{receiver: r, active_time_intervals: [x]}]", "unknown time interval x (add it under time_intervals)"),
        ("time_intervals: {a: Mon-Fry}", "3:21: time_intervals.a.times.0: 'mon-fry' is no day of the week (mon, tue"),
        ("time_intervals: {a: [mon, 25:00-26:00]}", "3:27: time_intervals.a.times.1: hours must end after they start"),
        ("time_intervals: {a: []}", "time_intervals.a.times: should not be empty"),
        ("time_intervals: {a: {times: [mon], location: Mars}}", "3:46: time_intervals.a.location: is no time zone that"),
        ("time_intervals: {a: {times: [mon], location: ../x}}", "3:46: time_intervals.a.location: is no time zone that"),
        ("false_alarms: {pages_per_quarter: 0}", "3:35: false_alarms.pages_per_quarter: should be greater than 0"),
        ("false_alarms: {rotation_pages_per_week: -1}", "false_alarms.rotation_pages_per_week: should be greater than 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(load, text, told) -> None:
    with pytest.raises(UserError) as caught:
        load(BASE + text)
    [line] = str(caught.value).splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("stated", "limit"),
    [
        ("", Limit()),
        (", limit: {messages: 3, per: 30m}", Limit(messages=3, per_ms=1_800_000)),
        (", limit: off", None),
        (", limit: false", None),
    ],
)
def test_pagerduty_has_a_limit_unless_it_is_switched_off(load, stated, limit) -> None:
    assert load(PAGER % stated).limits == ({} if limit is None else {"r": limit})


def test_another_receiver_of_people_has_a_limit_where_it_is_stated(load) -> None:
    text = "models: {m: {}}\nreceivers: {a: {slack: {url: {env: A}}, limit: {}}, b: {slack: {url: {env: A}}}}"
    assert load(text).limits == {"a": Limit()}


@pytest.mark.parametrize(
    ("receiver", "told"),
    [
        ("log: {}, limit: {}", "receivers.r: limit is for receivers that wake people"),
        ("slack: {url: {env: A}}, limit: {messages: 0}", "receivers.r.limit.messages: should be greater than or equal to 1"),
        ("slack: {url: {env: A}}, limit: {per: 1m}", "receivers.r.limit: settle should be shorter than per"),
        ("slack: {url: {env: A}}, limit: on", "receivers.r.limit: should be a mapping"),
        ("limit: off", "receivers.r: should hold exactly one of:"),
    ],
)  # fmt: skip
def test_a_wrong_limit_is_told(load, receiver, told) -> None:
    with pytest.raises(UserError) as caught:
        load(f"models: {{m: {{}}}}\nreceivers: {{r: {{{receiver}}}}}")
    assert told in str(caught.value)


def test_a_model_has_the_fleet_s_promise_unless_it_states_its_own(load) -> None:
    text = "models: {a: {false_alarms: {pages_per_quarter: 4}}, b: {}}\nfalse_alarms: {rotation_pages_per_week: 2}"
    config = load(text)
    assert config.models["a"].false_alarms.pages_per_quarter == 4
    assert config.models["b"].false_alarms is None
    assert (config.false_alarms.pages_per_quarter, config.false_alarms.rotation_pages_per_week) == (1, 2)


@pytest.mark.parametrize("label", ["segment", "check", "incident"])
def test_a_label_that_alerts_have_themselves_is_refused(load, label) -> None:
    with pytest.raises(UserError, match=f"{label}: set by Driftline itself"):
        load(f"models: {{m: {{labels: {{{label}: x}}}}}}")


def test_the_schema_knows_the_short_forms() -> None:
    definitions = json.loads(config_schema())
    route = definitions["$defs"]["Route"]["properties"]
    assert {"continue", "group_wait", "repeat_interval", "mute_time_intervals", "matchers"} <= route.keys()
    interval = next(iter(definitions["properties"]["time_intervals"]["patternProperties"].values()))["anyOf"]
    assert {entry.get("type") for entry in interval} == {"string", "array", None}
    limit = definitions["$defs"]["ReceiverEntry"]["properties"]["limit"]["anyOf"]
    assert {"enum": ["off", False]} in limit


def test_a_program_s_configuration_is_read_alike(tmp_path) -> None:
    config = parse_config(
        {
            "models": {"m": {}}, "receivers": {"r": {"log": {}}}, "time_intervals": {"a": ["Mon"]},
            "routes": [{"receiver": "r", "matchers": ["model=m"], "mute_time_intervals": ["a"]}],
        },
        tmp_path,
    )  # fmt: skip
    assert config.routes[0].matchers[0].value == "m"
