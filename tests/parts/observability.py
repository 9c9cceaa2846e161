"""Real Prometheus, Alertmanager and Grafana on the loopback, each in a folder of its own."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.parts.broker import REPOSITORY, UnavailableError, free_port

GRAFANA = REPOSITORY / "grafana"
SCRAPE_SECONDS = 1
Json = Any


def fetch(url: str, body: Json = None, timeout: float = 20) -> Json:
    """The JSON at an address; with `body` it is posted."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.loads(answer.read())


class Server:
    """A program that listens; ended with SIGTERM."""

    def __init__(self, name: str, folder: Path, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log = folder, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(command), cwd=folder, stdout=log, stderr=log, env=os.environ | dict(env or {})
            )

    def wait(self, url: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(f"{url} does not answer: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"no `{name}` on the PATH (Debian: {package})")
    return found


class Hook:
    """Receives what Alertmanager sends."""

    def __init__(self) -> None:
        self.received: list[Json] = []
        received = self.received

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, name="hook", daemon=True).start()

    def names(self, status: str) -> set[str]:
        """Names of alerts that were received in this status."""
        return {
            alert["labels"]["alertname"]
            for body in self.received
            for alert in body["alerts"]
            if alert["status"] == status
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Alertmanager(Server):
    def __init__(self, folder: Path, hook: str) -> None:
        binary = program("prometheus-alertmanager", "prometheus-alertmanager")
        folder.mkdir(parents=True, exist_ok=True)
        route = {"receiver": "hook", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"}
        route["repeat_interval"] = "5s"
        receiver = {"name": "hook", "webhook_configs": [{"url": hook, "send_resolved": True}]}
        (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": [receiver]}))
        self.address = f"127.0.0.1:{free_port()}"
        words = ["--config.file=alertmanager.yml", "--storage.path=data", f"--web.listen-address={self.address}"]
        super().__init__("alertmanager", folder, [binary, *words, "--cluster.listen-address="])
        self.wait(f"http://{self.address}/-/ready")


class Prometheus(Server):
    """Scrapes `targets` (job -> addresses), with the repository's own rules, whose times are `faster` times shorter."""

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, Sequence[str]],
        alertmanager: str = "",
        faster: int = 1,
        seconds: float = SCRAPE_SECONDS,
    ) -> None:
        binary = program("prometheus", "prometheus")
        folder.mkdir(parents=True, exist_ok=True)
        for path in (GRAFANA / "rules").glob("*.yaml"):
            (folder / path.name).write_text(hurried(path.read_text(), faster))
        every = f"{int(1000 * seconds)}ms"
        jobs = [{"job_name": job, "static_configs": [{"targets": list(found)}]} for job, found in targets.items()]
        config: Json = {
            "global": {
                "scrape_interval": every,
                "scrape_timeout": every,
                "evaluation_interval": every if seconds < 1 else "1s",
            },
            "rule_files": ["alerts.yaml", "recording.yaml"],
            "scrape_configs": jobs,
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={self.address}"]
        words.append(
            "--rules.alert.resend-delay=2s"
        )  # what was sent before Alertmanager was known is lost, and sent again
        super().__init__("prometheus", folder, [binary, *words])
        self.wait(f"{self.url}/-/ready")

    def ask(self, expr: str, at: float | None = None) -> list[Json]:
        """An instant vector."""
        query = {"query": expr} | ({} if at is None else {"time": str(at)})
        answer = fetch(f"{self.url}/api/v1/query?{urllib.parse.urlencode(query)}")
        result: list[Json] = answer["data"]["result"]
        return result

    def over(self, expr: str, begin: float, end: float, step: float = 1) -> list[Json]:
        """A range of vectors."""
        query = {"query": expr, "start": str(begin), "end": str(end), "step": str(step)}
        result: list[Json] = fetch(f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(query)}")["data"]["result"]
        return result


def hurried(rules: str, faster: int) -> str:
    """Rules whose times (ranges, `for`, `keep_firing_for`) are shorter, as a simulation's days are; not below a few scrapes."""
    if faster == 1:
        return rules
    unit = {"m": 60, "h": 3_600, "d": 86_400}

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{max(4, int(found[2]) * unit[found[3]] // faster)}s"

    return re.sub(r"(\[|offset |for: )(\d+)([mhd])\b", shorter, rules)


class Grafana(Server):
    """The program that DRIFTLINE_GRAFANA names, provisioned from the repository's own folder. Its unpacked server is kept in `.cache`."""

    def __init__(self, folder: Path, prometheus: str) -> None:
        start = os.environ.get("DRIFTLINE_GRAFANA", "")
        if not start:
            raise UnavailableError("DRIFTLINE_GRAFANA names no program that starts a Grafana (docs/observability.md)")
        kept = Path(os.environ.get("DRIFTLINE_CACHE") or REPOSITORY / ".cache") / "grafana"
        kept.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        if (kept / "grafana/bin/grafana").exists():
            (folder / "grafana").symlink_to(kept / "grafana")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        env = {
            "DRIFTLINE_PROMETHEUS_URL": prometheus,
            "DRIFTLINE_SCRAPE_INTERVAL": f"{SCRAPE_SECONDS}s",
            "DRIFTLINE_DASHBOARDS": str(GRAFANA / "dashboards"),
        }
        super().__init__("grafana", folder, [start, str(port), str(folder), str(GRAFANA / "provisioning")], env)
        self.wait(f"{self.url}/api/health")
        if not (folder / "grafana").is_symlink() and not (kept / "grafana").exists():
            shutil.copytree(folder / "grafana", kept / "grafana", symlinks=True)

    def add_source(self, name: str, prometheus: str, seconds: int) -> None:
        """Another Prometheus, to be chosen as `var-datasource=NAME`."""
        settings = {"httpMethod": "POST", "timeInterval": f"{seconds}s"}
        source = {"name": name, "uid": name, "type": "prometheus", "access": "proxy", "url": prometheus}
        fetch(f"{self.url}/api/datasources", source | {"jsonData": settings})

    def boards(self) -> list[Json]:
        """The provisioned boards, once Grafana has read them."""
        end = time.monotonic() + 30
        while True:
            found: list[Json] = fetch(f"{self.url}/api/search?type=dash-db")
            if len(found) >= len(list((GRAFANA / "dashboards").glob("*.json"))) or time.monotonic() > end:
                return [fetch(f"{self.url}/api/dashboards/uid/{board['uid']}")["dashboard"] for board in found]
            time.sleep(0.2)


def panels(board: Json) -> list[Json]:
    """Every panel that asks something, also those in collapsed rows."""
    found = []
    for panel in board["panels"]:
        found += [panel, *panel.get("panels", [])]
    return [panel for panel in found if panel.get("targets")]


def filled(expr: str, board: Json, values: Mapping[str, str]) -> str:
    """The query with its variables filled in: `values`, then what is chosen on the board, then everything."""
    known = {
        "__rate_interval": "4s", "__range": "2m", "__interval": "1s",
        **{v["name"]: v["current"]["value"] for v in board["templating"]["list"] if v["type"] == "custom"}, **values,
    }  # fmt: skip
    return re.sub(r"\$\{?(\w+)(?::\w+)?\}?", lambda found: str(known.get(found[1], ".*")), expr)


def rules() -> list[Json]:
    """Every rule of the repository."""
    files = sorted((GRAFANA / "rules").glob("*.yaml"))
    return [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
