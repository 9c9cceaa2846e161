"""The command line as a user meets it: processes, their output, their status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parts.world import hour_of_events, write_reference

ROOT = Path(__file__).parents[2]
CONFIG = """\
store: sqlite:///driftline.db
models:
  churn:
    task: unlabelled
    reference: {path: reference.parquet}
    window: {size: 1h, min_rows: 100}
"""
FILES = "sources:\n  history: {file: {paths: [events.jsonl]}}\n"
WINDOW_KEYS = [
    "type", "id", "model", "version", "monitor", "segment", "start", "end", "reference", "inherited", "state", "status", "revision", "rows",
    "digest", "findings",
]  # fmt: skip
FINDING_KEYS = [
    "subject", "check", "state", "severity", "value", "interval", "baseline", "threshold", "unit", "evidence", "rows", "smallest_visible",
    "since", "detail", "text",
]  # fmt: skip
ALERT_KEYS = [
    "type", "id", "fingerprint", "incident", "model", "version", "segment", "monitor", "subject", "severity", "status", "corrected", "at",
    "starts_at", "ends_at", "window", "reason", "text",
]  # fmt: skip


def driftline(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """From a folder of its own, so that nothing depends on where the repository lies."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
    command = [sys.executable, "-m", "monitor", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60)


def objects(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    done = driftline(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert line == json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False), "compact, one a line"
    return [json.loads(line) for line in done.stdout.splitlines()]


def make_world(folder: Path, config: str = CONFIG) -> Path:
    write_reference(folder / "reference.parquet", rows=1_500)
    (folder / "driftline.yaml").write_text(config)
    events = [value for hour in range(4) for value in hour_of_events(hour, shift=1.2 if hour == 1 else 0.0)]
    (folder / "events.jsonl").write_bytes(
        b"\n".join([*events, b"{broken", hour_of_events(0, 1, model="nobody")[0]]) + b"\n"
    )
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose events have been consumed by `run --until-caught-up`."""
    folder = make_world(tmp_path_factory.mktemp("ran"), CONFIG + FILES)
    done = driftline(folder, "run", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return make_world(tmp_path)


def refused(done: subprocess.CompletedProcess[str], *words: str, status: int = 2) -> None:
    assert done.returncode == status, (done.returncode, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]


# -- results for machines


def test_replay_prints_the_objects_of_the_contract_in_the_order_decided(world: Path, ran: Path) -> None:
    found = objects(world, "replay", "events.jsonl")
    windows, alerts = ([item for item in found if item["type"] == kind] for kind in ("window", "alert"))
    assert len(windows) + len(alerts) == len(found)
    assert all(list(window) == WINDOW_KEYS for window in windows)
    assert all(list(alert) == ALERT_KEYS for alert in alerts)
    findings = [finding for window in windows for finding in window["findings"]]
    assert findings
    assert all(list(finding) == FINDING_KEYS for finding in findings)
    assert [(alert["status"], alert["subject"], alert["starts_at"]) for alert in alerts] == [
        ("firing", "x", "2026-01-05T01:00:00Z"), ("resolved", "x", "2026-01-05T01:00:00Z"),
    ]  # fmt: skip
    ends = [window["end"] for window in windows]
    assert ends == sorted(ends)
    assert not (world / "driftline.db").exists(), "into a store of its own"
    live = {(w["monitor"], w["start"]): w["digest"] for w in objects(ran, "windows")}
    assert live == {(w["monitor"], w["start"]): w["digest"] for w in windows}


def test_windows(ran: Path) -> None:
    windows = objects(ran, "windows", "churn", "--monitor", "data")
    assert [(w["monitor"], w["rows"], w["state"]) for w in windows] == [
        ("data", 120, s) for s in ("ok", "drift", "ok", "ok")
    ]
    assert list(windows[0]) == WINDOW_KEYS
    assert len(objects(ran, "windows", "--monitor", "data", "--since", "2026-01-05T02:00:00Z")) == 2
    shown = driftline(ran, "windows").stdout
    assert "x has moved" in " ".join(shown.split())


def test_status(ran: Path) -> None:
    found = {item["type"]: item for item in objects(ran, "status")}
    assert found["model"]["model"] == "churn"
    assert found["partition"]["topic"].endswith("events.jsonl")
    assert (found["unconfigured"]["model"], found["unconfigured"]["records"]) == ("nobody", 1)
    assert "nobody" in driftline(ran, "status").stdout


def test_alerts(ran: Path) -> None:
    history = objects(ran, "alerts", "list", "--history")
    assert [item["status"] for item in history] == ["firing", "resolved"]
    assert [item["status"] for item in objects(ran, "alerts", "list")] == ["resolved"]
    assert list(history[0]) == ALERT_KEYS
    assert driftline(ran, "alerts", "list").returncode == 0


def test_quarantine(ran: Path) -> None:
    (bad,) = objects(ran, "quarantine", "list")
    assert list(bad) == ["type", "source", "topic", "partition", "offset", "reason", "recorded_at"]
    assert (bad["type"], bad["source"], bad["offset"], bad["reason"]) == ("quarantined", "history", 480, "bad_json")
    assert "bad_json" in driftline(ran, "quarantine", "list").stdout


def test_running_again_counts_nothing_twice(ran: Path) -> None:
    before = objects(ran, "windows")
    assert driftline(ran, "run", "--until-caught-up").returncode == 0
    assert objects(ran, "windows") == before


def test_references(world: Path) -> None:
    done = driftline(world, "reference", "build", "churn")
    assert done.returncode == 0, done.stderr
    assert "1,500 rows, 2 features" in done.stdout
    (listed,) = objects(world, "reference", "list")
    assert (listed["model"], listed["version"], listed["effective_from"]) == ("churn", None, None)
    (shown,) = objects(world, "reference", "show", listed["hash"][:10])
    assert shown["hash"] == listed["hash"]
    assert {subject["subject"] for subject in shown["subjects"]} == {"x", "c"}
    refused(driftline(world, "reference", "show", "ffff0000ffff"), "reference list")


def test_a_replay_into_a_store_can_be_repeated(world: Path) -> None:
    url = f"sqlite:///{world}/kept.db"
    first = objects(world, "replay", "events.jsonl", "--store", url)
    assert first
    assert objects(world, "replay", "events.jsonl", "--store", url) == []


def test_retraining_of_nobody(ran: Path) -> None:
    assert objects(ran, "retraining", "list") == []
    refused(driftline(ran, "retraining", "approve", "abc"), "abc", "retraining list")


# -- bad input


def test_check_reports_every_error_at_once_with_status_1(world: Path) -> None:
    (world / "driftline.yaml").write_text(CONFIG.replace("window:", "windw:").replace("unlabelled", "sorting"))
    done = driftline(world, "check")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("driftline.yaml:") for line in lines)
    assert any("window" in line and ":6:" in line for line in lines)
    (world / "driftline.yaml").write_text(CONFIG)
    good = driftline(world, "check")
    assert (good.returncode, good.stderr) == (0, "")


def test_a_missing_configuration(tmp_path: Path) -> None:
    refused(driftline(tmp_path, "status"), "driftline.yaml")
    refused(driftline(tmp_path, "run", "-c", "nowhere.yaml"), "nowhere.yaml")


def test_a_missing_reference_file(world: Path) -> None:
    (world / "reference.parquet").unlink()
    refused(driftline(world, "replay", "events.jsonl"), "reference.parquet")


def test_a_changed_reference_file(ran: Path, tmp_path: Path) -> None:
    make_world(tmp_path, CONFIG + FILES)
    assert driftline(tmp_path, "run", "--until-caught-up").returncode == 0
    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=9)
    refused(driftline(tmp_path, "run", "--until-caught-up"), "reference.parquet", "driftline reference build churn")


def test_a_missing_event_file(world: Path) -> None:
    refused(driftline(world, "replay", "nowhere.jsonl"), "nowhere.jsonl")


def test_a_broken_event_file(world: Path) -> None:
    (world / "events.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    done = driftline(world, "replay", "events.jsonl.gz")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "events.jsonl.gz" in done.stderr.strip().splitlines()[-1]


def test_an_unknown_model(world: Path) -> None:
    refused(driftline(world, "reference", "build", "chrun"), "chrun", "churn")
    refused(driftline(world, "replay", "reference.parquet", "--model", "chrun"), "chrun")


def test_a_source_that_is_missing(world: Path) -> None:
    refused(driftline(world, "run"), "sources")
    (world / "driftline.yaml").write_text(CONFIG + FILES.replace("events", "nowhere"))
    refused(driftline(world, "run", "--until-caught-up"), "nowhere.jsonl")


def test_an_unknown_role(world: Path) -> None:
    refused(driftline(world, "run", "--role", "ingest,clsoe"), "clsoe", "close")


def test_a_store_that_is_not_there(world: Path) -> None:
    refused(driftline(world, "windows"), "driftline.db")


def test_a_read_only_database(ran: Path, tmp_path: Path) -> None:
    """Root may write anything, so the file system says no: the database is a directory, or lies in one that is a file."""
    make_world(tmp_path, CONFIG.replace("driftline.db", "folder/driftline.db") + FILES)
    (tmp_path / "folder").write_text("a file")
    refused(driftline(tmp_path, "run", "--until-caught-up"), "folder/driftline.db")
    (tmp_path / "folder").unlink()
    (tmp_path / "folder" / "driftline.db").mkdir(parents=True)
    refused(driftline(tmp_path, "run", "--until-caught-up"), "folder/driftline.db")
    if os.geteuid():
        (tmp_path / "folder" / "driftline.db").rmdir()
        (tmp_path / "folder").chmod(0o500)
        refused(driftline(tmp_path, "run", "--until-caught-up"), "folder/driftline.db")


def test_an_unreachable_postgresql(world: Path) -> None:
    config = CONFIG.replace(
        "sqlite:///driftline.db", "postgresql+psycopg://nobody:hidden-word@127.0.0.1:9/none?connect_timeout=3"
    )
    (world / "driftline.yaml").write_text(config)
    done = driftline(world, "status")
    refused(done, "127.0.0.1")
    assert "hidden-word" not in done.stderr


def test_an_unreachable_broker(world: Path) -> None:
    kafka = "sources:\n  live: {kafka: {bootstrap_servers: ['127.0.0.1:9'], topics: {ml.predictions: canonical}}}\n"
    (world / "driftline.yaml").write_text(CONFIG + kafka)
    done = driftline(world, "run", "--until-caught-up")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:9" in done.stderr.strip().splitlines()[-1]


def test_the_broken_pipe_of_a_reader_that_left(ran: Path) -> None:
    command = f"{sys.executable} -m monitor windows --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ran,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


# -- retraining

ASKED = """\
    retraining: {mode: propose, target: jobs}
retraining_targets:
  jobs: {http: {url: "http://127.0.0.1:9/jobs", body: {id: "{{ request.id }}", about: "{{ alert.subject }}"}}}
"""


def test_a_retraining_is_looked_at_paused_resumed_approved_and_cancelled(tmp_path: Path) -> None:
    make_world(tmp_path, CONFIG + "    page_max_age: 9000d\n" + ASKED + FILES)
    run = driftline(tmp_path, "run", "--role", "ingest,close", "--until-caught-up")
    assert run.returncode == 0, run.stderr
    (listed,) = objects(tmp_path, "retraining", "list")
    assert (listed["model"], listed["status"]) == ("churn", "requested")
    name = listed["id"][:8]
    (shown,) = objects(tmp_path, "retraining", "show", name)
    assert (shown["id"], shown["mode"], shown["target"]) == (listed["id"], "propose", "jobs")
    assert [step["status"] for step in shown["steps"]] == ["requested"]

    def act(*words: str, status: int = 0) -> str:
        done = driftline(tmp_path, "retraining", *words, "--who", "ada")
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    assert driftline(tmp_path, "retraining", "pause").returncode == 2, "it says why"
    assert "all models" in act("pause", "--why", "audit")
    assert "paused" in driftline(tmp_path, "retraining", "list").stdout
    assert "Retraining is paused" in act("approve", name, status=2)
    assert "resumed" in act("resume")
    assert "goes to jobs" in act("approve", name)
    assert "is cancelled" in act("cancel", name, "--why", "too late")
    assert "unknown" in act("cancel", "none-such", status=2)
    (shown,) = objects(tmp_path, "retraining", "show", name)
    assert (shown["status"], shown["approved_by"]) == ("cancelled", "ada")
    assert shown["steps"][-1]["told"] == "cancelled by ada: too late"
    assert objects(tmp_path, "retraining", "list", "--refused") == []
    assert objects(tmp_path, "retraining", "list", "other") == []
