"""What the commands do that act: run, replay, build, approve."""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from alerts.delivery import Delivered
from monitor.adoption import adopt, notes
from monitor.closing.scene import Decision
from monitor.closing.windows import expand
from monitor.config import Config, Model
from monitor.config.load import load_config
from monitor.errors import UserError
from monitor.results import alert_object, retraining_object, window_object
from monitor.runtime import Runtime
from monitor.service import Service, parse_roles
from monitor.store import AlertRow, ReferenceRow, Store, WindowRow


def run_service(path: Path, role: str, *, until_caught_up: bool, now_ms: Callable[[], int]) -> None:
    """Run until SIGTERM or Ctrl-C, or to the end of input. A second signal ends at once, which is safe."""
    configure_log()
    config = load_config(path)
    roles = parse_roles(role)
    if "ingest" in roles and not config.sources:
        raise UserError(f"{path}: sources: there is nothing to read (add a source, or use `driftline replay FILE`)")
    store = Store.open(config.store)
    calm_garbage_collection()
    try:
        stop = threading.Event()
        _on_signals(stop)
        service = Service(Runtime.build(config, store, now_ms), roles, stop=stop)
        service.run_until_caught_up() if until_caught_up else service.run()
    finally:
        store.close()


def replay_files(
    path: Path,
    files: Sequence[Path],
    *,
    model: str | None,
    store_url: str | None,
    as_json: bool,
    now_ms: Callable[[], int],
) -> None:
    """Print what is decided, as it is decided: objects with --json, else one line a drifting window or alert."""
    from monitor.replay import replay
    from monitor.show import alert_line, window_line

    configure_log(level=logging.WARNING)
    config = load_config(path)
    calm_garbage_collection()
    drifts = shown = 0

    def decided(decision: Decision) -> None:
        nonlocal drifts, shown
        if as_json:
            sys.stdout.writelines(compact(item) + "\n" for item in objects(decision))
            return
        if isinstance(decision, WindowRow):
            shown += decision.run
            drifts += decision.state == "drift"
            if decision.state == "drift":
                print(window_line(decision))
        elif isinstance(decision, AlertRow):
            print(alert_line(decision))

    def progress(events: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{events:,} events", end="", file=sys.stderr, flush=True)

    replay(config, files, model=model, store_url=store_url, now_ms=now_ms, decided=decided, progress=progress)
    if not as_json:
        print(f"{shown} windows judged, {drifts} with drift")


def objects(decision: Decision) -> list[dict[str, object]]:
    """A decision as the objects that machines read; a run of empty windows is shown one by one."""
    if isinstance(decision, WindowRow):
        return [window_object(row) for row in expand(decision)]
    if isinstance(decision, AlertRow):
        return [alert_object(decision)]
    return [retraining_object(decision)]


def compact(item: object) -> str:
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def build_reference_of(path: Path, name: str, file: Path | None, version: str, now_ms: int) -> None:
    """Build, store and describe the reference of one model."""
    config = load_config(path)
    model = model_named(config, name)
    store = Store.open(config.store)
    try:
        row = adopt(store, model, path=file, version=version, now_ms=now_ms)
    finally:
        store.close()
    describe(row)


def describe(row: ReferenceRow) -> None:
    from detectors.reference.build import decode_reference

    reference = decode_reference(row.payload)
    features = [subject.name for subject in reference.layout.subjects if subject.role == "feature"]
    print(
        f"reference {row.hash[:12]} of {row.model}: {row.rows:,} rows, {len(features)} features from {row.source_path}"
    )
    for feature, reason in sorted(reference.excluded.items()):
        print(f"  left out {feature}: {reason}")
    for note in notes(row):
        print(f"  note: {note}")


def model_named(config: Config, name: str) -> Model:
    model = config.models.get(name)
    if model is None:
        raise UserError(f"model {name} is not configured (configured: {', '.join(sorted(config.models))})")
    return model


def test_receiver(path: Path, name: str, now_ms: int) -> bool:
    """Whether a test reached a receiver, and its end too. Says what came of each."""
    from monitor.trial import receiver_named, try_receiver

    configure_log()
    one, arrived = receiver_named(load_config(path), name), True
    for status, outcome in try_receiver(one, name, now_ms):
        arrived = arrived and isinstance(outcome, Delivered)
        print(f"{name}: {status}: {'delivered' if isinstance(outcome, Delivered) else outcome.error}")
    one.close()
    return arrived


GC_THRESHOLDS = (50_000, 20, 100)


def calm_garbage_collection() -> None:
    """What is imported and built by now stays; blocks of decoded events hold no cycles. Looking through all of it every 700 objects costs
    a tenth of the throughput, so it is done more seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def configure_log(level: int = logging.INFO) -> None:
    """JSON lines on stderr, one event name a line, UTC."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _on_signals(stop: threading.Event) -> None:
    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
