"""`driftline demo`: the real service on an embedded log (or a real broker), on simulated time, with known faults; then injected against found."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from alerts.routing import DECISIONS
from alerts.sender import Sender
from monitor.closing.closer import Closer
from monitor.closing.scene import Decision
from monitor.commands import configure_log
from monitor.config import Config, load_config
from monitor.config.types import Http, KafkaSource
from monitor.counting import Counted
from monitor.demo_trainer import RetrainingLoop, Trainer, new_secrets, retrain
from monitor.demo_world import DAYS, FAULTS, HOUR_MS, MODELS, START_MS, Fault, hour_of_events, reference_columns
from monitor.errors import UserError
from monitor.exposition import serve
from monitor.ingest import Ingest, Pace
from monitor.ports import Source
from monitor.receivers import notifiers
from monitor.retraining.follow import Follow
from monitor.retraining.gates import REFUSALS
from monitor.runtime import Runtime
from monitor.service import Heartbeat
from monitor.sources.memory import MemoryLog, MemorySource
from monitor.sources.opening import open_source
from monitor.store import AlertRow, Store
from monitor.telling.teller import Teller

if TYPE_CHECKING:
    from monitor.sources.kafka_writer import TopicWriter

TOPIC, PARTITIONS = "predictions", 3
CLOSE_EVERY_HOURS = 6


@dataclass(slots=True)
class SimulatedClock:
    """Time as the simulated traffic has it."""

    ms: int = START_MS

    def __call__(self) -> int:
        return self.ms


@dataclass(slots=True)
class Found:
    """Alerts as they fired, held against what was injected; and how they ended."""

    fired: list[AlertRow] = field(default_factory=list)
    ended: dict[str, AlertRow] = field(default_factory=dict)

    def of(self, fault: Fault) -> AlertRow | None:
        """The first alert that tells of this fault by the finding it should be told by."""
        return next(
            (
                a
                for a in self.fired
                if a.subject == fault.subject
                and a.check in fault.checks
                and fault.covers(a.model, a.starts_at_ms, _slack(a.model))
            ),
            None,
        )

    def unexplained(self) -> list[AlertRow]:
        """Alerts that no injected fault of their model explains: false pages."""
        return [
            a for a in self.fired if not any(fault.covers(a.model, a.starts_at_ms, _slack(a.model)) for fault in FAULTS)
        ]


def run_demo(*, leave: bool, listen: str | None, kafka: str | None) -> int:
    """Returns the exit status: 0 only if every injected fault was found, nothing else was paged, and a retraining closed its alert."""
    configure_log(level=40)
    console = Console(highlight=False)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="driftline-demo-") as name:
        folder, clock, found = Path(name), SimulatedClock(), Found()
        console.print(
            f"[bold]Driftline demo[/bold]: {len(MODELS)} models, {DAYS} simulated days, {len(FAULTS)} faults to find"
        )
        secret_files = new_secrets(folder)
        trainer = Trainer(secret_files["trainer"].read_text(encoding="utf-8"), partial(retrain, folder))
        http = _http(listen, leave=leave)
        config = _write_world(folder, trainer, http, secret_files)
        store = Store.open(config.store, durable=False)
        try:
            runtime = Runtime.build(config, store, clock)
            heartbeat = Heartbeat()
            server = serve(runtime, heartbeat, http)
            with _traffic(kafka, config) as log:
                follow = Follow.of(config, store)
                loop = RetrainingLoop(runtime=runtime, trainer=trainer, folder=folder, follow=follow)
                events = _simulate(loop, log, clock, found, console)
            took = time.monotonic() - begun
            status = _report(console, found, store, events, took)
            if not leave:
                host, port = server.address
                console.print(f"metrics at http://{host}:{port}/metrics until Ctrl-C")
                _wait(heartbeat, clock)
            server.stop()
            return status
        finally:
            trainer.close()
            store.close()


def _simulate(
    loop: RetrainingLoop, log: tuple[Write, Source], clock: SimulatedClock, found: Found, console: Console
) -> int:
    """Hour by hour: traffic is written, read, folded and judged; incidents are printed as they fire. Returns the number of events."""
    runtime, (write, source) = loop.runtime, log

    news: list[AlertRow] = []

    def decided(decision: Decision) -> None:
        if isinstance(decision, AlertRow) and decision.status == "firing":
            found.fired.append(decision)
            news.append(decision)
        elif isinstance(decision, AlertRow):
            found.ended[decision.id] = decision

    pace = Pace(now_ms=clock, live=False)
    ingest = Ingest(
        source, runtime.store, runtime.new_intake, owner="demo", writer="demo", pace=pace, telemetry=runtime.telemetry
    )
    closer = runtime.closer(side_effects=True, decided=decided)
    told = {name: Counted(name, notifier, runtime.telemetry) for name, notifier in notifiers(runtime.config).items()}
    sender = Sender(runtime.store, told, clock=clock, random=lambda: 0.0, owner="demo")
    teller, events = Teller(runtime.store, runtime.config, runtime.telemetry), 0
    with _progress(console) as progress:
        task = progress.add_task("simulated days", total=DAYS)
        for hour in range(DAYS * 24):
            batches = [hour_of_events(model, hour, loop.of(model.name)) for model in MODELS]
            clock.ms = START_MS + (hour + 1) * HOUR_MS
            events += write(batches)
            _read(ingest, events)
            if hour % CLOSE_EVERY_HOURS == CLOSE_EVERY_HOURS - 1:
                _close(ingest, closer)
                teller.turn(clock.ms)
                sender.send_due()
                loop.turn(clock.ms, sender)
                _tell(console, news)
                progress.update(task, completed=(hour + 1) / 24)
        ingest.checkpoint()
        closer.step()
        closer.finish_input()
        teller.turn(clock.ms, flush=True)
        sender.send_due()
        _tell(console, news)
    sender.close(patience_seconds=2.0)
    ingest.close()
    return events


def _tell(console: Console, news: list[AlertRow]) -> None:
    """One line for each incident that something new is known of: its worst alert, and how many more there are."""
    incidents: dict[str, list[AlertRow]] = {}
    for alert in news:
        incidents.setdefault(alert.incident, []).append(alert)
    for alerts in incidents.values():
        worst = min(alerts, key=lambda alert: (alert.severity != "critical", alert.starts_at_ms))
        others = sorted({alert.subject for alert in alerts} - {worst.subject})
        more = f"  [dim](also {escape(', '.join(others))})[/dim]" if others else ""
        console.print(
            f"  [bold red]{worst.severity.upper():8}[/bold red] {_when(worst.at_ms)}  [bold]{escape(worst.model)}[/bold]  {escape(worst.text)}{more}"
        )
    news.clear()


def _read(ingest: Ingest, total: int) -> None:
    """Take everything that was written, as far as this worker has not yet."""
    deadline = time.monotonic() + 60
    while sum(owned.next_offset for owned in ingest.owned.values()) < total:
        ingest.step(0.05)
        if time.monotonic() > deadline:
            raise UserError(
                "demo: the events that were written did not come back within a minute (is the broker well?)"
            )


def _close(ingest: Ingest, closer: Closer) -> None:
    ingest.checkpoint()
    closer.step()


def _report(console: Console, found: Found, store: Store, events: int, took_seconds: float) -> int:
    table = Table(
        title="injected against found (UTC)", box=None, header_style="bold", title_justify="left", pad_edge=False
    )
    for name in ("fault", "model", "injected", "found", "by", "severity"):
        table.add_column(name, overflow="fold", no_wrap=name != "by")
    missed = 0
    for fault in FAULTS:
        alert = found.of(fault)
        missed += alert is None
        cells = (
            ("[bold red]MISSED[/bold red]", "", "")
            if alert is None
            else (f"[green]{_when(alert.at_ms)}[/green]", f"{alert.check} of {alert.subject}", alert.severity)
        )
        table.add_row(escape(fault.name), fault.model, _when(fault.start_ms), *cells)
    console.print()
    console.print(table)
    false = found.unexplained()
    for alert in false:
        console.print(
            f"[bold red]false page[/bold red] {_when(alert.at_ms)} {escape(alert.model)}: {escape(alert.text)}"
        )
    healthy = [model.name for model in MODELS if not any(fault.model == model.name for fault in FAULTS)]
    console.print(
        f"{len(FAULTS) - missed} of {len(FAULTS)} faults found, {len(false)} false pages (healthy: {', '.join(healthy)}); "
        f"{events:,} events in {took_seconds:.0f} s"
    )
    looped = _report_retraining(console, found, store)
    return 0 if looped and not missed and not false else 1


def _report_retraining(console: Console, found: Found, store: Store) -> bool:
    """Each retraining from its cause to the end of the alert, and what the gates refused. Returns whether there was one, and all went well."""
    requests = store.retraining()
    table = Table(title="retraining", box=None, header_style="bold", title_justify="left", pad_edge=False)
    for name in ("model", "asked for", "by", "the job", "alert closed"):
        table.add_column(name, overflow="fold")
    well = bool(requests)
    for row in requests:
        detail = json.loads(row.detail)
        cause = next((alert for alert in found.fired if alert.id == detail["alert"]), None)
        end = found.ended.get(detail["alert"])
        closed = row.status == "succeeded" and end is not None and end.reason in ("new_version", "new_reference")
        well = well and closed
        table.add_row(
            row.model, _when(row.at_ms), "?" if cause is None else f"{cause.check} of {cause.subject}",
            f"{row.status}: version {detail.get('version', '?')}",
            "[bold red]NO[/bold red]" if end is None else f"[green]{_when(end.at_ms)}[/green] ({end.reason})",
        )  # fmt: skip
    console.print()
    console.print(table if requests else "[bold red]no retraining was asked for[/bold red]")
    for told, alert in store.told_by(DECISIONS):
        if told.outcome in REFUSALS:
            console.print(
                f"refused: {alert.model}, {escape(f'{alert.check} of {alert.subject}')}: {escape(told.detail)}"
            )
    return well


def _write_world(folder: Path, trainer: Trainer, http: Http, secret_files: Mapping[str, Path]) -> Config:
    """Reference tables and the configuration that a user would write."""
    models: dict[str, object] = {}
    for model in MODELS:
        columns = reference_columns(model)
        pq.write_table(pa.table(columns), folder / f"{model.name}.parquet")
        models[model.name] = {
            "task": model.task, "window": model.window, "reference": {"path": f"{model.name}.parquet"}, **model.settings,
        }  # fmt: skip
    secret = {name: {"file": str(file)} for name, file in secret_files.items()}
    document = {
        "store": f"sqlite:///{folder}/demo.db",
        "models": models,
        "http": {"listen": f"{http.host}:{http.port}"},
        "retraining": {"callback": {"url": f"http://{http.host}:{http.port}", "secret": secret["callback"]}},
        "retraining_targets": {"trainer": {"webhook": {"url": trainer.url, "secret": secret["trainer"]}}},
    }
    path = folder / "driftline.yaml"
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return load_config(path)


Write = Callable[[list[list[bytes]]], int]


def _memory_write(log: MemoryLog) -> Write:
    """Appends an hour's events of all models to the log, spread over its partitions. Returns how many."""

    def write(batches: list[list[bytes]]) -> int:
        for batch in batches:
            for place, value in enumerate(batch):
                log.append(TOPIC, value, partition=place % PARTITIONS)
        return sum(map(len, batches))

    return write


def _kafka_write(writer: TopicWriter) -> Write:
    """The same on a broker; returns when it has them."""

    def write(batches: list[list[bytes]]) -> int:
        for batch in batches:
            for place, value in enumerate(batch):
                writer.send(value, place % PARTITIONS)
        writer.flush()
        return sum(map(len, batches))

    return write


@contextmanager
def _traffic(kafka: str | None, config: Config) -> Iterator[tuple[Write, Source]]:
    """The log the demo writes to and the source it reads from: embedded, or a topic of its own on a real broker."""
    if kafka is None:
        log = MemoryLog({TOPIC: PARTITIONS})
        yield _memory_write(log), MemorySource(log, group="demo", topics=[TOPIC], name="demo")
        return
    from monitor.sources.kafka_writer import TopicWriter

    topic = f"driftline.demo.{time.time_ns() // 1_000_000}"
    writer = TopicWriter(kafka, topic, PARTITIONS)
    try:
        source = KafkaSource.model_validate(
            {"bootstrap_servers": (kafka,), "group_id": topic, "topics": {topic: "canonical"}}
        )
        yield _kafka_write(writer), open_source("demo", source, config)
    finally:
        writer.close()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total}"), TimeElapsedColumn(),
        console=console, transient=True, disable=not sys.stdout.isatty(),
    )  # fmt: skip


def _http(listen: str | None, *, leave: bool) -> Http:
    """Where the demo listens; one that leaves when done does so only for the trainer, on a port that is free."""
    try:
        return Http.model_validate({"listen": listen or (f"127.0.0.1:{free_port()}" if leave else "127.0.0.1:8080")})
    except ValueError as error:
        raise UserError(f"--listen {listen}: write HOST:PORT of this machine, such as 127.0.0.1:8080") from error


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(heartbeat: Heartbeat, clock: SimulatedClock) -> None:
    try:
        while True:
            heartbeat.loop_ms = clock()
            threading.Event().wait(1.0)
    except KeyboardInterrupt:
        return


def _slack(model: str) -> int:
    """A window that holds a fault may have begun before it."""
    hours = next(int(m.window[:-1]) * (24 if m.window.endswith("d") else 1) for m in MODELS if m.name == model)
    return hours * HOUR_MS


def _when(time_ms: int) -> str:
    return time.strftime("%d %b %H:%M", time.gmtime(time_ms / 1000))
