"""Writes everything that is generated and committed: boards, the PrometheusRule manifest, the page on metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.board.alerts import alerts
from grafana.board.feature import feature
from grafana.board.fleet import fleet
from grafana.board.model import model
from grafana.board.performance import performance
from grafana.board.pipeline import pipeline
from grafana.board.reference import metrics_page, rule_manifest

ROOT = Path(__file__).resolve().parents[2]
BOARDS = (fleet, model, feature, performance, alerts, pipeline)


def render(board: Any) -> str:
    """A board as it is committed: panels numbered, and without what Grafana's own types reject."""
    made = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    for number, panel in enumerate(made["panels"], 1):
        panel["id"] = number
    for variable in made["templating"]["list"]:
        if variable["type"] != "interval":
            for name in ("auto", "auto_count", "auto_min"):
                variable.pop(name, None)
    return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def generated() -> Mapping[str, str]:
    """Path in the repository -> content."""
    boards = {f"grafana/dashboards/{make.__name__}.json": render(make()) for make in BOARDS}
    return boards | {
        "docs/reference/metrics.md": metrics_page(),
        "grafana/kubernetes/prometheusrule.yaml": rule_manifest(ROOT / "grafana/rules"),
    }


if __name__ == "__main__":
    for place, content in generated().items():
        path = ROOT / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
