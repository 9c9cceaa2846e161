"""What people do about alerts, through the command line: acknowledge, judge, adopt a new normal, and silence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.cli import app
from monitor.config import load_config
from monitor.errors import UserError
from monitor.store import Store
from parts.receiver import Receiver, answering, receiving
from parts.world import hour_of_events, write_reference

ROOT = Path(__file__).parents[2]
CONFIG = """\
store: sqlite:///driftline.db
models:
  churn:
    task: unlabelled
    reference: {path: reference.parquet}
    window: {size: 1h, min_rows: 100}
    page_max_age: 40000d
    labels: {team: growth}
  quiet:
    task: unlabelled
    reference: {path: reference.parquet}
    window: {size: 1h, min_rows: 100}
    page_max_age: 40000d
sources:
  history: {file: {paths: [events*.jsonl]}}
receivers:
  team: {slack: {url: {env: SLACK_URL}}}
"""
SILENCE_KEYS = ["type", "id", "matchers", "starts_at", "ends_at", "who", "why", "state"]


def process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {"SLACK_URL": "http://127.0.0.1:9/", **os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "monitor", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)


def run(folder: Path) -> None:
    done = process(folder, "run", "--until-caught-up")
    assert done.returncode == 0, done.stderr


def ok(folder: Path, *arguments: str) -> str:
    """What a command of the program prints; the program is in this process, so that a test takes no minute."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(folder: Path, *arguments: str) -> str:
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def objects(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ok(folder, *arguments, "--json").splitlines()]


def write_events(folder: Path, name: str, hours: range, shift: float, model: str = "churn") -> None:
    events = [value for hour in hours for value in hour_of_events(hour, shift=shift, model=model)]
    (folder / name).write_bytes(b"\n".join(events) + b"\n")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good hours and two that drift; the alert still fires, and nobody could be told yet."""
    folder = tmp_path_factory.mktemp("judged")
    write_reference(folder / "reference.parquet", rows=1_500)
    (folder / "driftline.yaml").write_text(CONFIG)
    write_events(folder, "events1.jsonl", range(2), 0.0)
    write_events(folder, "events2.jsonl", range(2, 4), 1.5)
    done = process(folder, "run", "--role", "ingest,close", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def world(judged: Path, tmp_path: Path) -> Path:
    return shutil.copytree(judged, tmp_path / "world")


@pytest.fixture
def store(world: Path) -> Iterator[Store]:
    opened = Store.open(load_config(world / "driftline.yaml").store, create=False)
    yield opened
    opened.close()


def firing(folder: Path) -> dict[str, Any]:
    [alert] = [found for found in objects(folder, "alerts", "list") if found["subject"] == "x"]
    assert alert["status"] == "firing"
    return alert


def test_an_alert_is_acknowledged_judged_and_judged_anew(world: Path, store: Store) -> None:
    alert = firing(world)
    told = ok(world, "ack", alert["id"][:6], "--who", "ann")
    assert told == f"alert {alert['id']} of churn (x) is acknowledged by ann\n"
    ok(world, "ack", alert["id"], "--verdict", "false", "--comment", "a  test\nrun", "--who", "ben")
    ok(world, "ack", alert["id"], "--verdict", "real")
    given = store.acknowledgements(alert["id"])
    assert [(one.who, one.verdict, one.comment) for one in given[:2]] == [
        ("ann", None, ""),
        ("ben", "false", "a test run"),
    ]
    assert (given[2].verdict, given[2].who != "") == ("real", True)
    assert [(act.who, act.act, act.detail) for act in store.acts(10)[:2]] == [
        ("ann", "ack", ""),
        ("ben", "ack", "false: a test run"),
    ]
    assert {act.subject for act in store.acts(10)} == {alert["id"]}


def test_what_cannot_be_acknowledged_is_refused_and_changes_nothing(world: Path, store: Store) -> None:
    alert = firing(world)
    assert "write at least 6 characters" in refused(world, "ack", alert["id"][:5])
    assert "no alert has an id that begins so" in refused(world, "ack", "nothing-like-it")
    assert "--verdict: maybe is none (write real, expected, false)" in refused(
        world, "ack", alert["id"], "--verdict", "maybe"
    )
    assert "--adopt goes with --verdict expected" in refused(world, "ack", alert["id"], "--adopt", "reference.parquet")
    adopt = ("--verdict", "expected", "--adopt")
    assert "is the reference of model churn already" in refused(world, "ack", alert["id"], *adopt, "reference.parquet")
    assert "nowhere.parquet" in refused(world, "ack", alert["id"], *adopt, "nowhere.parquet")
    assert "--who: should be 1 to 200 printable" in refused(world, "ack", alert["id"], "--who", "a\x07")
    assert store.acts(10) == []
    assert store.acknowledgements(alert["id"]) == []
    assert len(store.references("churn")) == 1


def test_a_new_normal_is_adopted_and_the_alert_ends_when_it_takes_force(world: Path, store: Store) -> None:
    alert = firing(world)
    write_reference(world / "new.parquet", rows=1_500, seed=2, shift=1.5)
    told = ok(world, "ack", alert["id"], "--verdict", "expected", "--adopt", "new.parquet", "--who", "ann")
    new = store.references("churn")[-1]
    assert f"reference {new.hash[:12]} is in force from the next window on; the alert ends with" in told
    assert [(act.act, act.subject) for act in store.acts(10)] == [("reference adopt", "churn"), ("ack", alert["id"])]
    assert new.hash[:12] in store.acts(10)[0].detail
    assert firing(world)["id"] == alert["id"], "nothing was judged by it yet"
    write_events(world, "events3.jsonl", range(4, 6), 1.5)
    run(world)
    [now] = [found for found in objects(world, "alerts", "list") if found["id"] == alert["id"]]
    assert (now["status"], now["reason"]) == ("resolved", "expected")
    drifting = [w for w in objects(world, "windows", "churn", "--monitor", "data") if w["state"] == "drift"]
    assert len(drifting) == 2, "the new normal is none"


def test_a_silence_is_set_listed_and_ended(world: Path, store: Store) -> None:
    before = time.time_ns() // 1_000_000
    told = ok(
        world,
        "silence",
        "add",
        "model=churn",
        "severity=~warn.*|critical",
        "--for",
        "2h",
        "--why",
        "new  upstream",
        "--who",
        "ann",
    )
    [given] = objects(world, "silence", "list")
    assert list(given) == SILENCE_KEYS
    assert (given["type"], given["who"], given["why"], given["state"]) == ("silence", "ann", "new upstream", "active")
    assert given["matchers"] == ['model="churn"', 'severity=~"warn.*|critical"']
    starts, ends = (datetime.fromisoformat(given[key]) for key in ("starts_at", "ends_at"))
    assert ends - starts == timedelta(hours=2)
    assert before <= starts.timestamp() * 1000 + 1 <= before + 60_000
    assert given["id"] in told
    assert "it fits 1 alert that fires now" in told
    assert given["id"][:12] in ok(world, "silence", "list")
    assert ok(world, "silence", "expire", given["id"][:6], "--who", "ben") == f"silence {given['id']} is over\n"
    assert ok(world, "silence", "list") == "no silences\n"
    [over] = objects(world, "silence", "list", "--all")
    assert (over["id"], over["state"]) == (given["id"], "expired")
    assert [(act.who, act.act, act.subject) for act in store.acts(10)] == [
        ("ann", "silence add", given["id"]), ("ben", "silence expire", given["id"]),
    ]  # fmt: skip
    assert "is over since" in refused(world, "silence", "expire", given["id"])


def test_a_silence_may_start_later_and_matchers_may_stand_in_braces(world: Path) -> None:
    starts = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    ok(
        world,
        "silence",
        "add",
        '{team="growth", subject!~"y, z"}',
        "--for",
        "1d",
        "--why",
        "migration",
        "--starts",
        starts,
    )
    [given] = objects(world, "silence", "list")
    assert (given["starts_at"], given["state"]) == (starts, "pending")
    assert given["matchers"] == ['team="growth"', 'subject!~"y, z"']


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["churn"], "'churn' is no matcher (write label=value"),
        (["model=~("], "'(' is no regular expression"),
        (["modle=churn"], "no alert has a label modle (did you mean model?)"),
        (["model!=churn"], "a silence needs a matcher that does not fit the empty text"),
        (["model=churn", "--for", "2"], "is not a duration (write 500ms"),
        (["model=churn", "--for", "0s"], "a silence must end after it starts"),
        (["model=churn", "--why", " "], "--why: should be 1 to 2000 printable characters"),
        (["model=churn", "--starts", "tomorrow"], "--starts:"),
        (["model=churn", "--starts", "2020-01-01T00:00:00Z"], "--starts: 2020-01-01T00:00:00"),
    ],
)
def test_a_silence_that_cannot_be_meant_is_refused(world: Path, arguments: list[str], told: str) -> None:
    usual = [] if "--for" in arguments else ["--for", "1h"]
    usual += [] if "--why" in arguments else ["--why", "w"]
    assert told in refused(world, "silence", "add", *arguments, *usual)
    assert objects(world, "silence", "list", "--all") == []


def test_a_refusal_is_one_line_and_status_2(world: Path) -> None:
    done = process(world, "silence", "expire", "0123456789")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == (
        "silence 0123456789 is unknown (write at least 6 characters of its id, see `driftline silence list`)"
    )


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as server:
        server.answer = answering(200, b"ok")
        monkeypatch.setenv("SLACK_URL", f"http://{server.address}/hook")
        yield server


def test_nobody_is_told_of_what_is_silenced(world: Path, store: Store, receiver: Receiver) -> None:
    ok(world, "silence", "add", "model=quiet", "--for", "2h", "--why", "known")
    write_events(world, "events4.jsonl", range(2, 4), 1.5, model="quiet")
    run(world)
    alert = next(
        found for found in objects(world, "alerts", "list") if found["model"] == "quiet" and found["subject"] == "x"
    )
    assert alert["status"] == "firing", "a silence changes nothing about the alert"
    [(_, _, told)] = receiver.got
    assert b"churn" in told
    assert b"quiet" not in told
    assert {row.receiver: row.outcome for row in store.told(alert["id"])}["team"] == "silenced"
