"""The command line. Parses, calls one function of the service, prints; every judgement is elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.errors import UserError

if TYPE_CHECKING:  # imported where used: `driftline --help` need not wait for scipy
    from monitor.config import Model
    from monitor.store import Store

app = typer.Typer(
    name="driftline", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    help="Drift and performance monitoring for machine-learning models, from a stream.",
)  # fmt: skip
reference_app = typer.Typer(no_args_is_help=True, help="Build, list and show references.")
alerts_app = typer.Typer(no_args_is_help=True, help="Alerts and their history.")
retraining_app = typer.Typer(no_args_is_help=True, help="Retraining requests.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Records that are no events.")
db_app = typer.Typer(no_args_is_help=True, help="The store's schema.")
for child, name in (
    (reference_app, "reference"),
    (alerts_app, "alerts"),
    (retraining_app, "retraining"),
    (quarantine_app, "quarantine"),
    (db_app, "db"),
):
    app.add_typer(child, name=name)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="Configuration file.", metavar="CONFIG")]
Json = Annotated[bool, typer.Option("--json", help="One compact object a line.")]
DEFAULT_CONFIG = Path("driftline.yaml")


def now_ms() -> int:
    """The wall clock of the command line; everything below takes it as an argument."""
    return time.time_ns() // 1_000_000


@app.command()
def run(
    config: ConfigPath = DEFAULT_CONFIG,
    role: Annotated[str, typer.Option(help="Roles of this process, comma-separated.")] = "ingest,close,notify,serve",
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End when everything there is now has been judged and sent.")
    ] = False,
) -> None:
    """Run the service: consume, close windows, notify, serve."""
    from monitor.commands import run_service

    run_service(config, role, until_caught_up=until_caught_up, now_ms=now_ms)


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Validate the configuration: every error at once, status 1 if there is one."""
    from monitor.config.load import load_config

    try:
        loaded = load_config(config)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{config}: {len(loaded.models)} models, {len(loaded.sources)} sources, no errors")


@app.command()
def init(
    table: Annotated[Path, typer.Argument(help="A Parquet or CSV table to be the reference.")],
    output: Annotated[Path, typer.Option("-o", help="Where to write the configuration.")] = DEFAULT_CONFIG,
) -> None:
    """Write a commented configuration for a table."""
    from monitor.init_config import propose

    if output.exists():
        raise UserError(f"{output}: exists already (give another name with -o)")
    text = propose(table, output.parent)
    output.write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {output}; next: driftline check -c {output}")


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="JSON lines (also .gz), or tables with --model.")],
    config: ConfigPath = DEFAULT_CONFIG,
    model: Annotated[str | None, typer.Option(help="The model whose predictions are a table's rows.")] = None,
    store: Annotated[str | None, typer.Option(help="Keep the results in this store.")] = None,
    json: Json = False,
) -> None:
    """Events from files through the same pipeline as live ones."""
    from monitor.commands import replay_files

    replay_files(config, files, model=model, store_url=store, as_json=json, now_ms=now_ms)


@app.command()
def status(config: ConfigPath = DEFAULT_CONFIG, json: Json = False) -> None:
    """What is going on: models, sources, open alerts."""
    from monitor.show import show_status

    with _store(config) as (store, models):
        show_status(store, models, as_json=json)


@app.command()
def windows(
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    monitor: Annotated[
        str | None, typer.Option(help="data, prediction, quality, volume, performance or concept.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Windows that start at this time (RFC 3339) or later.")] = None,
    revisions: Annotated[bool, typer.Option("--revisions", help="Also what was replaced.")] = False,
    json: Json = False,
) -> None:
    """Every window's verdicts."""
    from monitor.show import show_windows

    with _store(config) as (store, _):
        show_windows(store, model=model, monitor=monitor, since=since, revisions=revisions, as_json=json)


@reference_app.command("build")
def reference_build(
    model: str,
    file: Annotated[Path | None, typer.Argument(help="Another table than the configured one.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    version: Annotated[str, typer.Option(help="For this version of the model only.")] = "",
) -> None:
    """Build a reference and adopt it from the next window boundary."""
    from monitor.commands import build_reference_of

    build_reference_of(config, model, file, version, now_ms())


@reference_app.command("list")
def reference_list(config: ConfigPath = DEFAULT_CONFIG, json: Json = False) -> None:
    """All references, in the order in which they took force."""
    from monitor.show import show_references

    with _store(config) as (store, _):
        show_references(store, as_json=json)


@reference_app.command("show")
def reference_show(
    digest: Annotated[str, typer.Argument(metavar="HASH")], config: ConfigPath = DEFAULT_CONFIG, json: Json = False
) -> None:
    """One reference: its features, what was excluded and why, what the self-check says."""
    from monitor.show import show_reference

    with _store(config) as (store, _):
        show_reference(store, digest, as_json=json)


@alerts_app.command("list")
def alerts_list(
    config: ConfigPath = DEFAULT_CONFIG,
    history: Annotated[bool, typer.Option("--history", help="Every transition, oldest first.")] = False,
    json: Json = False,
) -> None:
    """Alerts as they stand, or every transition."""
    from monitor.show import show_alerts

    with _store(config) as (store, _):
        show_alerts(store, history=history, as_json=json)


@alerts_app.command("test")
def alerts_test(receiver: str, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Send a test to a receiver, and its end: status 1 if either does not arrive."""
    from monitor.commands import test_receiver

    if not test_receiver(config, receiver, now_ms()):
        raise typer.Exit(1)


@retraining_app.command("list")
def retraining_list(config: ConfigPath = DEFAULT_CONFIG, json: Json = False) -> None:
    """Retraining requests and where they stand."""
    from monitor.show import show_retraining

    with _store(config) as (store, _):
        show_retraining(store, as_json=json)


@retraining_app.command("approve")
def retraining_approve(
    request: Annotated[str, typer.Argument(metavar="ID")], config: ConfigPath = DEFAULT_CONFIG
) -> None:
    """Send a proposed request to its target."""
    from monitor.commands import approve

    with _store(config) as (store, _):
        print(approve(store, request, now_ms()))


@quarantine_app.command("list")
def quarantine_list(
    config: ConfigPath = DEFAULT_CONFIG,
    limit: Annotated[int | None, typer.Option(help="At most so many, newest last.")] = None,
    json: Json = False,
) -> None:
    """Records that could not be used, each with its reason."""
    from monitor.show import show_quarantine

    with _store(config) as (store, _):
        show_quarantine(store, limit=limit, as_json=json)


@db_app.command("upgrade")
def db_upgrade(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Bring the store's schema to this release."""
    from monitor.config.load import load_config
    from monitor.store import Store

    Store.upgrade(load_config(config).store)
    print("the store's schema is up to date")


@app.command()
def demo(
    exit: Annotated[bool, typer.Option("--exit", help="Leave when done, instead of serving the pages.")] = False,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT of the metrics and pages.")] = None,
    kafka: Annotated[
        str | None, typer.Option(help="Write to this broker and read from it, instead of the embedded log.")
    ] = None,
) -> None:
    """Four simulated weeks of three models with known faults, in about a minute."""
    from monitor.demo import run_demo

    raise typer.Exit(run_demo(leave=exit or not sys.stdout.isatty(), listen=listen, kafka=kafka))


@contextmanager
def _store(path: Path) -> Iterator[tuple[Store, Mapping[str, Model]]]:
    from monitor.config.load import load_config
    from monitor.store import Store

    config = load_config(path)
    store = Store.open(config.store, create=False)
    try:
        yield store, config.models
    finally:
        store.close()
