"""The pictures of the documents: `python -m tests.parts.pictures FOLDER` runs the demo under a real Prometheus and has Grafana draw it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.parts.broker import UnavailableError, free_port
from tests.parts.browser import Eye, chromium
from tests.parts.demo import Demo
from tests.parts.observability import GRAFANA, Grafana, Prometheus

# file -> (board, what is chosen on it, height in pixels, theme)
PICTURES = {
    "fleet.png": ("fleet", {}, 1000, "light"),
    "performance.png": ("performance", {"var-model": "credit", "var-metric": "accuracy"}, 900, "dark"),
}


def draw(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="driftline-pictures-") as name:
        room, port = Path(name), free_port()
        prometheus = Prometheus(room / "prometheus", {"driftline": [f"127.0.0.1:{port}"]})
        demo = Demo(room / "demo", port)
        begin_ms = int(time.time() * 1000)
        grafana = Grafana(room / "grafana", prometheus.url)
        try:
            if "until Ctrl-C" not in demo.through(300):
                raise RuntimeError(f"the demo did not get through: {demo.said[-2000:].decode()}")
            time.sleep(3)
            span = {"from": str(begin_ms + 4_000), "to": str(int(time.time() * 1000))}
            with chromium() as browser:
                eye = Eye(browser, grafana.url)
                for file, (board, chosen, height, theme) in PICTURES.items():
                    made = json.loads((GRAFANA / f"dashboards/{board}.json").read_text())
                    count = sum(panel["type"] != "row" for panel in made["panels"])
                    eye.look(made, span | {"theme": theme} | chosen, folder / file, panels=count, height=height)
        finally:
            for part in (grafana, demo, prometheus):
                part.close()


if __name__ == "__main__":
    os.environ.setdefault("TZ", "UTC")
    try:
        draw(Path(sys.argv[1]))
    except UnavailableError as reason:
        sys.exit(f"no pictures: {reason}")
