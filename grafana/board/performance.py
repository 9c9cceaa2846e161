"""How good a model is, from labels and before they come; how labels come; and whether they still follow the predictions."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.board import parts as p
from grafana.board.frame import annotations, board, chosen, service

ONE = 'model=~"$model"'
METRIC = f'{ONE}, metric=~"$metric"'
NOT_LABELS = f'{ONE}, metric!="__labels__"'


def performance() -> dashboard.Dashboard:
    made = board(
        "performance", "Performance and labels", "How good the model is, and how far labels can be trusted to tell."
    )
    made = made.with_variable(chosen("model", "Model", "driftline_performance_severity, model"))
    made = made.with_variable(chosen("metric", "Metric", f"driftline_performance_value{{{ONE}}}, metric"))
    made = annotations(made.with_variable(service()))
    for panel in _figures():
        made = made.with_panel(panel)
    made = made.with_panel(_value()).with_panel(_table())
    made = made.with_panel(_coverage()).with_panel(_delays())
    made = made.with_panel(_concept()).with_panel(
        p.timeline(
            "Detectors of concept drift", "Open alarms. They read losses in the order in which labels come.",
            f"max by (detector) (driftline_concept_drift_severity{{{ONE}}})", "{{detector}}", width=12, height=8,
        )
    )  # fmt: skip
    return made.with_panel(_outcomes()).with_panel(_join()).with_panel(_delay_heat()).with_panel(_kept())


def _figures() -> list[p.stat.Panel]:
    end = f'max(driftline_performance_window_end_timestamp_seconds{{{ONE}, kind="realised"}})'
    return [
        p.figure(
            "State", "The worst decision on any metric.", f"max(driftline_performance_severity{{{NOT_LABELS}}})", limits=p.BY_SEVERITY, words=p.severity_words()
        ),
        p.figure("Realised", "The chosen metric, from labels.", f'max(driftline_performance_value{{{METRIC}, kind="realised"}})', unit="none", decimals=3),
        p.figure("Reference", "The same metric on the reference.", f"max(driftline_performance_baseline_value{{{METRIC}}})", unit="none", decimals=3),
        p.figure("Age of the judgement", "Since the newest window that labels have judged ended. Labels come late.", f"{p.CLOCK} - {end}", unit="s", decimals=0),
        p.figure("Labelled rows", "Behind the realised figures.", f"max(driftline_performance_labelled_rows{{{ONE}}})"),
        p.figure(
            "Labels", "Do labels come as usual, and do they stand for all rows?", f'max(driftline_performance_severity{{{ONE}, metric="__labels__"}})',
            limits=p.BY_SEVERITY, words=p.severity_words(),
        ),
    ]  # fmt: skip


def _value() -> p.timeseries.Panel:
    bound = 'max(driftline_performance_bound{%s, kind="realised", bound="%s"})'
    made = p.lines(
        "$metric",
        "Realised from labels, with its 95 % interval; estimated without labels where that is possible; against the reference and the value from which it counts as a loss.",
        p.query(f"max by (kind) (driftline_performance_value{{{METRIC}}})", "{{kind}}"),
        p.query(bound % (METRIC, "lower"), "lower", ref="B"),
        p.query(bound % (METRIC, "upper"), "upper", ref="C"),
        p.query(f"max(driftline_performance_baseline_value{{{METRIC}}})", "reference", ref="D"),
        p.query(f"max(driftline_performance_threshold_value{{{METRIC}}})", "limit", ref="E"),
        unit="none", decimals=3, width=12, height=11, low=None,
    )  # fmt: skip
    band = [p.fixed(p.BLUE), p.NO_LINE, p.HIDDEN_IN_LEGEND]
    made = made.override_by_name("lower", [*band, p.property_of("custom.fillOpacity", 0)])
    made = made.override_by_name(
        "upper", [*band, p.property_of("custom.fillBelowTo", "lower"), p.property_of("custom.fillOpacity", 18)]
    )
    flat = p.property_of("custom.fillOpacity", 0)
    made = made.override_by_name("realised", [p.fixed(p.BLUE), flat])
    made = made.override_by_name("estimated", [p.fixed("purple"), p.DOTTED, flat])
    made = made.override_by_name("reference", [p.fixed(p.GREY), p.DASHED, flat, p.THIN])
    return made.override_by_name("limit", [p.fixed(p.RED), p.DASHED, flat, p.THIN])


def _table() -> p.table.Panel:
    by = "max by (metric) (driftline_performance_%s)"
    queries = {
        "State": f"max by (metric) (driftline_performance_severity{{{NOT_LABELS}}})",
        "Realised": by % f'value{{{ONE}, kind="realised"}}',
        "From": by % f'bound{{{ONE}, kind="realised", bound="lower"}}',
        "To": by % f'bound{{{ONE}, kind="realised", bound="upper"}}',
        "Reference": by % f"baseline_value{{{ONE}}}",
        "Limit": by % f"threshold_value{{{ONE}}}",
    }
    number = (*p.unit_cell("none", 3), p.property_of("custom.width", 88))
    numbers = dict.fromkeys(("Realised", "From", "To", "Reference", "Limit"), number)
    return p.columns(
        "Every metric", "The newest window that labels have judged, the worst first, with 95 % intervals.", queries, by="metric", sort="State",
        shown={"State": p.severity_cell(), **numbers}, labels={"metric": "Metric"}, width=12, height=11,
    )  # fmt: skip


def _coverage() -> p.timeseries.Panel:
    return p.lines(
        "Label coverage", "Share of labelled predictions: in the newest window that labels have judged, and in windows old enough to have them all.",
        p.query(f"max(driftline_label_coverage_ratio{{{ONE}}})", "newest judged window"),
        p.query(f"max(driftline_label_final_coverage_ratio{{{ONE}}})", "in the end", ref="B"),
        unit="percentunit", high=1,
    )  # fmt: skip


def _delays() -> p.timeseries.Panel:
    return p.lines(
        "Label delay", "Time within which 50, 90 and 99 % of the labels came.",
        p.query(f"max by (percentile) (driftline_label_delay_seconds{{{ONE}}})", "{{percentile}} %"), unit="s",
    )  # fmt: skip


def _concept() -> p.timeseries.Panel:
    made = p.lines(
        "Loss in the order of arrival", "Mean loss of the labels that came in a window, against the reference and what is tolerated.",
        p.query(f"max(driftline_concept_loss_ratio{{{ONE}}})", "loss"),
        p.query(f"max(driftline_concept_baseline_loss_ratio{{{ONE}}})", "reference", ref="B"),
        p.query(f"max(driftline_concept_tolerated_loss_ratio{{{ONE}}})", "tolerated", ref="C"),
        unit="percentunit", decimals=1,
    )  # fmt: skip
    flat = p.property_of("custom.fillOpacity", 0)
    made = made.override_by_name("loss", [p.fixed(p.BLUE)])
    made = made.override_by_name("reference", [p.fixed(p.GREY), p.DASHED, p.THIN, flat])
    return made.override_by_name("tolerated", [p.fixed(p.RED), p.DASHED, p.THIN, flat])


def _outcomes() -> p.timeseries.Panel:
    return p.lines(
        "Outcomes", "Outcomes read per second.",
        p.query(f'sum by (model) (rate(driftline_events_total{{{ONE}, kind="outcome"}}[$__rate_interval]))', "{{model}}"), unit=p.EVENTS,
    )  # fmt: skip


def _join() -> p.timeseries.Panel:
    return p.lines(
        "Joining, all models", "What came of events that were joined: pairs made, copies, corrections, outcomes without a prediction (orphans).",
        p.query("sum by (result) (rate(driftline_join_events_total[$__rate_interval]))", "{{result}}"), unit=p.EVENTS,
    )  # fmt: skip


def _delay_heat() -> p.heatmap.Panel:
    return p.heat(
        "Delay of outcomes", "Time from a prediction to its outcome, of the pairs made.",
        f"driftline_outcome_delay_seconds_bucket{{{ONE}}}",
    )  # fmt: skip


def _kept() -> p.timeseries.Panel:
    made = p.lines(
        "Kept to be joined, all models", "Rows of the join, their space, and rows forgotten at the end of their retention per second.",
        p.query("max(driftline_join_rows)", "rows"),
        p.query("max(driftline_join_bytes)", "space", ref="B"),
        p.query("sum(rate(driftline_join_expired_total[$__rate_interval]))", "forgotten per second", ref="C"),
    )  # fmt: skip
    right = [p.property_of("unit", "bytes"), p.property_of("custom.axisPlacement", "right")]
    return made.override_by_name("space", right)
