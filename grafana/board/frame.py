"""What all boards share: how they are named, which variables they have, where they lead, what is written across their time axes."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as dm

from grafana.board.parts import BLUE, RED, SOURCE

TAG = "driftline"
BUILT_IN = dm.DataSourceRef(type_val="grafana", uid="-- Grafana --")


def board(uid: str, title: str, about: str, *, span: str = "now-24h") -> dashboard.Dashboard:
    return (
        dashboard.Dashboard(f"Driftline / {title}")
        .uid(f"driftline-{uid}")
        .description(about)
        .tags([TAG])
        .timezone("browser")
        .time(span, "now")
        .refresh("1m")
        .readonly()
        .tooltip(dm.DashboardCursorSync.CROSSHAIR)
        .timepicker(dashboard.TimePicker().refresh_intervals(["5s", "15s", "1m", "5m", "15m", "1h"]))
        .link(
            dashboard.DashboardLink("Driftline")
            .type(dm.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
            .icon("external link")
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )


def chosen(name: str, label: str, values: str, *, several: bool = False, regex: str = "") -> dashboard.QueryVariable:
    """A choice among the values of a label; with `several` more than one, and all of them to begin with."""
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .query({"query": f"label_values({values})", "refId": name})
        .datasource(SOURCE)
        .refresh(dm.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dm.VariableSort.ALPHABETICAL_ASC)
    )
    if regex:
        made = made.regex(regex)
    if not several:
        return made
    everything = dm.VariableOption(text=["All"], value=["$__all"], selected=True)
    return made.multi(True).include_all(True).all_value(".*").current(everything)


MODEL = "driftline_model_info, model"


def top(*counts: int) -> dashboard.CustomVariable:
    first = dm.VariableOption(text=str(counts[0]), value=str(counts[0]), selected=True)
    others = [dm.VariableOption(text=str(count), value=str(count), selected=False) for count in counts[1:]]
    made = dashboard.CustomVariable("top").label("Show").values(", ".join(map(str, counts))).current(first)
    return made.options([first, *others])


def service() -> dashboard.TextBoxVariable:
    """Where Driftline's own pages are: links from here lead to their windows."""
    address = dm.VariableOption(text="http://127.0.0.1:8080", value="http://127.0.0.1:8080", selected=True)
    made = dashboard.TextBoxVariable("driftline").label("Driftline").default_value("http://127.0.0.1:8080")
    return made.current(address).options([address])


def annotations(
    board: dashboard.Dashboard, names: Sequence[str] = ("version", "alert", "retraining")
) -> dashboard.Dashboard:
    """Vertical lines where a model version appeared, an alert began, a retraining was asked for."""
    known = {
        "version": (
            "Model versions", BLUE, "{{model}} {{model_version}}", "new version",
            'driftline_model_info{model=~"$model"} unless driftline_model_info{model=~"$model"} offset 1m',
        ),
        "alert": (
            "Critical alerts", RED, "{{model}} {{monitor}}", "alert",
            'sum by (model, monitor) (increase(driftline_alert_episodes_total{model=~"$model", severity="critical"}[1m])) > 0',
        ),
        "retraining": (
            "Retraining", "purple", "{{model}}", "retraining",
            'max by (model) (changes(driftline_retrain_last_trigger_timestamp_seconds{model=~"$model"}[1m])) > 0',
        ),
    }  # fmt: skip
    for name in names:
        label, color, text, title, expr = known[name]
        board = board.annotation(_Annotation(label, color, expr, title, text))
    return board


class _Annotation(dashboard.AnnotationQuery):
    """A query of Prometheus: the SDK knows the fields that every data source shares, not these."""

    def __init__(self, name: str, color: str, expr: str, title: str, text: str) -> None:
        super().__init__()
        self.name(name).datasource(SOURCE).enable(True).icon_color(color).expr(expr)
        self.title_format, self.text_format = title, text

    def build(self) -> dm.AnnotationQuery:
        made = super().build()
        made.to_json = lambda: dm.AnnotationQuery.to_json(made) | {
            "titleFormat": self.title_format, "textFormat": self.text_format, "step": "1m", "useValueForTime": False,
        }  # fmt: skip
        return made
