"""The command line. Parses, calls one function of the service, prints; every judgement is elsewhere."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.errors import UserError

if TYPE_CHECKING:  # imported where used: `driftline --help` need not wait for scipy
    from monitor.config import Config, Model
    from monitor.store import Store

app = typer.Typer(
    name="driftline", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    help="Drift and performance monitoring for machine-learning models, from a stream.",
)  # fmt: skip
reference_app = typer.Typer(no_args_is_help=True, help="Build, list and show references.")
alerts_app = typer.Typer(no_args_is_help=True, help="Alerts and their history.")
silence_app = typer.Typer(no_args_is_help=True, help="Who is not told, of what, until when.")
retraining_app = typer.Typer(no_args_is_help=True, help="Retraining requests.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Records that are no events.")
db_app = typer.Typer(no_args_is_help=True, help="The store's schema.")
for child, name in (
    (reference_app, "reference"),
    (alerts_app, "alerts"),
    (silence_app, "silence"),
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

    with _opened(config) as (store, loaded):
        show_status(store, loaded, as_json=json)


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


@app.command()
def explain(
    alert: Annotated[str, typer.Argument(help="An alert's id, or how it begins.")],
    config: ConfigPath = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Why there is an alert: what moved, since when, what it did, what is likely behind it, who was told."""
    from monitor.explain import alert_named, explanation
    from monitor.show import print_objects
    from monitor.show_explanation import show_explanation

    with _opened(config) as (store, loaded):
        told = explanation(store, alert_named(store, alert), loaded.links)
    if json:
        print_objects([told])
    else:
        show_explanation(told)


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


@alerts_app.command("show")
def alerts_show(
    alert: Annotated[str, typer.Argument(help="An alert's id, or how it begins.")],
    config: ConfigPath = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """One alert and all that is known of it, as `explain`."""
    explain(alert, config, json)


@alerts_app.command("test")
def alerts_test(receiver: str, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Send a test to a receiver, and its end: status 1 if either does not arrive."""
    from monitor.commands import test_receiver

    if not test_receiver(config, receiver, now_ms()):
        raise typer.Exit(1)


@app.command()
def ack(
    alert: Annotated[str, typer.Argument(help="An alert's id, or how it begins.")],
    config: ConfigPath = DEFAULT_CONFIG,
    verdict: Annotated[str | None, typer.Option(help="What it was: real, expected or false.")] = None,
    comment: Annotated[str, typer.Option(help="What others should know.")] = "",
    adopt: Annotated[
        Path | None, typer.Option(help="With --verdict expected: a table of the new normal, to be the reference.")
    ] = None,
    who: Annotated[str, typer.Option(help="Who does this; the login name by itself.")] = "",
) -> None:
    """Take an alert in hand: it is not repeated unless it becomes worse. Say what it was, now or later."""
    from monitor.acts import acknowledge

    with _opened(config) as (store, loaded):
        print(
            acknowledge(
                store,
                loaded,
                alert,
                who=who or login_name(),
                verdict=verdict,
                comment=comment,
                table=adopt,
                now_ms=now_ms(),
            )
        )


@silence_app.command("add")
def silence_add(
    matchers: Annotated[
        list[str], typer.Argument(metavar="MATCHER...", help="model=churn, severity=~warn.*, team!=risk")
    ],
    lasts: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 7d.")],
    why: Annotated[str, typer.Option(help="What others should know.")],
    config: ConfigPath = DEFAULT_CONFIG,
    starts: Annotated[str | None, typer.Option(help="From this time on (RFC 3339); else from now.")] = None,
    who: Annotated[str, typer.Option(help="Who does this; the login name by itself.")] = "",
) -> None:
    """Tell nobody of alerts whose labels fit all matchers. The alerts themselves go on."""
    from monitor.acts import add_silence

    with _opened(config) as (store, loaded):
        print(
            add_silence(
                store, loaded, matchers, lasts=lasts, starts=starts, who=who or login_name(), why=why, now_ms=now_ms()
            )
        )


@silence_app.command("list")
def silence_list(
    config: ConfigPath = DEFAULT_CONFIG,
    over_too: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    json: Json = False,
) -> None:
    """Silences in force and to come."""
    from monitor.acts import silence_line, silence_object, silences
    from monitor.show import print_objects

    now = now_ms()
    with _store(config) as (store, _):
        found = silences(store, over_too=over_too, now_ms=now)
    if json:
        print_objects(silence_object(silence, now) for silence in found)
    else:
        print("\n".join(silence_line(silence, now) for silence in found) or "no silences")


@silence_app.command("expire")
def silence_expire(
    silence: Annotated[str, typer.Argument(metavar="ID", help="Of the silence, or how it begins.")],
    config: ConfigPath = DEFAULT_CONFIG,
    who: Annotated[str, typer.Option(help="Who does this; the login name by itself.")] = "",
) -> None:
    """End a silence now."""
    from monitor.acts import expire_silence

    with _store(config) as (store, _):
        print(expire_silence(store, silence, who=who or login_name(), now_ms=now_ms()))


@retraining_app.command("list")
def retraining_list(
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    refused: Annotated[bool, typer.Option("--refused", help="What the gates refused, with the reasons.")] = False,
    json: Json = False,
) -> None:
    """Retraining requests and where they stand."""
    from monitor.retraining.show import show_list

    with _store(config) as (store, _):
        show_list(store, model=model, refused=refused, as_json=json)


RequestId = Annotated[str, typer.Argument(metavar="ID", help="Of the request, or how it begins.")]
Who = Annotated[str, typer.Option(help="Who does this; the login name by itself.")]


@retraining_app.command("show")
def retraining_show(request: RequestId, config: ConfigPath = DEFAULT_CONFIG, json: Json = False) -> None:
    """One request: why it was made, each step it took, and whether it helped."""
    from monitor.retraining.show import show_request

    with _store(config) as (store, _):
        show_request(store, request, as_json=json)


@retraining_app.command("approve")
def retraining_approve(request: RequestId, config: ConfigPath = DEFAULT_CONFIG, who: Who = "") -> None:
    """Send a proposed request to its target."""
    from monitor.retraining.acts import approve

    with _opened(config) as (store, loaded):
        print(approve(store, loaded, request, who=who or login_name(), now_ms=now_ms()))


@retraining_app.command("cancel")
def retraining_cancel(
    request: RequestId,
    config: ConfigPath = DEFAULT_CONFIG,
    why: Annotated[str, typer.Option(help="What others should know.")] = "",
    who: Who = "",
) -> None:
    """End a request. A job that runs already goes on."""
    from monitor.retraining.acts import cancel

    with _store(config) as (store, _):
        print(cancel(store, request, who=who or login_name(), why=why, now_ms=now_ms()))


@retraining_app.command("pause")
def retraining_pause(
    why: Annotated[str, typer.Option(help="What others should know.")],
    model: Annotated[str | None, typer.Argument(help="Only this model; else all.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    who: Who = "",
) -> None:
    """The kill switch: nothing is requested or approved until `resume`."""
    from monitor.retraining.acts import pause

    with _opened(config) as (store, loaded):
        print(pause(store, loaded, model, who=who or login_name(), why=why, now_ms=now_ms()))


@retraining_app.command("resume")
def retraining_resume(
    model: Annotated[str | None, typer.Argument(help="Only this model; else all.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    who: Who = "",
) -> None:
    """Undo `pause`."""
    from monitor.retraining.acts import resume

    with _opened(config) as (store, loaded):
        print(resume(store, loaded, model, who=who or login_name(), now_ms=now_ms()))


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


def login_name() -> str:
    """Who is at the keyboard, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may have a user without a name
        return "unknown"


@contextmanager
def _store(path: Path) -> Iterator[tuple[Store, Mapping[str, Model]]]:
    with _opened(path) as (store, config):
        yield store, config.models


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Store, Config]]:
    from monitor.config.load import load_config
    from monitor.store import Store

    config = load_config(path)
    store = Store.open(config.store, create=False)
    try:
        yield store, config
    finally:
        store.close()
