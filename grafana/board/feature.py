"""One feature of one model: its distance against the threshold that was in force, its data quality, and the same name in other models."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.board import parts as p
from grafana.board.frame import MODEL, annotations, board, chosen, service
from grafana.board.model import WINDOWS

ONE = 'model=~"$model", feature=~"$feature"'
EXCESS = "max by (%s) (driftline_drift_score{%s}) / max by (%s) (driftline_drift_threshold{%s})"


def feature() -> dashboard.Dashboard:
    made = board("feature", "Feature", "One feature: its distance from the reference against the threshold in force.")
    made = made.with_variable(chosen("model", "Model", MODEL))
    made = made.with_variable(chosen("feature", "Feature", 'driftline_drift_score{model=~"$model"}, feature'))
    made = annotations(made.with_variable(service()))
    for panel in _figures():
        made = made.with_panel(panel)
    made = made.with_panel(_score()).with_panel(
        p.timeline(
            "Decisions by version", "Versions that serve side by side are judged apart.",
            f"max by (model_version) (driftline_drift_severity{{{ONE}}})", "version {{model_version}}", height=4,
        )
    )  # fmt: skip
    made = made.with_panel(_quality())
    return made.with_panel(
        p.bars(
            "The same name in other models", "A shared source that breaks moves it everywhere. Distance in units of the threshold; a bar ends at 2.",
            "sort_desc(topk(8, %s))" % (EXCESS % ("model", 'feature=~"$feature"', "model", 'feature=~"$feature"')),
            "{{model}}", height=8, high=2,
        )
    )  # fmt: skip


def _figures() -> list[p.stat.Panel]:
    return [
        p.figure(
            "State", "The decision on this feature, the worst of all checks.", f"max(driftline_drift_severity{{{ONE}}})", limits=p.BY_SEVERITY,
            words=p.severity_words(),
        ),
        p.figure("Distance", "From the reference, in standard deviations.", f"max(driftline_drift_score{{{ONE}}})", unit="none", decimals=3),
        p.figure("Threshold", "From which on it counts as drift.", f"max(driftline_drift_threshold{{{ONE}}})", unit="none", decimals=3),
        p.figure(
            "Distance / threshold", "From 1 on it counts, if there is evidence too.", f"max(driftline_drift_score{{{ONE}}}) / max(driftline_drift_threshold{{{ONE}}})",
            unit="none", decimals=2, limits=p.BY_EXCESS,
        ),
        p.figure(
            "Worst share", "The largest of missing, absent, invalid, out of range and unseen.",
            'max({__name__=~"driftline_feature_(missing|absent|invalid|out_of_range|unseen_category)_ratio", %s}) or vector(0)' % ONE,
            unit="percentunit", decimals=1,
        ),
        p.figure("Rows", "In the newest window.", 'max(driftline_window_rows{model=~"$model", kind="drift"})'),
    ]  # fmt: skip


def _score() -> p.timeseries.Panel:
    made = p.lines(
        "Distance from the reference",
        "In standard deviations, with the threshold that was in force: it depends on the rows of the window.",
        p.query(f"max by (model_version, detector) (driftline_drift_score{{{ONE}}})", "{{detector}} · version {{model_version}}"),
        p.query(f"max(driftline_drift_threshold{{{ONE}}})", "threshold", ref="B"),
        unit="none", decimals=3, width=24, height=10, calcs=("lastNotNull", "max"),
    )  # fmt: skip
    made = made.override_by_name("threshold", [p.fixed(p.RED), p.DASHED, p.property_of("custom.fillOpacity", 0)])
    return made.data_links([dashboard.DashboardLink("Windows of this model").url(WINDOWS).target_blank(True)])


def _quality() -> p.timeseries.Panel:
    kinds = ("missing", "absent", "invalid", "out_of_range", "unseen_category")
    queries = [
        p.query(f"max(driftline_feature_{kind}_ratio{{{ONE}}})", kind.replace("_", " "), ref=chr(ord("A") + i))
        for i, kind in enumerate(kinds)
    ]
    return p.lines("Data quality", "Shares of the newest window's rows.", *queries, unit="percentunit", decimals=1)
