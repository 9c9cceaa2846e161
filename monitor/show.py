"""What the commands print that only look: for people as tables and lines, for machines as one compact object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alerts.envelope import rfc3339
from alerts.record import Record
from detectors.concept.registry import DETECTORS
from detectors.drift.pool import CHECK as POOL
from detectors.finding import Finding, State
from detectors.reference.build import decode_reference
from detectors.sentences import sentence
from monitor.closing.windows import expand
from monitor.config import Config
from monitor.decoding.timestamps import BadTimestampError, parse_time
from monitor.errors import UserError
from monitor.results import alert_object, decode_findings, quarantined_object, window_object
from monitor.store import AlertRow, Store, WindowRow
from monitor.trust import record_object, records_of

COLOURS = {
    "drift": "bold red",
    "error": "bold red",
    "warning": "yellow",
    "ok": "green",
    "firing": "bold red",
    "resolved": "green",
}


def show_windows(
    store: Store, *, model: str | None, monitor: str | None, since: str | None, revisions: bool, as_json: bool
) -> None:
    """Newest revisions in the order in which they were decided; with `revisions` the replaced and withdrawn ones too."""
    since_ms = _time(since) if since is not None else None
    rows = (
        single
        for row in store.windows(model, monitor, since_ms=since_ms, revisions=revisions)
        for single in expand(row)
    )
    if as_json:
        print_objects(window_object(row) for row in rows)
        return
    table = _table("model", "version", "monitor", "start (UTC)", "end (UTC)", "rows", "state", "status", "what moved")
    for row in rows:
        table.add_row(
            escape(row.model), escape(row.version or "-"), _monitor(row), _minute(row.start_ms), _minute(row.end_ms), f"{row.rows:,}",
            _coloured(row.state), row.status, escape(_moved(row)),
        )  # fmt: skip
    Console().print(table)


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except BadTimestampError as error:
        raise UserError(f"--since: {error}") from error


def window_line(row: WindowRow) -> str:
    """One line a person reads: when, what, how bad, and the first sentence."""
    version = f" {row.version}" if row.version else ""
    return f"{_minute(row.start_ms)}  {row.model}{version}  {row.monitor}  {row.state}: {_moved(row)}"


def alert_line(row: AlertRow) -> str:
    mark = "corrected, " if row.corrected else ""
    return f"{_minute(row.at_ms)}  {row.model}  {row.status} ({mark}{row.severity}): {row.text}"


def show_alerts(store: Store, *, history: bool, as_json: bool) -> None:
    """Alerts as they stand, or all transitions."""
    rows = list(store.alerts(history))
    if as_json:
        print_objects(alert_object(row) for row in rows)
        return
    table = _table("at (UTC)", "model", "monitor", "subject", "severity", "status", "since (UTC)", "what")
    for row in rows:
        table.add_row(
            _minute(row.at_ms), escape(row.model), row.monitor, escape(row.subject), row.severity, _coloured(row.status),
            _minute(row.starts_at_ms), escape(row.text),
        )  # fmt: skip
    Console().print(table if rows else "no alerts")


def show_quarantine(store: Store, *, limit: int | None, as_json: bool) -> None:
    rows = store.quarantine(limit)
    if as_json:
        print_objects(quarantined_object(row) for row in rows)
        return
    table = _table("topic", "partition", "offset", "reason", "detail")
    for row in rows:
        table.add_row(escape(row.topic), str(row.partition), str(row.offset), row.reason, escape(row.detail))
    Console().print(table)


def show_references(store: Store, *, as_json: bool) -> None:
    rows = store.references()
    if as_json:
        print_objects(
            {
                "type": "reference", "hash": row.hash, "model": row.model, "version": row.version or None, "rows": row.rows,
                "effective_from": _time_or_none(row.effective_from_ms), "source": row.source_path, "warnings": json.loads(row.warnings),
                "recorded_at": rfc3339(row.recorded_at_ms),
            }
            for row in rows
        )  # fmt: skip
        return
    table = _table("hash", "model", "version", "in force from (UTC)", "rows", "source", "notes")
    for row in rows:
        start = _time_or_none(row.effective_from_ms) or "the beginning"
        table.add_row(
            row.hash[:12],
            escape(row.model),
            escape(row.version or "every"),
            start,
            f"{row.rows:,}",
            escape(row.source_path),
            str(len(json.loads(row.warnings))),
        )
    Console().print(table)


def show_reference(store: Store, digest: str, *, as_json: bool) -> None:
    """One reference by its hash or the beginning of it."""
    found = [row for row in store.references() if row.hash.startswith(digest)]
    if len({row.hash for row in found}) != 1:
        raise UserError(
            f"{digest}: {'no' if not found else 'more than one'} reference (see `driftline reference list`)"
        )
    row, reference = found[0], decode_reference(found[0].payload)
    subjects = [
        {
            "subject": subject.name, "role": subject.role, "bins": subject.bins.count,
            "overdispersion": round(float(reference.dispersion[32].phi[place]), 3),
        }
        for place, subject in enumerate(reference.layout.subjects)
    ]  # fmt: skip
    if as_json:
        print_objects(
            [
                {
                    "type": "reference",
                    "hash": row.hash,
                    "model": row.model,
                    "rows": row.rows,
                    "subjects": subjects,
                    "excluded": dict(reference.excluded),
                    "warnings": json.loads(row.warnings),
                }
            ]
        )
        return
    table = _table("subject", "role", "bins", "overdispersion")
    for subject in subjects:
        table.add_row(
            escape(str(subject["subject"])), str(subject["role"]), str(subject["bins"]), str(subject["overdispersion"])
        )
    console = Console()
    console.print(
        f"{row.hash}\n{row.model}, {row.rows:,} rows, {'in time order' if reference.ordered else 'order unknown'}, from {row.source_path}"
    )
    console.print(table)
    for name, reason in sorted(reference.excluded.items()):
        console.print(f"left out [bold]{escape(name)}[/bold]: {escape(reason)}")
    for note in json.loads(row.warnings):
        console.print(f"note: {escape(note)}")


def show_status(store: Store, config: Config, *, as_json: bool) -> None:
    """Per model the state of each monitor's newest window; open alerts; what its pages were worth; partitions; what is not configured."""
    models, kept = config.models, records_of(store, config)
    newest = [row for row in store.newest_windows() if row.model in models]
    open_alerts = [row for row in store.alerts() if row.status == "firing"]
    partitions, unknown, gaps = store.partition_states(), store.unconfigured(), store.gaps()
    if as_json:
        print_objects(_status_objects(kept, newest, open_alerts))
        print_objects(
            {
                "type": "partition", "source": state.group, "topic": state.partition.topic, "partition": state.partition.partition,
                "next_offset": state.next_offset, "newest": _time_or_none(state.newest_ms), "halted": state.halted,
            }
            for state in partitions
        )  # fmt: skip
        print_objects({"type": "unconfigured", "model": row.model or None, "records": row.records} for row in unknown)
        return
    console = Console()
    table = _table("model", "version", "monitor", "newest window (UTC)", "rows", "state", "status")
    for row in newest:
        table.add_row(
            escape(row.model),
            escape(row.version or "-"),
            row.monitor,
            _minute(row.start_ms),
            f"{row.rows:,}",
            _coloured(row.state),
            row.status,
        )
    console.print(table if newest else "no windows yet")
    for alert in open_alerts:
        console.print(
            f"[bold red]firing[/bold red] since {_minute(alert.starts_at_ms)} ({alert.severity}) {escape(alert.model)}: {escape(alert.text)}"
        )
    console.print(_record_table(kept.values()))
    behind = [state for state in partitions if state.halted]
    console.print(
        f"{len(open_alerts)} alerts firing, {len(partitions)} partitions, {len(behind)} halted, {len(gaps)} gaps"
    )
    for state in behind:
        console.print(
            f"[bold red]halted[/bold red] {escape(state.partition.topic)}/{state.partition.partition}: {escape(state.halted or '')}"
        )
    if unknown:
        console.print("events of models that are not configured (paste what you want to watch):")
        console.print("models:")
        for stranger in unknown:
            console.print(
                f"  {escape(stranger.model or '(others)')}: {{reference: {{path: REFERENCE.parquet}}}}   # {stranger.records:,} events"
            )


def _status_objects(
    records: Mapping[str, Record], newest: Iterable[WindowRow], alerts: Iterable[AlertRow]
) -> Iterable[dict[str, object]]:
    rows, firing = list(newest), list(alerts)
    for name, record in records.items():
        own = [row for row in rows if row.model == name]
        yield {
            "type": "model",
            "model": name,
            "windows": [window_summary(row) for row in own],
            "alerts": [alert_object(row) for row in firing if row.model == name],
            "record": record_object(record),
        }


def _record_table(records: Iterable[Record]) -> Table:
    """What people said of the pages, against what was promised; nothing is said of pages that nobody judged."""
    table = _table("model", "pages", "judged", "real", "false a quarter (95 % interval)", "promised")
    for record in records:
        real = "-" if record.share_real is None else f"{record.share_real:.0%}"
        rate = "-"
        if record.false_per_quarter is not None:
            rate = f"{record.false_per_quarter:.2g} ({record.low:.2g} to {record.high:.2g})"
            rate = f"[bold red]{rate}, more than promised[/bold red]" if record.kept is False else rate
        promise = "-" if record.promised is None else f"{record.promised:.3g}"
        table.add_row(escape(record.model), str(record.pages), str(record.judged), real, rate, promise)
    return table


def window_summary(row: WindowRow) -> dict[str, object]:
    return {
        "id": row.id, "version": row.version or None, "monitor": row.monitor, "start": rfc3339(row.start_ms), "end": rfc3339(row.end_ms),
        "rows": row.rows, "state": row.state, "status": row.status, "revision": row.revision,
    }  # fmt: skip


def _monitor(row: WindowRow) -> str:
    return row.monitor if row.segment is None else f"{row.monitor} {escape(row.segment)}"


def _moved(row: WindowRow) -> str:
    findings = decode_findings(row.findings)
    said = (
        [f for f in findings if f.state in (State.DRIFT, State.ERROR)]
        or [f for f in findings if f.state is State.WARNING]
        or [f for f in findings if f.check == POOL]
    )
    if not said:
        return _headline(findings)
    said.sort(key=lambda finding: -(finding.value or 0))
    more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
    return sentence(said[0]) + more


def _headline(findings: Iterable[Finding]) -> str:
    """How good the model was in a window in which nothing moved: by its labels, else as estimated. Empty for other monitors."""
    figures = [f for f in findings if f.value is not None and (f.check, f.subject) in _HEADLINES]
    known = [f for f in figures if f.state in (State.OK, State.WARNING)]
    for finding in known or figures:
        labelled = finding.detail.get("labelled")
        share = f", {labelled / finding.rows:.0%} labelled" if isinstance(labelled, int) and finding.rows else ""
        about = "about " if finding.check == "estimated" else ""
        return f"{finding.subject} {about}{finding.value:.3g}{share}"
    return ""


_HEADLINES = {(check, subject) for check in ("realised", "estimated") for subject in ("accuracy", "mae")} | {
    (check, subject) for check in DETECTORS for subject in ("error", "loss")
}


def print_objects(items: Iterable[Mapping[str, object]]) -> None:
    """One compact object a line."""
    for item in items:
        print(json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


_NUMBERS = frozenset({"rows", "bins", "overdispersion", "pages", "judged", "real", "promised"})


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    return table


def _coloured(state: str) -> str:
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state


def _minute(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _time_or_none(time_ms: int | None) -> str | None:
    return None if time_ms is None or time_ms < -(2**61) else rfc3339(time_ms)
