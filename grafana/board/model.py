"""One model: which features, since when, by how much, and whether its data are sound."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.board import parts as p
from grafana.board.frame import MODEL, annotations, board, chosen, service, top

ONE = 'model=~"$model"'
SCORE = f"max by (feature) (driftline_drift_score{{{ONE}}})"
EXCESS = f"{SCORE} / max by (feature) (driftline_drift_threshold{{{ONE}}})"
FEATURE_PAGE = (
    "/d/driftline-feature?var-feature=${__value.text}&${model:queryparam}&${__url_time_range}&${datasource:queryparam}"
)
OF_SERIES = "/d/driftline-feature?var-feature=${__field.labels.feature}&${model:queryparam}&${__url_time_range}&${datasource:queryparam}"
WINDOWS = "${driftline}/models/${model}?from=${__from}&to=${__to}"


def model() -> dashboard.Dashboard:
    made = board("model", "Model", "One model: what its newest windows say of every feature.")
    made = made.with_variable(chosen("model", "Model", MODEL)).with_variable(top(10, 25, 50)).with_variable(service())
    made = annotations(made)
    made = made.link(_own_page())
    for panel in _figures():
        made = made.with_panel(panel)
    worst = f"topk($top, max by (feature) (max_over_time(driftline_drift_severity{{{ONE}}}[$__range] @ end())))"
    made = made.with_panel(
        p.timeline(
            "Decisions by feature",
            "Of the features that were worst in this range. Names in double underscores are the whole model: scores, rows.",
            f"max by (feature) (driftline_drift_severity{{{ONE}}}) and on (feature) {worst}",
            "{{feature}}",
        ).data_links([dashboard.DashboardLink("Open the feature").url(OF_SERIES)])
    )
    made = made.with_panel(_table())
    made = made.with_panel(
        p.bars(
            "Largest drift", "Distance in units of the threshold in force: 1 is the threshold, and a bar ends at 2.",
            f"sort_desc(topk(10, {EXCESS}))", "{{feature}}", high=2,
        )
    )  # fmt: skip
    made = made.with_panel(
        p.lines(
            "Drift over time", "Distance in units of the threshold, of the features that have moved most.",
            p.query(f"topk($top, {EXCESS})", "{{feature}}"), unit="none", decimals=2, height=9,
        ).thresholds(p.steps((None, "transparent"), (1, p.RED))).thresholds_style(_dashed())
    )  # fmt: skip
    return made.with_panel(_quality()).with_panel(_states()).with_panel(_traffic()).with_panel(_rows())


def _own_page() -> dashboard.DashboardLink:
    made = dashboard.DashboardLink("Windows of this model").url(WINDOWS).icon("doc").target_blank(True)
    return made.type(p.dm.DashboardLinkType.LINK).tooltip("Every window, with its verdicts in words")


def _dashed() -> p.common.GraphThresholdsStyleConfig:
    return p.common.GraphThresholdsStyleConfig().mode(p.cm.GraphThresholdsStyleMode.DASHED)


def _figures() -> list[p.stat.Panel]:
    end = f"max(driftline_window_end_timestamp_seconds{{{ONE}}})"
    return [
        p.figure(
            "State", "The worst decision on any feature, metric or detector.", f"max({p.SEVERITY})", limits=p.BY_SEVERITY, words=p.severity_words(), width=3,
        ),
        p.figure(
            "Within limits", "Share of this range without a critical decision on any feature, metric or detector: what an objective is held against.",
            f"avg_over_time(((max by (model) ({{{p.DECISIONS}, {ONE}}})) < bool 2)[$__range:])", unit="percentunit", decimals=1,
            limits=p.steps((None, p.RED), (0.95, p.ORANGE), (0.99, p.GREEN)), width=4,
        ),
        p.figure(
            "Drifting", "Features in state warning or critical.",
            f'sum(max by (state) (driftline_drift_features{{{ONE}, state=~"warning|critical"}}))', limits=p.ANY_IS_WARNING, width=3,
        ),
        p.figure(
            "Active alerts", "Alerts of the service that fire now.", f"sum(max by (severity) (driftline_alerts_active{{{ONE}}}))",
            limits=p.ANY_IS_WARNING, width=3,
        ),
        p.figure("Window age", "Since the newest window ended, by the service's own clock.", f"{p.CLOCK} - {end}", unit="s", decimals=0),
        p.figure("Reference age", "Since the reference was built.", f"{p.CLOCK} - max(driftline_baseline_created_timestamp_seconds{{{ONE}}})", unit="s", decimals=0, width=4),
        p.figure(
            "Version", "Versions whose windows are in use.", f"max by (model_version, task) (driftline_model_info{{{ONE}}})",
            legend="{{model_version}} · {{task}}", name=True, width=3,
        ),
    ]  # fmt: skip


def _table() -> p.table.Panel:
    queries = {
        "State": f"max by (feature) (driftline_drift_severity{{{ONE}}})",
        "Distance": SCORE,
        "Threshold": f"max by (feature) (driftline_drift_threshold{{{ONE}}})",
        "Missing": f"max by (feature) (driftline_feature_missing_ratio{{{ONE}}})",
        "Absent": f"max by (feature) (driftline_feature_absent_ratio{{{ONE}}})",
        "Invalid": f"max by (feature) (driftline_feature_invalid_ratio{{{ONE}}})",
        "Out of range": f"max by (feature) (driftline_feature_out_of_range_ratio{{{ONE}}})",
        "Unseen": f"max by (feature) (driftline_feature_unseen_category_ratio{{{ONE}}})",
    }
    shares = dict.fromkeys(
        ("Missing", "Absent", "Invalid", "Out of range", "Unseen"), tuple(p.unit_cell("percentunit", 1))
    )
    shown = {
        "Feature": [p.link_cell("Open the feature", FEATURE_PAGE), p.property_of("custom.width", 240)],
        "State": p.severity_cell(),
        "Distance": p.unit_cell("none", 3),
        "Threshold": p.unit_cell("none", 3),
        **shares,
    }
    return p.columns(
        "Features", "The newest window, the worst first. Distances are in standard deviations of the reference. Where the series budget is spent only the features nearest to their threshold are here. Click a name.",
        queries, by="feature", sort="State", shown=shown, labels={"feature": "Feature"}, height=9,
    )  # fmt: skip


def _quality() -> p.timeseries.Panel:
    kinds = ("missing", "absent", "invalid", "out_of_range", "unseen_category")
    queries = [
        p.query(
            f"max(driftline_feature_{kind}_ratio{{{ONE}}})",
            kind.replace("_", " "),
            ref=chr(ord("A") + i),
        )
        for i, kind in enumerate(kinds)
    ]
    return p.lines(
        "Data quality",
        "The largest share of any feature: a fault in one is enough.",
        *queries,
        unit="percentunit",
        decimals=1,
    )


def _states() -> p.timeseries.Panel:
    made = p.lines(
        "Features by state", "Every feature is counted here, also those whose series are suppressed.",
        p.query(f"max by (state) (driftline_drift_features{{{ONE}}})", "{{state}}"), stacked=True, decimals=0,
    )  # fmt: skip
    colours = {"critical": p.RED, "warning": p.ORANGE, "ok": p.GREEN, "insufficient_data": p.GREY}
    return p.coloured(made, colours)


def _traffic() -> p.timeseries.Panel:
    return p.lines(
        "Events", "Accepted and late events per second. Late ones are left out of their windows.",
        p.query(f"sum by (kind, result) (rate(driftline_events_total{{{ONE}}}[$__rate_interval]))", "{{kind}} {{result}}"), unit=p.EVENTS,
    )  # fmt: skip


def _rows() -> p.timeseries.Panel:
    return p.lines(
        "Rows of the newest window", "What verdicts stand on.",
        p.query(f'max by (model_version, kind) (driftline_window_rows{{{ONE}, kind!="volume"}})', "{{kind}} · version {{model_version}}"),
    )  # fmt: skip
