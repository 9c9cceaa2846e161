"""All models at a glance, with one as with five hundred: the table pages, and only the worst have lines of their own."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.board import parts as p
from grafana.board.frame import MODEL, annotations, board, chosen, service, top

SEEN = 'model=~"$model"'
WORST = (
    "max by (model) ({%s, %s}) and on (model) topk($top, max by (model) (max_over_time({%s, %s}[$__range] @ end())))"
    % (
        p.DECISIONS,
        SEEN,
        p.DECISIONS,
        SEEN,
    )
)
STALLED = (
    f"{p.CLOCK} - max by (model) (driftline_window_end_timestamp_seconds{{{SEEN}}})"
    f" > 3 * max by (model) (driftline_window_length_seconds{{{SEEN}}}) + 900"
)


def fleet() -> dashboard.Dashboard:
    made = board("fleet", "Fleet", "Every model: what has drifted, what is stalled, what fires. Begin here.")
    made = made.with_variable(chosen("model", "Model", MODEL, several=True)).with_variable(top(10, 25, 50))
    made = annotations(made.with_variable(service()), ("version", "alert"))
    for panel in _figures():
        made = made.with_panel(panel)
    made = made.with_panel(_table()).with_panel(_by_severity()).with_panel(_largest())
    made = made.with_panel(
        p.timeline(
            "The worst models over time",
            "Of the models that were worst in this range, the worst decision on any feature, metric or detector.",
            WORST, "{{model}}", height=10,
        )
    )  # fmt: skip
    return made.with_panel(
        p.lines(
            "Predictions", "Predictions accepted per second, of the models with the most.",
            p.query(
                f'topk($top, sum by (model) (rate(driftline_events_total{{{SEEN}, kind="prediction"}}[$__rate_interval])))', "{{model}}"
            ),
            unit=p.EVENTS,
        )
    ).with_panel(
        p.lines(
            "Age of the newest window", "By the service's own clock, of the models that are furthest behind. Windows close once they are over.",
            p.query(f"topk($top, {p.CLOCK} - max by (model) (driftline_window_end_timestamp_seconds{{{SEEN}}}))", "{{model}}"),
            unit="s",
        )
    )  # fmt: skip


def _figures() -> list[p.stat.Panel]:
    alerts = 'sum(max by (model) (driftline_alerts_active{%s, severity="%s"}))'
    return [
        p.figure("Models", "Configured models.", f"count(max by (model) (driftline_model_info{{{SEEN}}}))"),
        p.figure(
            "Critical", "Models with a critical decision in their newest windows.",
            f"count(({p.SEVERITY}) == 2) or vector(0)", limits=p.ANY_IS_BAD,
        ),
        p.figure(
            "Warning", "Models whose worst decision is a warning.", f"count(({p.SEVERITY}) == 1) or vector(0)", limits=p.ANY_IS_WARNING
        ),
        p.figure(
            "Stalled", "Models whose newest window is older than three windows: what is shown of them is the past.",
            f"count({STALLED}) or vector(0)", limits=p.ANY_IS_BAD,
        ),
        p.figure("Critical alerts", "Critical alerts of the service that fire now.", alerts % (SEEN, "critical"), limits=p.ANY_IS_BAD),
        p.figure("Warnings", "Alerts of severity warning that fire now.", alerts % (SEEN, "warning"), limits=p.ANY_IS_WARNING),
    ]  # fmt: skip


def _table() -> p.table.Panel:
    drifting = 'sum by (model) (max by (model, state) (driftline_drift_features{%s, state=~"warning|critical"}))' % SEEN
    queries = {
        "State": p.SEVERITY,
        "Drifting": drifting,
        "Share": f"{drifting} / (sum by (model) (max by (model, state) (driftline_drift_features{{{SEEN}}})) > 0)",
        "Largest drift": (
            f"max by (model) (max by (model, feature) (driftline_drift_score{{{SEEN}}})"
            f" / max by (model, feature) (driftline_drift_threshold{{{SEEN}}}))"
        ),
        "Alerts": f"sum by (model) (max by (model, severity) (driftline_alerts_active{{{SEEN}}}))",
        "Rows": f'max by (model) (driftline_window_rows{{{SEEN}, kind="drift"}})',
        "Window age": f"{p.CLOCK} - max by (model) (driftline_window_end_timestamp_seconds{{{SEEN}}})",
        "Facts": f"max by (model, task, owner) (driftline_model_info{{{SEEN}}})",
    }
    model_page = p.link_cell(
        "Open the model", "/d/driftline-model?var-model=${__value.text}&${__url_time_range}&${datasource:queryparam}"
    )
    shown = {
        "Model": [model_page, p.property_of("custom.width", 260)],
        "State": p.severity_cell(),
        "Drifting": p.limit_cell((None, p.GREEN), (1, p.ORANGE), width=90),
        "Share": p.limit_cell((None, p.GREEN), (0.3, p.RED), unit="percentunit", width=90),
        "Largest drift": [*p.limit_cell((None, p.GREEN), (0.8, p.ORANGE), (1, p.RED)), *p.unit_cell("none", 2)],
        "Alerts": p.limit_cell((None, p.GREEN), (1, p.ORANGE), width=90),
        "Rows": p.unit_cell("short", 0),
        "Window age": p.unit_cell("s", 0),
    }
    return p.columns(
        "Models",
        "The worst first. Largest drift: the distance of a feature in units of its threshold; from 1 on, with evidence, it counts. Click a name.",
        queries, by="model", sort="State", shown=shown, labels={"model": "Model", "task": "Task", "owner": "Owner"}, height=10,
        hidden=("Value #H",),
    )  # fmt: skip


def _by_severity() -> p.timeseries.Panel:
    counted = [
        p.query(f"count(({p.SEVERITY}) == {value}) or vector(0)", word, ref=ref)
        for value, word, ref in ((2, "critical", "A"), (1, "warning", "B"), (0, "ok", "C"))
    ]
    made = p.lines(
        "Models by state", "How many models are in which state.", *counted, stacked=True, height=9, decimals=0
    )
    return p.coloured(made, {"critical": p.RED, "warning": p.ORANGE, "ok": p.GREEN})


def _largest() -> p.bargauge.Panel:
    return p.bars(
        "Features that have moved most",
        "Distance in units of the threshold in force, over all models: 1 is the threshold, and a bar ends at 2.",
        f"sort_desc(topk(10, max by (model, feature) (driftline_drift_score{{{SEEN}}}) / max by (model, feature) (driftline_drift_threshold{{{SEEN}}})))",
        "{{model}} · {{feature}}", high=2,
    )  # fmt: skip
