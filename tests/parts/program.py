"""The program as a user runs it: real processes of `python -m monitor`, each in a room with a configuration and a store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.store import PartitionState, Store
from tests.parts.broker import REPOSITORY, Broker

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Ended:
    """A process that has ended. `peak_mib` is the most memory that was ever resident."""

    status: int
    stdout: str
    stderr: str
    seconds: float
    peak_mib: float


class Worker:
    """A process of ours; its log goes to a file."""

    def __init__(self, command: list[str], cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log, self._begun = log, time.monotonic()
        self._out = log.with_suffix(".out")
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(env or {})
        with log.open("wb") as errors, self._out.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=errors, env=environment)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        """As a supervisor does it. Returns the status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def end(self, seconds: float) -> Ended:
        """Wait until it leaves by itself."""
        until = time.monotonic() + seconds
        while True:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                self.kill()
                raise AssertionError(f"still running after {seconds} s: {self.text[-2000:]}")
            time.sleep(0.02)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - self._begun
        return Ended(self.process.returncode, self._out.read_text(), self.text, passed, usage.ru_maxrss / 1024)

    @property
    def text(self) -> str:
        return self.log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log that bear this event name."""
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]


class Room:
    """A folder with one configuration: one source (or none) into one store."""

    def __init__(
        self, folder: Path, models: Mapping[str, Any], source: Mapping[str, Any] | None = None, store: str = ""
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.store = folder, store or f"sqlite:///{folder}/driftline.db"
        self._workers: list[Worker] = []
        content = {"store": self.store, "models": models} | ({"sources": {"live": source}} if source else {})
        (folder / "driftline.yaml").write_text(json.dumps(content, indent=1))  # JSON is YAML

    def start(self, *words: str, failpoint: str = "") -> Worker:
        """`driftline WORDS` in the background."""
        log = self.folder / f"{words[0]}-{len(self._workers)}.log"
        env = {"DRIFTLINE_FAILPOINT": failpoint} if failpoint else {}
        worker = Worker([sys.executable, "-m", "monitor", *words], self.folder, log, env)
        self._workers.append(worker)
        return worker

    def run(self, *words: str, seconds: float = 120) -> Ended:
        """`driftline WORDS` to its end, which must be a good one."""
        ended = self.start(*words).end(seconds)
        assert ended.status == 0, ended.stderr[-3000:]
        return ended

    def catch_up(self, seconds: float = 120) -> Ended:
        return self.run("run", "--until-caught-up", seconds=seconds)

    def results(self) -> dict[Key, Any]:
        return judged(self.run("windows", "--json").stdout)

    def alerts(self) -> list[dict[str, Any]]:
        """How every alert stands, without its history."""
        found = [json.loads(line) for line in self.run("alerts", "list", "--json").stdout.splitlines()]
        return sorted(found, key=lambda alert: str(alert["id"]))

    def partitions(self) -> list[PartitionState]:
        store = Store.open(self.store, create=False)
        try:
            return store.partition_states("live")
        finally:
            store.close()

    def stored(self) -> int:
        """Records whose offsets are stored."""
        return sum(state.next_offset or 0 for state in self.partitions())

    def close(self) -> None:
        for worker in self._workers:
            if worker.running:
                worker.kill()


def judged(text: str) -> dict[Key, Any]:
    """Window identity -> everything that was judged of it: rows, digest, state and findings. Of several revisions the newest.

    `revision` and `status` tell how often and when it was judged, so they may differ from run to run.
    """
    windows = [w for line in text.splitlines() if line.startswith("{") and (w := json.loads(line))["type"] == "window"]
    found: dict[Key, Any] = {}
    for window in sorted(windows, key=lambda w: w["revision"]):
        key = (window["model"], window["version"], window["monitor"], window["start"], window["end"])
        found[key] = {name: value for name, value in window.items() if name not in ("revision", "status")}
    return found


def kafka(broker: Broker, topic: str, *, group: str = "driftline", session: str = "10s") -> dict[str, Any]:
    """A source's configuration."""
    settings = {"bootstrap_servers": [broker.address], "group_id": f"{group}-{topic}", "topics": {topic: "canonical"}}
    return {"kafka": settings | {"session_timeout": session}}


def until(done: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for it; returns the seconds it took."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - begun
