"""The demo's trainer: takes a signed request over HTTP, checks whose it is, "trains", and calls back as a real job would."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from standardwebhooks import Webhook

from alerts.sender import Sender
from monitor.adoption import adopt
from monitor.closing.requests import TARGET
from monitor.demo_world import MODELS, reference_columns
from monitor.retraining.follow import Follow
from monitor.runtime import Runtime

REQUEST_BYTES_MAX = 65_536
REPORT_SECONDS = 10.0
WORK_SECONDS = 20.0


class Trainer:
    """Listens on a free port of this machine. `train` makes the model's next version and returns its name; it runs in a thread.

    A request that comes twice is trained once, and one whose signature is wrong not at all.
    """

    def __init__(self, secret: str, train: Callable[[str], str]) -> None:
        self._webhook, self._train = Webhook(secret), train
        self._lock, self._idle = threading.Lock(), threading.Event()
        self._seen: set[str] = set()
        self._trained: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self._idle.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/train"

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The status that a request is answered with."""
        if not self._is_signed(headers, body):
            self.refused.append("a request came with a wrong signature")
            return 401
        with self._lock:
            if headers["webhook-id"] in self._seen:
                return 202
            self._seen.add(headers["webhook-id"])
        self._idle.clear()
        threading.Thread(target=self._work, args=(json.loads(body)["data"],), daemon=True).start()
        return 202

    def trained(self, patience_seconds: float) -> list[tuple[str, str]]:
        """Models and their new versions, each told once; waits for what is under way."""
        self._idle.wait(patience_seconds)
        with self._lock:
            done, self._trained = self._trained, []
        return done

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        """By the standard's own library. Its `verify` also holds the time against the wall clock, and the demo's time is simulated."""
        try:
            moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            wanted = self._webhook.sign(headers["webhook-id"], moment, body.decode())
        except (KeyError, ValueError):
            return False
        given = headers.get("webhook-signature", "").split()
        return any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given)

    def _work(self, request: dict[str, Any]) -> None:
        try:
            self._report(request, {"status": "running", "run_id": f"demo-{request['id'][:8]}"})
            version = self._train(request["model"])
            self._report(request, {"status": "succeeded", "version": version, "message": "trained on the last windows"})
            with self._lock:
                self._trained.append((request["model"], version))
        except httpx2.HTTPError as error:
            self.refused.append(f"the call-back failed: {error}")
        finally:
            self._idle.set()

    def _report(self, request: dict[str, Any], report: dict[str, str]) -> None:
        callback = request["callback"]
        answer = httpx2.post(
            callback["url"],
            json=report,
            headers={"authorization": f"Bearer {callback['token']}"},
            timeout=REPORT_SECONDS,
            trust_env=False,
        )
        answer.raise_for_status()


def _handler(trainer: Trainer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            status = 413
            if size <= REQUEST_BYTES_MAX:
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = trainer.take(headers, self.rfile.read(size))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None: ...

    return Handler


@dataclass(slots=True, kw_only=True)
class RetrainingLoop:
    """What a team's own tooling does around the trainer: the new version's reference is adopted, and then it takes the traffic."""

    runtime: Runtime
    trainer: Trainer
    folder: Path
    follow: Follow
    versions: dict[str, str] = field(default_factory=dict)

    def turn(self, now_ms: int, sender: Sender) -> None:
        """Deploy what has been trained. The new version takes over at the window boundary at which its reference does.

        `sender` is asked again until the request is out: whether it is in this turn or the next must not depend on the machine.
        """
        store, until = self.runtime.store, time.monotonic() + WORK_SECONDS
        while store.outbox_pending(f"{TARGET}trainer") and time.monotonic() < until:
            sender.send_due()
        for name, version in self.trainer.trained(WORK_SECONDS):
            model, table = self.runtime.config.models[name], self.folder / f"{name}-{version}.parquet"
            adopt(self.runtime.store, model, path=table, version=version, now_ms=now_ms)
            self.versions[name] = version
        self.follow.turn(now_ms)

    def of(self, model: str) -> str:
        return self.versions.get(model, "1")


def retrain(folder: Path, name: str) -> str:
    """A training run: the table on which the next version was trained is all of it that the demo needs. Returns the version."""
    model = next(model for model in MODELS if model.name == name)
    pq.write_table(pa.table(reference_columns(model, retrained=True)), folder / f"{name}-2.parquet")
    return "2"


def new_secrets(folder: Path) -> dict[str, Path]:
    """A secret for the trainer's signatures and one for call-backs, in files of the demo's own."""
    made = {
        "trainer": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "callback": secrets.token_urlsafe(32),
    }
    files = {name: folder / f"{name}.secret" for name in made}
    for name, file in files.items():
        file.write_text(made[name], encoding="utf-8")
    return files
