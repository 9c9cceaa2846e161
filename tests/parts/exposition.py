"""A store of one's own for the tests of the exposition: windows and findings by hand, and a scrape read back by the client library's parser."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families as plain

from detectors.finding import Finding, State
from monitor import telemetry as t
from monitor.budget import PROCESS_SERIES_MAX
from monitor.errors import TransientError
from monitor.metrics import Facts, Metrics, ModelFacts
from monitor.results import encode_findings
from monitor.store import AlertRow, ReferenceRow, RetrainingRow, WindowRow

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def finding(subject="income", check="distribution", state=State.OK, severity=None, value=0.05, **rest) -> Finding:
    unit = "sd" if check == "distribution" else "share"
    return Finding(
        subject=subject,
        check=check,
        state=state,
        severity=severity,
        value=value,
        threshold=0.14,
        unit=unit,
        rows=500,
        **rest,
    )


def figures(
    check="realised", state=State.OK, severity=None, value=0.8, metrics=("accuracy", "roc_auc")
) -> list[Finding]:
    """What a window of performance says of some metrics; without a value when there is too little to judge by."""
    known = state not in (State.INSUFFICIENT_DATA, State.NO_DATA)
    return [
        Finding(
            subject=metric, check=check, state=state, severity=severity, value=value if known else None,
            interval=(value - 0.02, value + 0.02) if known else None, baseline=0.85, threshold=0.8 if known else None,
            unit="share", rows=500, detail={"source": check, "labelled": 400 if known else 0, "coverage": 0.8},
        )
        for metric in metrics
    ]  # fmt: skip


LABELS = Finding(
    subject="labels", check="coverage", state=State.OK, value=0.8, interval=(0.75, 0.85), baseline=0.82, threshold=0.72,
    unit="share", rows=500, detail={
        "labelled": 400, "delay_p50_seconds": 600.0, "delay_p90_seconds": 3_600.0, "delay_p99_seconds": 86_400.0, "final_share": 0.95,
    },
)  # fmt: skip


def window(
    *findings: Finding, model="churn", version="7", monitor="data", end_ms=10 * DAY_MS, revision=1, decided=0
) -> WindowRow:
    return WindowRow(
        id=f"{model}/{version}/{monitor}/{end_ms}",
        model=model,
        version=version,
        monitor=monitor,
        start_ms=end_ms - HOUR_MS,
        end_ms=end_ms,
        state="ok",
        status="final",
        revision=revision,
        decided=decided,
        rows=500,
        digest="d",
        reference="a" * 64,
        inherited=False,
        findings=encode_findings(findings),
        marks="{}",
        recorded_at_ms=0,
    )


def alert(model="churn", severity="critical", status="firing", **rest) -> AlertRow:
    row = AlertRow(
        id="1",
        fingerprint="f",
        incident="i",
        model=model,
        version="7",
        monitor="data",
        subject="income",
        check="distribution",
        severity=severity,
        status=status,
        corrected=False,
        at_ms=0,
        starts_at_ms=0,
        ends_at_ms=None,
        window="w",
        reason="r",
        text="t",
        recorded_at_ms=0,
    )
    return replace(row, **rest)


def request(status: str, model="churn", at_ms=0) -> RetrainingRow:
    return RetrainingRow(
        id="1", model=model, version="7", target="airflow", status=status, mode="propose", reason="r", at_ms=at_ms,
        recorded_at_ms=0, detail="{}",
    )  # fmt: skip


REFERENCE = ReferenceRow(
    hash="b" * 64,
    model="churn",
    version="",
    payload=b"",
    source_path="ref.parquet",
    source_sha256="c" * 64,
    settings="{}",
    rows=10,
    warnings="[]",
    recorded_at_ms=1_700_000_000_000,
)


class FakeStore:
    """Answers what it was given; `broken` stands for a database that is away. `again`: windows that have been revised."""

    def __init__(self, windows=(), alerts=(), references=(REFERENCE,), again=(), requests=()):
        self.windows, self.firing, self.built, self.broken = list(windows), list(alerts), list(references), False
        self.again, self.requests = list(again), list(requests)
        self.looked_up = 0
        self.reads: Counter[str] = Counter()

    def newest_windows(self):
        if self.broken:
            raise TransientError("the database is away")
        return self.windows

    def windows_after(self, decided, monitor):
        rows = [row for row in [*self.windows, *self.again] if row.decided > decided and row.monitor == monitor]
        return sorted(rows, key=lambda row: row.decided), max([decided, *(row.decided for row in rows)])

    def judged_again(self, model, version, monitor, limit):
        self.looked_up += 1
        track = (model, version, monitor)
        rows = [row for row in self.again if (row.model, row.version, row.monitor) == track and not row.withdrawn]
        return sorted(rows, key=lambda row: -row.end_ms)[:limit]

    def retraining(self):
        return self.requests

    def alerts(self, history=False):
        assert not history
        self.reads["alerts"] += 1
        return self.firing

    def firing_alerts(self):
        return [alert for alert in self.firing if alert.status == "firing"]

    def reference_generation(self):
        return len(self.built)

    def references(self, model=None):
        self.reads["references"] += 1
        return self.built

    def outbox_pending(self, receiver=None):
        return {"oncall": 3}.get(receiver, 0)


def facts(*models: str, series_max: int = PROCESS_SERIES_MAX) -> Facts:
    one = ModelFacts(task="binary", owner="growth", window_ms=HOUR_MS, window_max_ms=7 * DAY_MS, target="airflow")
    return Facts(
        version="0.1.0", revision="abc", models=dict.fromkeys(models or ("churn",), one), receivers=["oncall"],
        now_ms=lambda: 12 * DAY_MS, config="c0ffee", read_at_ms=1_700_000_000_000, series_max=series_max,
    )  # fmt: skip


def scrape(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name without prefix, label values in the order of their names) -> number"""
    body, content_type = metrics.render("")
    assert content_type.startswith("text/plain")
    samples = [sample for family in plain(body.decode()) for sample in family.samples]
    assert all(sample.timestamp is None for sample in samples)
    return {
        (s.name.removeprefix("driftline_"), *(s.labels[k] for k in sorted(s.labels))): s.value
        for s in samples
        if s.name.startswith("driftline_")
    }


def shown(*windows: WindowRow, models=("churn",), **rest) -> dict[tuple[str, ...], float]:
    return scrape(Metrics(FakeStore(windows, **rest), t.Telemetry(), facts(*models)))
