"""What fires, who is told, and what is done about it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.board import parts as p
from grafana.board.frame import MODEL, annotations, board, chosen, service

SEEN = 'model=~"$model"'
RULES = 'alertname=~"Driftline.*", alertname!="DriftlineWatchdog", alertstate="firing"'


def alerts() -> dashboard.Dashboard:
    made = board(
        "alerts",
        "Alerts and retraining",
        "Alerts of the service and of Prometheus, notifications, requests to retrain.",
    )
    made = annotations(made.with_variable(chosen("model", "Model", MODEL, several=True)).with_variable(service()))
    for panel in _figures():
        made = made.with_panel(panel)
    made = made.with_panel(_active()).with_panel(_by_model()).with_panel(_episodes()).with_panel(_rules())
    made = made.with_panel(_concept()).with_panel(_requests())
    made = made.with_panel(
        p.lines(
            "Attempts to notify", "Per second, by channel and outcome. What failed is tried again.",
            p.query("sum by (channel, result) (rate(driftline_notifications_total[$__rate_interval]))", "{{channel}} {{result}}"), unit=p.EVENTS,
        )
    ).with_panel(
        p.lines(
            "Waiting messages", "In the outbox. It should come back to nothing.",
            p.query("max by (channel) (driftline_notification_queue_items)", "{{channel}}"), decimals=0,
        )
    )  # fmt: skip
    return made.with_panel(_duration()).with_panel(_untold()).with_panel(
        p.words(
            "Every alert of Prometheus has a runbook (`docs/runbooks`), and the alert links to it. "
            "`driftline alerts list --history` shows every transition with its reason, `driftline retraining list` every request.",
            width=24, height=4, title="Next",
        )
    )  # fmt: skip


def _figures() -> list[p.stat.Panel]:
    active = 'sum(max by (model) (driftline_alerts_active{%s, severity="%s"}))'
    requests = 'sum(max by (model) (driftline_retraining_requests{%s, status="%s"}))'
    return [
        p.figure("Critical", "Alerts of the service that fire now.", active % (SEEN, "critical"), limits=p.ANY_IS_BAD),
        p.figure("Warnings", "Alerts of the service that fire now.", active % (SEEN, "warning"), limits=p.ANY_IS_WARNING),
        p.figure("Prometheus alerts", "Alerts of the rule file that fire now.", f"count(ALERTS{{{RULES}}}) or vector(0)", limits=p.ANY_IS_WARNING),
        p.figure("Waiting messages", "Messages that wait to be sent, all channels.", "sum(max by (channel) (driftline_notification_queue_items))", limits=p.steps((None, p.GREEN), (10, p.ORANGE), (100, p.RED))),
        p.figure("Open retrainings", "Requests that are proposed, sent or running.", requests % (SEEN, "open")),
        p.figure("Failed retrainings", "Requests that failed, were refused, cancelled or timed out.", requests % (SEEN, "failed"), limits=p.ANY_IS_WARNING),
    ]  # fmt: skip


def _active() -> p.timeseries.Panel:
    made = p.lines(
        "Active alerts", "Alerts of the service over time.",
        p.query(f"sum by (severity) (max by (model, severity) (driftline_alerts_active{{{SEEN}}}))", "{{severity}}"), stacked=True, decimals=0, height=9,
    )  # fmt: skip
    return p.coloured(made, {"critical": p.RED, "warning": p.ORANGE})


def _by_model() -> p.table.Panel:
    by = 'max by (model) (driftline_alerts_active{%s, severity="%s"})'
    model_page = p.link_cell(
        "Open the model", "/d/driftline-model?var-model=${__value.text}&${__url_time_range}&${datasource:queryparam}"
    )
    return p.columns(
        "Active alerts by model", "The most critical first.",
        {"Critical": by % (SEEN, "critical"), "Warnings": by % (SEEN, "warning"),
         "Episodes": f"sum by (model) (max by (model, monitor, severity) (driftline_alert_episodes_total{{{SEEN}}}))"},
        by="model", sort="Critical", labels={"model": "Model"}, width=12, height=9,
        shown={
            "Model": [model_page],
            "Critical": p.limit_cell((None, p.GREEN), (1, p.RED)),
            "Warnings": p.limit_cell((None, p.GREEN), (1, p.ORANGE)),
        },
    )  # fmt: skip


def _episodes() -> p.bargauge.Panel:
    seen = f"sum by (monitor, severity) (max by (model, monitor, severity) (driftline_alert_episodes_total{{{SEEN}}}))"
    return p.bars(
        "Alerts by monitor", "Episodes as far back as the store keeps them: which monitor speaks most. Where the series budget is spent, of the models that are shown whole.",
        f"sort_desc({seen}) or (vector(0) unless on () {seen})", "{{monitor}} {{severity}}", limits=p.PLAIN, decimals=0,
    )  # fmt: skip


def _rules() -> p.timeseries.Panel:
    made = p.lines(
        "Alerts of Prometheus", "Alerts of the rule file that fire, by severity. The watchdog is left out.",
        p.query(f'count(ALERTS{{{RULES}, severity="critical"}}) or vector(0)', "critical"),
        p.query(f'count(ALERTS{{{RULES}, severity="warning"}}) or vector(0)', "warning", ref="B"),
        p.query(f'count(ALERTS{{{RULES}, severity="info"}}) or vector(0)', "info", ref="C"),
        stacked=True, decimals=0, height=9,
    )  # fmt: skip
    return p.coloured(made, {"critical": p.RED, "warning": p.ORANGE, "info": p.BLUE})


def _concept() -> p.table.Panel:
    by = "max by (model, detector) (driftline_concept_drift_%s{%s})"
    shown = {"Newest": [p.property_of("unit", "dateTimeAsIso")]}
    queries = {
        "Alarms": by % ("detections_total", SEEN),
        "Newest": "1000 * " + by % ("last_detection_timestamp_seconds", SEEN),
    }
    return p.columns(
        "Alarms of concept drift", "By model, with the window of the newest one.", queries, by="model", sort="Newest", shown=shown,
        labels={"model": "Model", "detector": "Detector", "detector 1": "Detector"}, width=12, height=8, hidden=("detector 2",),
    )  # fmt: skip


def _requests() -> p.timeseries.Panel:
    made = p.lines(
        "Requests to retrain", "By where they stand; and in this range how many were made, and how many a gate refused (a cooldown, a budget, a data fault).",
        p.query(f"sum by (status) (max by (model, status) (driftline_retraining_requests{{{SEEN}}}))", "{{status}}"),
        p.query(f"sum(increase(driftline_retrain_triggers_total{{{SEEN}, result=\"accepted\"}}[$__range])) or vector(0)", "made in this range", ref="B"),
        p.query(f"sum(increase(driftline_retrain_triggers_total{{{SEEN}, result!=\"accepted\"}}[$__range])) or vector(0)", "refused in this range", ref="C"),
        decimals=0,
    )  # fmt: skip
    return p.coloured(
        made,
        {
            "open": p.BLUE,
            "succeeded": p.GREEN,
            "failed": p.RED,
            "made in this range": "purple",
            "refused in this range": p.GREY,
        },
    )


def _duration() -> p.timeseries.Panel:
    quantile = "histogram_quantile(%s, sum by (le, channel) (rate(driftline_notification_duration_seconds_bucket[$__rate_interval])))"
    return p.lines(
        "Time to deliver", "Median and 95th percentile of an attempt.",
        p.query(quantile % "0.5", "{{channel}} median"), p.query(quantile % "0.95", "{{channel}} 95 %", ref="B"), unit="s",
    )  # fmt: skip


def _untold() -> p.timeseries.Panel:
    return p.lines(
        "Not told", "Alerts that a receiver was not told of, each in five minutes, by why: silenced, out of hours, explained by another, held for a summary.",
        p.query("sum by (outcome) (increase(driftline_alerts_untold_total[5m]))", "{{outcome}}"), decimals=0,
    )  # fmt: skip
