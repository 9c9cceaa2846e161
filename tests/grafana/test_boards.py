"""Boards held to rules: generated, complete, nothing that a user could not read, no query for a metric that does not exist."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafana.board.__main__ import generated
from grafana.board.frame import TAG
from monitor.metric_families import CONTRACT
from monitor.telemetry import Kind, Metric
from tests.parts.broker import REPOSITORY
from tests.parts.observability import GRAFANA, panels, rules

Json = Any
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
METRICS: dict[str, Metric] = {f"driftline_{metric.name}": metric for group in CONTRACT.values() for metric in group}
OF_OTHERS = {"up", "ALERTS", "process_resident_memory_bytes", "process_cpu_seconds_total"}
# On no board and in no rule, but in the tests of the exposition: for those who ask Prometheus themselves.
UNDRAWN: set[str] = set()
board = pytest.mark.parametrize("name", BOARDS)


def drawn(name: str) -> list[Json]:
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def queries(name: str) -> Iterator[tuple[str, str]]:
    """(where, expression) of every query: panels, annotations, variables."""
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in BOARDS[name].get("annotations", {}).get("list", []):
        yield annotation["name"], annotation["expr"]
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            yield f"${variable['name']}", variable["query"]["query"].removeprefix("label_values(").removesuffix(")")


def named(expr: str) -> set[str]:
    """Metrics in an expression, also those that a pattern of names stands for."""
    found = set(re.findall(r"\b(?:driftline|process)_\w+|\b(?:up|ALERTS)\b(?=[{\s])|\bmodel\w*:[\w:]+", expr))
    for pattern in re.findall(r'__name__=~"([^"]+)"', expr):
        found -= set(re.findall(r"\w+", pattern))
        found |= {name for name in METRICS if re.fullmatch(pattern, name)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


@pytest.mark.parametrize("place", generated(), ids=str)
def test_what_is_generated_is_up_to_date(place: str):
    assert (REPOSITORY / place).read_text() == generated()[place], "run `make generate`"


def test_no_board_is_left_over():
    made = {place for place in generated() if place.startswith("grafana/dashboards/")}
    assert made == {f"grafana/dashboards/{name}.json" for name in BOARDS}
    assert len({found["uid"] for found in BOARDS.values()}) == len(BOARDS)


@board
def test_every_query_asks_for_a_metric_of_the_contract(name: str):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for where, expr in queries(name):
        asked = named(expr)
        assert asked, where
        assert asked <= METRICS.keys() | OF_OTHERS | recorded, where


def test_every_rule_asks_for_a_metric_of_the_contract():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = set().union(*(named(rule["expr"]) for rule in rules()))
    assert asked <= METRICS.keys() | OF_OTHERS | recorded
    assert recorded <= asked | {"model:driftline_severity:max"}  # the latter is for federation


def test_every_metric_of_the_contract_is_drawn_or_alerted_on():
    asked = set().union(*(named(expr) for name in BOARDS for _, expr in queries(name)))
    asked = asked.union(*(named(rule["expr"]) for rule in rules()))
    assert METRICS.keys() - asked == UNDRAWN


@board
def test_labels_of_a_query_are_those_of_its_metric(name: str):
    for where, expr in queries(name):
        for metric, selector in re.findall(r"(driftline_\w+)\{([^{}]*)\}", expr):
            known = METRICS[re.sub(r"_(bucket|sum|count)$", "", metric)]
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= {*known.labels, "le"}, (where, metric)


@board
def test_counters_are_drawn_as_rates_and_rates_fit_the_scrape(name: str):
    totals = {metric for metric, declared in METRICS.items() if declared.kind is Kind.COUNTER}
    state = {
        "driftline_alert_episodes_total",
        "driftline_concept_drift_detections_total",
    }  # of the store: they stand for what is there
    for where, expr in queries(name):
        for counter in named(expr) & (totals - state):
            assert re.search(r"\b(rate|increase)\(" + counter, expr), where
        for window in re.findall(r"\b(?:rate|increase|changes)\([^\[]*\[([^\]]+)\]", expr):
            assert window in ("$__rate_interval", "$__range", "5m", "1m"), where


@board
def test_every_panel_says_what_it_is(name: str):
    for panel in drawn(name):
        assert panel["title"], panel
        assert panel["description"].endswith((".", "?")), panel["title"]
        if panel["type"] == "text":
            continue
        assert panel["fieldConfig"]["defaults"].get("unit"), panel["title"]
        assert panel["type"] not in ("gauge", "graph"), panel["title"]


@board
def test_every_query_uses_the_chosen_data_source(name: str):
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(BOARDS[name]):
        assert panel["datasource"] == chosen, panel["title"]
        assert all(target["datasource"] == chosen for target in panel["targets"]), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)), panel["title"]
    variables = BOARDS[name]["templating"]["list"]
    assert variables[0]["type"] == "datasource"
    asked = [variable for variable in variables if variable["type"] == "query"]
    assert all(variable["datasource"] == chosen and variable["refresh"] == 2 for variable in asked)
    assert all(found["datasource"] == chosen for found in BOARDS[name].get("annotations", {}).get("list", []))


@board
def test_panels_do_not_overlap_and_have_numbers_of_their_own(name: str):
    found = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    places = [panel["gridPos"] for panel in found]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)


@board
def test_variables_of_a_board_are_used_and_those_used_exist(name: str):
    text = json.dumps({key: value for key, value in BOARDS[name].items() if key != "templating"})
    chained = json.dumps([variable.get("query") for variable in BOARDS[name]["templating"]["list"]])
    known = {variable["name"] for variable in BOARDS[name]["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", text + chained))
    assert known - {"driftline"} <= used
    assert {word for word in used if not word.startswith("__")} <= known


@board
def test_links_lead_to_boards_that_exist_and_keep_time_and_choice(name: str):
    uids = {found["uid"] for found in BOARDS.values()}
    text = json.dumps(BOARDS[name])
    for uid, rest in re.findall(r'"/d/([\w-]+)\?([^"]*)"', text):
        assert uid in uids
        assert "${__url_time_range}" in rest
        assert "${datasource:queryparam}" in rest
    shared = [link for link in BOARDS[name]["links"] if link["type"] == "dashboards"]
    assert [(link["tags"], link["keepTime"], link["includeVars"]) for link in shared] == [([TAG], True, True)]


def test_the_fleet_is_readable_with_five_hundred_models():
    """A table pages; of anything with a line or a bar a model there are only so many."""
    for panel in panels(BOARDS["fleet"]):
        for target in panel["targets"]:
            by_model = "{{model}}" in target.get("legendFormat", "")
            assert not by_model or "topk(" in target["expr"], panel["title"]
    pages = [panel for panel in drawn("fleet") if panel["type"] == "table"]
    assert all(panel["options"]["footer"]["enablePagination"] for panel in pages)


def test_provisioning_names_folders_that_are_there(tmp_path: Path):
    import yaml

    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/driftline.yaml").read_text())["providers"]
    assert [source["type"] for source in sources] == ["prometheus"]
    assert [provider["options"]["path"] for provider in providers] == ["$DRIFTLINE_DASHBOARDS"]
