"""What every board is put together from: queries, panels, variables, links. One look, decided here.

Colours say severity and nothing else: green ok, orange warning, red critical, blue a figure without a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import text as text_panel
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as dm
from grafana_foundation_sdk.models import heatmap as hm
from grafana_foundation_sdk.models import prometheus as pm

EVENTS = "cps"  # the unit of rates: counts per second
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"
SOURCE = dm.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Every decision there is on a model; a model without any is quiet.
DECISIONS = '__name__=~"driftline_drift_severity|driftline_performance_severity|driftline_concept_drift_severity"'
SEVERITY = (
    'max by (model) ({%s, model=~"$model"}) or 0 * max by (model) (driftline_model_info{model=~"$model"})' % DECISIONS
)
CLOCK = "scalar(max(driftline_clock_timestamp_seconds))"
# Beside a histogram without any series: Grafana 10 takes an empty heat map for an error.
_NO_BUCKET = 'label_replace(vector(0), "le", "+Inf", "", "")'


def query(
    expr: str, legend: str = "", *, ref: str = "A", instant: bool = False, as_table: bool = False, heat: bool = False
) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(" ".join(expr.split())).ref_id(ref).datasource(SOURCE)
    made = made.legend_format(legend or "__auto")
    if heat:
        made = made.format(pm.PromQueryFormat.HEATMAP)
    if as_table:
        return made.instant().format(pm.PromQueryFormat.TABLE)
    return made.instant() if instant else made.range()


def steps(*limits: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    thresholds = [dm.Threshold(value=value, color=color) for value, color in limits]
    return dashboard.ThresholdsConfig().mode(dm.ThresholdsMode.ABSOLUTE).steps(thresholds)


PLAIN = steps((None, BLUE))
ANY_IS_BAD = steps((None, GREEN), (1, RED))
ANY_IS_WARNING = steps((None, GREEN), (1, ORANGE))
BY_SEVERITY = steps((None, GREEN), (1, ORANGE), (2, RED))
BY_EXCESS = steps((None, GREEN), (0.8, ORANGE), (1, RED))


def severity_words() -> list[dm.ValueMapping]:
    words = {"0": ("ok", GREEN), "1": ("warning", ORANGE), "2": ("critical", RED)}
    options = {
        value: dm.ValueMappingResult(text=word, color=color, index=int(value)) for value, (word, color) in words.items()
    }
    return [dm.ValueMap(options=options)]


def figure(
    title: str, about: str, expr: str, *, unit: str = "short", limits: dashboard.ThresholdsConfig = PLAIN, decimals: int | None = None,
    words: list[dm.ValueMapping] | None = None, legend: str = "", name: bool = False, spark: bool = False, width: int = 4, height: int = 4,
    nothing: str = "none",
) -> stat.Panel:  # fmt: skip
    """One number (or, with `name`, the text of a series' legend)."""
    made = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(query(expr, legend, instant=not spark))
        .unit(unit)
        .thresholds(limits)
        .color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.THRESHOLDS))
        .graph_mode(cm.BigValueGraphMode.AREA if spark else cm.BigValueGraphMode.NONE)
        .color_mode(cm.BigValueColorMode.VALUE)
        .justify_mode(cm.BigValueJustifyMode.CENTER)
        .text_mode(cm.BigValueTextMode.NAME if name else cm.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value(nothing)
        .span(width)
        .height(height)
    )
    if decimals is not None:
        made = made.decimals(decimals)
    return made.mappings(words) if words else made


def _legend(rows: int, calcs: Sequence[str]) -> common.VizLegendOptions:
    made = common.VizLegendOptions().show_legend(True).placement(cm.LegendPlacement.BOTTOM).calcs(list(calcs))
    return made.display_mode(cm.LegendDisplayMode.TABLE if rows else cm.LegendDisplayMode.LIST)


def lines(
    title: str, about: str, *queries: prometheus.Dataquery, unit: str = "short", width: int = 12, height: int = 8, low: float | None = 0,
    high: float | None = None, stacked: bool = False, bars: bool = False, calcs: Sequence[str] = (), decimals: int | None = None,
) -> timeseries.Panel:  # fmt: skip
    """Lines over time. Steps, not slopes: a window's verdict holds until the next one."""
    made = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .line_width(1 if stacked or bars else 2)
        .fill_opacity(70 if bars else 35 if stacked else 0)
        .line_interpolation(cm.LineInterpolation.STEP_AFTER)
        .draw_style(cm.GraphDrawStyle.BARS if bars else cm.GraphDrawStyle.LINE)
        .show_points(cm.VisibilityMode.NEVER)
        .span_nulls(False)
        .color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(PLAIN)
        .legend(_legend(len(calcs), calcs))
        .tooltip(common.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI).sort(cm.SortOrder.DESCENDING))
        .span(width)
        .height(height)
    )
    for one in queries:
        made = made.with_target(one)
    made = made if low is None else made.min(low)
    made = made if high is None else made.max(high)
    decimals = 1 if decimals is None and unit == "s" else decimals
    made = made if decimals is None else made.decimals(decimals)
    if stacked:
        made = made.stacking(common.StackingConfig().mode(cm.StackingMode.NORMAL).group("A"))
    return made


def coloured(panel: timeseries.Panel, colours: Mapping[str, str]) -> timeseries.Panel:
    """Fixed colours by a series' name."""
    for name, color in colours.items():
        panel = panel.override_by_name(name, [fixed(color)])
    return panel


def fixed(color: str) -> dm.DynamicConfigValue:
    return dm.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})


def property_of(name: str, value: object) -> dm.DynamicConfigValue:
    return dm.DynamicConfigValue(id_val=name, value=value)


DASHED = property_of("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
DOTTED = property_of("custom.lineStyle", {"fill": "dot", "dash": [2, 6]})
THIN = property_of("custom.lineWidth", 1)
NO_LINE = property_of("custom.lineWidth", 0)
HIDDEN_IN_LEGEND = property_of("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})


def timeline(
    title: str, about: str, expr: str, legend: str, *, width: int = 24, height: int = 9
) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(query(expr, legend))
        .unit("short")
        .mappings(severity_words())
        .thresholds(BY_SEVERITY)
        .color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.FIXED).fixed_color(GREY))
        .show_value(cm.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.85)
        .line_width(0)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(cm.LegendDisplayMode.LIST).placement(cm.LegendPlacement.BOTTOM).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(cm.TooltipDisplayMode.SINGLE).sort(cm.SortOrder.NONE))
        .span(width)
        .height(height)
    )  # fmt: skip


def bars(title: str, about: str, expr: str, legend: str, *, unit: str = "short", limits: dashboard.ThresholdsConfig = BY_EXCESS, width: int = 12,
         height: int = 9, decimals: int = 2, high: float | None = None) -> bargauge.Panel:  # fmt: skip
    # A single bar has no name of its own unless the field is given one.
    shown_name = re.sub(r"\{\{(\w+)\}\}", r"${__field.labels.\1}", legend)
    made = (
        bargauge.Panel()
        .title(title)
        .display_name(shown_name)
        .description(about)
        .datasource(SOURCE)
        .with_target(query(expr, legend, instant=True))
        .unit(unit)
        .decimals(decimals)
        .min(0)
        .thresholds(limits)
        .color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.THRESHOLDS))
        .display_mode(cm.BarGaugeDisplayMode.BASIC)
        .orientation(cm.VizOrientation.HORIZONTAL)
        .show_unfilled(True)
        .text(common.VizTextDisplayOptions().title_size(13).value_size(18))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .span(width)
        .height(height)
    )
    return made if high is None else made.max(high)


def heat(title: str, about: str, buckets: str, *, width: int = 12, height: int = 8, unit: str = "s") -> heatmap.Panel:
    """How often each bucket was met. `buckets` selects the series of a histogram."""
    expr = f"sum by (le) (increase({buckets}[$__rate_interval]))"
    # Only where there is none in the whole range: Grafana subtracts bucket from bucket by place, not by time, so all need the same times.
    nothing = f"({_NO_BUCKET} unless on () count(count_over_time({buckets}[$__range] @ end())))"
    return (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(query(f"{expr} or {nothing}", "{{le}}", heat=True))
        .unit("short")
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(cm.AxisPlacement.LEFT))
        .color(heatmap.HeatmapColorOptions().mode(hm.HeatmapColorMode.SCHEME).scheme("Blues").steps(32).exponent(0.5).fill("dark-blue"))
        .cell_gap(1)
        .show_legend()
        .span(width)
        .height(height)
    )  # fmt: skip


def columns(
    title: str, about: str, queries: Mapping[str, str], *, by: str, width: int = 24, height: int = 10, sort: str, shown: Mapping[str, Sequence[dm.DynamicConfigValue]],
    labels: Mapping[str, str], hidden: Sequence[str] = (),
) -> table.Panel:  # fmt: skip
    """A table with a row for each value of the label `by`: `labels` (label -> heading) and then a column for each query, by its heading."""
    made = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit("short")
        .filterable(False)
        .thresholds(PLAIN)
        .color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.THRESHOLDS))
        .cell_height(cm.TableCellHeight.SM)
        .footer(common.TableFooterOptions().show(False).count_rows(False).reducer([]).enable_pagination(True))
        .span(width)
        .height(height)
    )
    order, rename = dict.fromkeys(labels, 0), dict(labels)
    for i, (heading, expr) in enumerate(queries.items()):
        ref = chr(ord("A") + i)
        made = made.with_target(query(expr, ref=ref, as_table=True))
        value = f"Value #{ref}" if len(queries) > 1 else "Value"
        order[value], rename[value] = 0, heading
    order = {name: place for place, name in enumerate(order)}
    if len(queries) > 1:
        made = made.with_transformation(
            dm.DataTransformerConfig(id_val="joinByField", options={"byField": by, "mode": "outer"})
        )
    times = {"Time": True} | {f"Time {i}": True for i in range(1, len(queries) + 1)} | dict.fromkeys(hidden, True)
    organize = {"excludeByName": times, "indexByName": order, "renameByName": rename}
    made = made.with_transformation(dm.DataTransformerConfig(id_val="organize", options=organize))
    made = made.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    filterable = property_of("custom.filterable", True)
    for heading in dict.fromkeys([*labels.values(), *shown]):
        own = [filterable] if heading in labels.values() else []
        made = made.override_by_name(heading, [*own, *shown.get(heading, ())])
    return made


def severity_cell() -> list[dm.DynamicConfigValue]:
    limits = [{"value": None, "color": GREEN}, {"value": 1, "color": ORANGE}, {"value": 2, "color": RED}]
    words = {
        "0": {"text": "ok", "color": GREEN},
        "1": {"text": "warning", "color": ORANGE},
        "2": {"text": "critical", "color": RED},
    }
    return [
        property_of("mappings", [{"type": "value", "options": {k: v | {"index": int(k)} for k, v in words.items()}}]),
        property_of("thresholds", {"mode": "absolute", "steps": limits}),
        property_of("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
        property_of("custom.width", 90),
    ]  # fmt: skip


def limit_cell(
    *limits: tuple[float | None, str], unit: str = "short", width: int | None = None
) -> list[dm.DynamicConfigValue]:
    made = [
        property_of("thresholds", {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in limits]}),
        property_of("custom.cellOptions", {"type": "color-text"}),
        property_of("unit", unit),
    ]  # fmt: skip
    return made if width is None else [*made, property_of("custom.width", width)]


def unit_cell(unit: str, decimals: int | None = None) -> list[dm.DynamicConfigValue]:
    made = [property_of("unit", unit)]
    return made if decimals is None else [*made, property_of("decimals", decimals)]


def link_cell(title: str, url: str) -> dm.DynamicConfigValue:
    return property_of("links", [{"title": title, "url": url, "targetBlank": False}])


def words(
    content: str, *, width: int = 24, height: int = 3, title: str = "", about: str = "Where to look next."
) -> text_panel.Panel:
    return (
        text_panel.Panel()
        .title(title)
        .description(about)
        .content(content)
        .mode("markdown")
        .transparent(True)
        .span(width)
        .height(height)
    )


def row(title: str) -> dashboard.Row:
    return dashboard.Row(title)
