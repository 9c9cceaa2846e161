"""A replay that closes in a second process: the same bytes, and no error is lost between the two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import monitor.replay
from monitor.closing.closer import Closer
from monitor.commands import compact, objects
from monitor.config.load import load_config
from monitor.errors import TransientError, UserError
from monitor.replay import replay
from monitor.store import Store, WindowRow
from parts.world import T0, hour_of_events, write_reference

CONFIG = """\
store: sqlite:///driftline.db
models:
  churn: &model
    task: unlabelled
    reference: {path: reference.parquet}
    window: {size: 1h, min_rows: 100}
    lateness: 60s
  fraud: *model
"""
HOURS = 8

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="closing stays in the process here")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models that drift now and then, one in bursts with pauses, and rows that come too late for the first verdict."""
    write_reference(tmp_path / "reference.parquet", rows=1_500)
    (tmp_path / "driftline.yaml").write_text(CONFIG)
    lines: list[bytes] = []
    for hour in range(HOURS):
        churn = hour_of_events(hour, shift=1.2 if hour in {2, 3} else 0.0)
        fraud = hour_of_events(hour, 60, model="fraud", seed=1) if hour % 3 else []
        late = hour_of_events(hour - 2, 30, shift=3.0, seed=2) if hour in {4, 5} else []
        lines += sorted(churn + fraud, key=lambda line: line[line.index(b'"ts"') :]) + late
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    monkeypatch.setattr(monitor.replay, "CHECKPOINT_EVENTS", 400)
    monkeypatch.setattr("monitor.ingest.MAX_POLL_RECORDS", 100)
    return tmp_path


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def choose(wanted: bool) -> None:
        monkeypatch.setattr(monitor.replay, "BESIDE_BYTES", 0)
        monkeypatch.setattr(monitor.replay, "possible", lambda: wanted)

    return choose


def replayed(world: Path, store: str | None = None) -> str:
    lines: list[str] = []
    config = load_config(world / "driftline.yaml")
    replay(
        config,
        [world / "events.jsonl"],
        model=None,
        store_url=store,
        now_ms=lambda: T0,
        decided=lambda decision: lines.extend(compact(item) for item in objects(decision)),
    )
    return "\n".join(lines)


def stored(url: str) -> list[WindowRow]:
    store = Store.open(url)
    try:
        return list(store.windows(revisions=True))
    finally:
        store.close()


def test_the_output_and_the_store_are_those_of_one_process(world: Path, beside: Callable[[bool], None]) -> None:
    urls = [f"sqlite:///{world}/{name}.db" for name in ("one", "two")]
    beside(False)
    alone = replayed(world), replayed(world, urls[0])
    beside(True)
    assert (replayed(world), replayed(world, urls[1])) == alone
    assert stored(urls[0]) == stored(urls[1])
    assert '"revision":2' in alone[0]
    assert '"type":"alert"' in alone[0]
    assert replayed(world, urls[1]) == "", "all of it has been read"


@pytest.mark.parametrize("kind", [UserError, TransientError])
def test_an_error_of_the_closer_is_raised_by_the_replay(
    world: Path, beside: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def step(_: Closer) -> int:
        raise kind("the disk is full")

    monkeypatch.setattr(Closer, "step", step)
    for wanted in (False, True):
        beside(wanted)
        with pytest.raises(kind, match=r"^the disk is full$"):
            replayed(world)


def test_a_bug_in_the_closer_keeps_its_traceback(
    world: Path, beside: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Closer, "finish_input", lambda closer: closer.watched["nothing"])
    beside(True)
    with pytest.raises(RuntimeError, match=r"(?s)in the closing process.*_work.*KeyError: 'nothing'"):
        replayed(world)


def test_a_closer_that_dies_is_no_end_of_input(
    world: Path, beside: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Closer, "step", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    beside(True)
    with pytest.raises(RuntimeError, match=r"has died \(status -9\)"):
        replayed(world)


SCRIPT = """
import multiprocessing, os, signal
from monitor.closing.beside import closing_beside
with closing_beside(None, None, None, print):
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_closer_does_not_outlive_the_reader() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for _ in range(200):
        if not Path(f"/proc/{int(done.stdout)}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the closing process goes on")
