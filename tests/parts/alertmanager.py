"""A real Alertmanager (Debian: prometheus-alertmanager) that tells a webhook of ours; `stop` and `start` keep its data."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.parts.broker import UnavailableError, free_port


class Alertmanager:
    """`labels` are those that a group of its has in common."""

    def __init__(self, folder: Path, webhook_url: str, labels: tuple[str, ...] = ("model",)) -> None:
        binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        self._amtool = shutil.which("amtool") or ""
        if binary is None or not self._amtool:
            raise UnavailableError("no Alertmanager here (Debian: prometheus-alertmanager)")
        config = {
            "route": {
                "receiver": "hook", "group_by": list(labels), "group_wait": "300ms", "group_interval": "1s", "repeat_interval": "1h",
            },
            "receivers": [{"name": "hook", "webhook_configs": [{"url": webhook_url, "send_resolved": True}]}],
        }  # fmt: skip
        (folder / "alertmanager.yml").write_text(json.dumps(config))  # JSON is YAML
        self.port, self._folder = free_port(), folder
        self._command = [
            binary, f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address=",
        ]  # fmt: skip
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._folder / "alertmanager.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + 15
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=1).close()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def alerts(self) -> list[dict[str, Any]]:
        """The active ones, as amtool shows them."""
        words = [self._amtool, "alert", "query", "-o", "json", f"--alertmanager.url={self.url}"]
        return list(json.loads(subprocess.run(words, check=True, capture_output=True, timeout=20).stdout))
