"""What is made from the metric contract and the rules: docs/reference/metrics.md and the PrometheusRule manifest."""

from __future__ import annotations

from pathlib import Path

import yaml

from monitor.budget import MODEL_SERIES_MAX, NAMED_MAX, OTHERS, PROCESS_SERIES_MAX
from monitor.metric_families import CONTRACT
from monitor.metrics import PREFIX
from monitor.telemetry import LABEL_SETS_MAX, MODEL_LABEL_SETS_MAX
from monitor.versions import OTHER_VERSIONS, VERSIONS_MAX

_HEAD = f"""# Metrics

<!-- Made by `make generate` from monitor/telemetry.py and monitor/metric_families.py: change those. -->

What a process shows at `/metrics`, in the text format or, for a scraper that asks for it, as OpenMetrics. Names are stable: a change of one
is in the [changelog](../../CHANGELOG.md). How they are drawn and alerted on: [Prometheus and Grafana](../observability.md).

* **A scrape is one snapshot** of the store's newest results and of this process's counters. A model, version or feature that is gone
  vanishes with the next scrape. Samples carry no time of their own: when a window ended is a metric.
* **No data is no number.** A window with too few rows leaves its series out; `driftline_drift_features` and `driftline_windows_total` count it.
* **Ages are taken against `driftline_clock_timestamp_seconds`**, the time the service goes by: then they are right in a replay or a
  simulation too. Every process that serves exports the same results: aggregate with `max by (model, ...)`, never with `sum`.
* **Severity** is 0 (none), 1 (warning) or 2 (critical), after the correction for many tests and with the effect taken into account. p-values
  are not exported: they are no input of an alert.
* **The budget** is a limit: {PROCESS_SERIES_MAX:,} series a process (`http: {{series: ...}}`), {MODEL_SERIES_MAX:,} of the features, metrics and detectors of
  one model. Shown first is what the process counts, then of each model what boards and rules start from (17 series at most: facts, newest
  windows, features by state, alerts, events, watermark), then what has drifted, the most severe first, then the rest, models that have drifted or of which an
  alert fires or a retraining was asked for before quiet ones, and at last of each model the features nearest to their threshold. What was left out is in `driftline_exported_series_suppressed`,
  by name for the {NAMED_MAX} models that miss most, and for all others together under `{OTHERS}`. At the default about 500 models have their overview.
* **Names that come with the traffic** cannot grow a process: a counter keeps {LABEL_SETS_MAX:,} label sets ({MODEL_LABEL_SETS_MAX:,} where one label is a
  configured model), the rest is counted under `other`. Of a model {VERSIONS_MAX} versions that are in use at once are told apart; events of more are judged
  together, as version `{OTHER_VERSIONS}`. Segments, categories and bins are never labels.
* Reserved names of features: `__score__` and other predictions, `__rows__` the traffic. Of metrics: `__labels__`, how labels come.
"""


def metrics_page() -> str:
    """The text of docs/reference/metrics.md."""
    parts = [_HEAD]
    for title, metrics in CONTRACT.items():
        rows = ["| name | type | labels | meaning |", "|---|---|---|---|"]
        rows += [
            f"| `{PREFIX}{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |"
            for metric in metrics
        ]
        parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def rule_manifest(rules: Path) -> str:
    """All rule files of a folder as one PrometheusRule of the Prometheus operator."""
    groups = [group for path in sorted(rules.glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "driftline", "labels": {"app.kubernetes.io/name": "driftline"}},
        "spec": {"groups": groups},
    }
    head = "# Made by `make generate` from grafana/rules: change those.\n"
    return head + yaml.safe_dump(manifest, sort_keys=False, width=160, allow_unicode=True)
