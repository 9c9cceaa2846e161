"""An explanation for people: the object of `monitor.explain` on a terminal, the most important first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from alerts.message import span
from monitor.results import Object
from monitor.show import COLOURS

OTHERS_SHOWN = 8
_KINDS = {"mix": "other values are more frequent", "rate": "wrong more often at the same values"}


def show_explanation(told: Object, console: Console | None = None) -> None:
    """Print it. Sections without anything to say are left out; who was told is always said."""
    out = console or Console(highlight=False)
    out.print(_headline(told["alert"]))
    out.print(Padding(escape(_said(told)), (0, 0, 1, 2)))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, text in _facts(told):
        facts.add_row(label, escape(text))
    out.print(facts)
    for title, table in (
        ("Windows (UTC)", _windows(told["windows"])),
        ("Transitions (UTC)", _history(told["history"])),
        ("In the same incident", _others(told["others"])),
        ("Who was told (UTC)", _people(told["told"])),
        ("Seen by (UTC)", _seen(told["acknowledgements"])),
        ("Retraining (UTC)", _retraining(told["retraining"])),
    ):
        if table.row_count:
            out.print(f"\n[bold]{title}[/bold]")
            out.print(Padding(table, (0, 0, 0, 2)))
    if not told["told"]:
        out.print(
            "\n[bold]Who was told[/bold]\n  no receiver, so far: no route fits it, or its turn has not come (the log has every transition)"
        )


def _headline(alert: Object) -> str:
    colour = COLOURS.get(alert["status"], "bold")
    version = f" {alert['version']}" if alert["version"] else ""
    where = f" [{_pairs(alert['segment'])}]" if alert["segment"] else ""
    name = escape(f"{alert['model']}{version}{where}: {alert['subject']} ({alert['monitor']})")
    return f"[{colour}]{alert['status'].upper()}[/{colour}] {alert['severity']}  [bold]{name}[/bold]  [dim]{alert['id']}[/dim]"


def _said(told: Object) -> str:
    finding = told["finding"]
    return str(told["alert"]["text"] if finding is None else finding["text"])


def _facts(told: Object) -> Iterable[tuple[str, str]]:
    alert = told["alert"]
    over = f", over since {_minute(alert['ends_at'])}" if alert["ends_at"] else ""
    lasted = span(int(told["lasted_seconds"] * 1000))
    yield "Since", f"{_minute(alert['starts_at'])} UTC, for {lasted}{over}"
    if told["finding"] is not None:
        yield "How sure", _sure(told["finding"])
    yield "Performance", "\n".join(_performance(told["performance"]))
    if told["cause"]:
        yield "Likely cause", told["cause"]
    if told["action"]:
        yield "What to do", told["action"]
    yield from ((one["name"], one["url"]) for one in told["links"])


def _sure(finding: Object) -> str:
    evidence, parts = finding["evidence"], []
    if evidence["q_value"] is not None:
        parts.append(f"q {_small(evidence['q_value'])} among all that was tested in this window")
    elif evidence["p_value"] is not None:
        parts.append(f"p {_small(evidence['p_value'])}")
    days = finding["detail"].get("guarantee_days")
    if days is not None:
        parts.append(f"of such alarms at most one in {days:g} days is false")
    parts.append(f"{finding['rows']:,} rows")
    if finding["smallest_visible"] is not None:
        parts.append(
            f"{_figure(finding['smallest_visible'], finding['unit'])} would have been seen in four of five windows"
        )
    return "; ".join(parts)


def _performance(found: Object) -> Iterable[str]:
    if found["window"] is None:
        yield "not known: no window of this time has labels enough, or an estimate"
        return
    window, split = found["window"], found["split"]
    yield f"{_minute(window['start'])} to {_minute(window['end'])} ({window['status']}):"
    yield from (one["text"] for one in found["metrics"])
    if split is None:
        return
    parts = [
        f"{_signed(split[name])} by {words}"
        for name, words in (
            ("covariate", "other rows (mix)"),
            ("label", "other shares of outcomes"),
            ("concept", "other answers to the same rows (rate)"),
        )
        if split[name] is not None
    ]
    moved = f"{split['loss']} {_signed(split['rise'])} [{_signed(split['rise_low'])}, {_signed(split['rise_high'])}]"
    yield f"{moved}: {', '.join(parts)}" if parts else moved
    for one in split["features"]:
        yield f"  {one['feature']}: {_signed(one['contribution'])}, {_KINDS.get(one['kind'], one['kind'])}"
    for one in split["segments"]:
        yield (
            f"  {one['values']}: {_signed(one['contribution'])}, {split['loss']} {_number(one['loss_before'])} -> "
            f"{_number(one['loss'])} on {100 * one['share']:.3g} % of rows ({100 * one['share_before']:.3g} % before)"
        )


def _windows(windows: Iterable[Object]) -> Table:
    table = _table("start", "end", "rows", "state", "value", "95 % interval", "status")
    ended = None
    for one in windows:
        if ended is not None and one["start"] > ended:
            table.add_row("...")
        ended = one["end"]
        interval = one["interval"]
        unit = "share" if one["unit"] == "share" else None
        between = "" if interval is None else f"{_figure(interval[0], unit)} to {_figure(interval[1], unit)}"
        table.add_row(
            _minute(one["start"]), _minute(one["end"]), f"{one['rows']:,}", _coloured(one["state"]),
            "" if one["value"] is None else _figure(one["value"], one["unit"]), between, one["status"],
        )  # fmt: skip
    return table


def _history(steps: Iterable[Object]) -> Table:
    table = _table("at", "status", "severity", "reason")
    for step in steps:
        reason = step["reason"].replace("_", " ") + (" (corrected)" if step["corrected"] else "")
        table.add_row(_minute(step["at"]), _coloured(step["status"]), step["severity"], reason)
    return table


def _others(alerts: Iterable[Object]) -> Table:
    table = _table("model", "status", "what", "id")
    listed = list(alerts)
    for one in listed[:OTHERS_SHOWN]:
        where = f" [{_pairs(one['segment'])}]" if one["segment"] else ""
        table.add_row(
            escape(one["model"] + where), _coloured(one["status"]), escape(one["text"]), f"[dim]{one['id'][:10]}[/dim]"
        )
    if len(listed) > OTHERS_SHOWN:
        table.add_row("", "", f"and {len(listed) - OTHERS_SHOWN} more (`driftline alerts list`)")
    return table


def _people(told: Iterable[Object]) -> Table:
    table = _table("receiver", "at", "what became of it")
    for one in told:
        table.add_row(escape(one["receiver"]), _minute(one["at"]), escape(one["text"]))
    return table


def _seen(acknowledgements: Iterable[Object]) -> Table:
    table = _table("who", "at", "verdict", "comment")
    for one in acknowledgements:
        table.add_row(escape(one["who"]), _minute(one["at"]), one["verdict"] or "-", escape(one["comment"]))
    return table


def _retraining(found: Object) -> Table:
    table = _table("", "at", "what")
    decision, request = found["decision"], found["request"]
    if decision is not None:
        words = ": ".join(filter(None, (decision["reason"].replace("_", " "), decision["text"])))
        table.add_row("decision", _minute(decision["at"]), escape(words))
    if request is not None:
        table.add_row("request", _minute(request["at"]), escape(f"{request['id']} is {request['status']}"))
    for step in found["steps"]:
        words = ": ".join(filter(None, (step["status"], step["told"])))
        table.add_row("", _minute(step["at"]), escape(words))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in ("rows", "value") else "left", overflow="fold")
    return table


def _coloured(state: str) -> str:
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state


def _pairs(segment: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in segment.items())


def _minute(time: str) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}"


def _figure(value: float, unit: str | None) -> str:
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{_number(value)} {unit}" if unit in ("sd", "rows") else _number(value)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.2g}"


def _small(value: float) -> str:
    return "below 1e-12" if value < 1e-12 else f"= {value:.2g}"
