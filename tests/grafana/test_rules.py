"""Rules held to promtool, and every alert to its runbook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.parts.broker import REPOSITORY
from tests.parts.observability import GRAFANA, hurried, rules

ALERTS = [rule for rule in rules() if "alert" in rule]
RUNBOOKS = REPOSITORY / "docs/runbooks"
SECTIONS = ["What it means", "Is it serious?", "Look", "Do", "It ends"]


def promtool(*words: object) -> str:
    found = shutil.which("promtool")
    if found is None:
        reason = "no promtool on the PATH (Debian: prometheus)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    done = subprocess.run([found, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_every_rule():
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", *sorted((GRAFANA / "rules").glob("*.yaml")))


def test_rules_fire_and_stay_quiet_as_they_should():
    promtool("test", "rules", *sorted((GRAFANA / "rules/tests").glob("*.yaml")))


def test_every_alert_is_in_a_rule_test():
    told = "".join(path.read_text() for path in (GRAFANA / "rules/tests").glob("*.yaml"))
    assert [rule["alert"] for rule in ALERTS if rule["alert"] not in told] == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_why_and_where_to_read_on(rule: dict[str, Any]):
    name, notes = rule["alert"], rule["annotations"]
    assert re.fullmatch(r"Driftline([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
    assert notes["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
    assert {"summary", "description"} <= notes.keys()
    uid = re.search(r"/d/driftline-(\w+)", notes.get("dashboard_url", ""))
    assert uid is None or (GRAFANA / f"dashboards/{uid[1]}.json").exists()


def test_every_alert_has_a_runbook_and_no_runbook_is_left_over():
    names = {rule["alert"] for rule in ALERTS}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names | {"README"}
    listed = set(re.findall(r"\(([A-Z]\w+)\.md\)", (RUNBOOKS / "README.md").read_text()))
    assert listed == names


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_a_runbook_answers_the_five_questions(name: str):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    boards = {path.stem for path in (GRAFANA / "dashboards").glob("*.json")}
    words = {"Fleet", "Model", "Feature", "Performance and labels", "Alerts and retraining", "Pipeline"}
    assert set(re.findall(r"\*Driftline / ([\w ]+)\*", text)) <= words
    assert len(boards) == len(words)


def test_the_watchdog_always_fires():
    watchdog = next(rule for rule in ALERTS if rule["alert"] == "DriftlineWatchdog")
    assert (watchdog["expr"], watchdog["labels"]["severity"], "for" in watchdog) == ("vector(1)", "none", False)


def test_the_manifest_holds_the_same_rules():
    manifest = yaml.safe_load((GRAFANA / "kubernetes/prometheusrule.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    held = [rule for group in manifest["spec"]["groups"] for rule in group["rules"]]
    assert held == rules()


def test_hurried_rules_are_the_same_but_for_their_times():
    text = "for: 5m\nexpr: rate(x[1d]) > 3 offset 1h\nkeep_firing_for: 10m"
    assert hurried(text, 100) == "for: 4s\nexpr: rate(x[864s]) > 3 offset 36s\nkeep_firing_for: 6s"
