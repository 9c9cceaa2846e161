"""Schedulers' APIs on this machine, as their documentation has them: what they ask for, what they refuse, and how they know a copy."""

from __future__ import annotations

import http.server
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Answered = tuple[int, Any]  # status and JSON (None: no body)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def bearer(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Airflow3:
    """`/auth/token` trades user and password for a token; bodies with unknown keys are refused; a run id is there once."""

    user: str = "drift"
    password: str = "s3cret-word"
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Answered:
        if asked.path == "/auth/token":
            if asked.json != {"username": self.user, "password": self.password}:
                return 401, {"detail": "Invalid credentials"}
            return 201, {"access_token": "jwt-of-an-hour"}
        if asked.bearer != "jwt-of-an-hour":
            return 401, {"detail": "Not authenticated"}
        place = "/api/v2/dags/retrain/dagRuns"
        if asked.method == "GET":
            run = self.runs.get(asked.path.removeprefix(f"{place}/"))
            return (404, {"detail": "The DagRun was not found"}) if run is None else (200, run)
        if asked.path != place:
            return 404, {"detail": "DAG not found"}
        known = {"dag_run_id", "data_interval_start", "data_interval_end", "logical_date", "run_after", "conf", "note"}
        if set(asked.json) - known or "logical_date" not in asked.json:
            return 422, {"detail": [{"type": "extra_forbidden"}]}
        run_id = asked.json["dag_run_id"]
        if run_id in self.runs:
            return 409, {"detail": {"reason": "Unique constraint violation"}}
        self.runs[run_id] = {"dag_run_id": run_id, "dag_id": "retrain", "state": "queued", "conf": asked.json["conf"]}
        return 200, self.runs[run_id]


@dataclass
class Databricks:
    """One run per idempotency token, however often it is asked for."""

    token: str = "dapi-token"
    runs: dict[str, int] = field(default_factory=dict)
    states: dict[int, dict[str, str]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Answered:
        if asked.bearer != self.token:
            return 403, {"error_code": "PERMISSION_DENIED"}
        if asked.path == "/api/2.2/jobs/run-now":
            body = asked.json
            if body["job_id"] != 7 or not all(isinstance(value, str) for value in body["job_parameters"].values()):
                return 400, {"error_code": "INVALID_PARAMETER_VALUE"}
            run = self.runs.setdefault(body["idempotency_token"], 900 + len(self.runs))
            self.states.setdefault(run, {"life_cycle_state": "PENDING"})
            return 200, {"run_id": run, "number_in_job": run}
        found = re.fullmatch(r"/api/2\.2/jobs/runs/get\?run_id=(\d+)", asked.path)
        if found is None or int(found[1]) not in self.states:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE"}
        return 200, {"run_id": int(found[1]), "state": self.states[int(found[1])]}


@dataclass
class GitHub:
    """Takes a dispatch and says nothing (204). Asks for a user agent and an API version it knows."""

    token: str = "ghp-token"
    inputs: frozenset[str] = frozenset({"request_id", "model", "version", "reason", "callback_url", "callback_token"})
    started: list[Any] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answered:
        if not asked.headers.get("user-agent") or asked.headers.get("x-github-api-version") != "2022-11-28":
            return 400, {"message": "bad request"}
        if asked.bearer != self.token:
            return 401, {"message": "Bad credentials"}
        body = asked.json
        if asked.path == "/repos/acme/models/dispatches":
            if len(body["client_payload"]) > 10 or len(body["event_type"]) > 100:
                return 422, {"message": "Invalid request"}
        elif asked.path == "/repos/acme/models/actions/workflows/train.yml/dispatches":
            if set(body["inputs"]) - self.inputs or not all(isinstance(v, str) for v in body["inputs"].values()):
                return 422, {"message": "Unexpected inputs provided"}
        else:
            return 404, {"message": "Not Found"}
        self.started.append(body)
        return 204, None


@dataclass
class Kubernetes:
    """A Job has a name, and a name is there once."""

    token: str = "account-token"
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Answered:
        place = "/apis/batch/v1/namespaces/ml/jobs"
        if asked.bearer != self.token:
            return 401, {"kind": "Status", "reason": "Unauthorized"}
        if asked.method == "GET":
            job = self.jobs.get(asked.path.removeprefix(f"{place}/"))
            return (404, {"kind": "Status", "reason": "NotFound"}) if job is None else (200, job)
        job = asked.json
        name = job["metadata"]["name"]
        if asked.path != place or (job["apiVersion"], job["kind"]) != ("batch/v1", "Job"):
            return 404, {"kind": "Status", "reason": "NotFound"}
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            return 422, {"kind": "Status", "reason": "Invalid"}
        if any(not isinstance(one["value"], str) for one in job["spec"]["template"]["spec"]["containers"][0]["env"]):
            return 422, {"kind": "Status", "reason": "Invalid"}
        if name in self.jobs:
            return 409, {"kind": "Status", "reason": "AlreadyExists"}
        self.jobs[name] = {**job, "status": {}}
        return 201, self.jobs[name]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: Callable[[Asked], Answered], certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.api, self.asked = api, list[Asked]()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.server.asked.append(asked)
        status, document = self.server.api(asked)
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST  # noqa: N815 - the standard library's names

    def log_message(self, *words: object) -> None: ...


@contextmanager
def serving(api: Callable[[Asked], Answered], certificate: Path | None = None) -> Iterator[tuple[str, list[Asked]]]:
    """The API's address, and what it was asked. With `certificate` (and its key in the same file) over TLS."""
    server = _Server(api, certificate)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        server.server_close()
