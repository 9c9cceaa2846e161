"""`replay`: events from files through the same pipeline as live ones, as fast as it goes. Time is the events' own; nobody is told."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from monitor.closing.beside import Closing, ClosingError, Here, InTurn, closing_beside, possible
from monitor.closing.scene import Decision
from monitor.config import Config
from monitor.config.types import FileSource
from monitor.errors import UserError
from monitor.ingest import Ingest, Pace
from monitor.runtime import Runtime
from monitor.sources.opening import open_source
from monitor.store import Store
from monitor.workers import new_owner

SOURCE = "replay"
CHECKPOINT_EVENTS = (
    200_000  # four times what a service stores at once: fewer turns of closing, and a crash loses only time
)
BESIDE_BYTES = 16 << 20  # smaller inputs have hardly a second checkpoint to read meanwhile


def replay(
    config: Config,
    files: Sequence[Path],
    *,
    model: str | None,
    store_url: str | None,
    now_ms: Callable[[], int],
    decided: Callable[[Decision], None],
    progress: Callable[[int], None] = lambda events: None,
) -> Runtime:
    """Read the files to their end and close what they hold. `decided` is told every window and transition, in order.

    Into a temporary store unless `store_url` is given. Raises UserError for a file that is not there or not readable.
    """
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such file (give JSON lines, .gz, Parquet or CSV)")
    tables = [file for file in files if is_table(file)]
    if tables and len(tables) != len(files):
        raise UserError(f"{tables[0]}: tables and event files are replayed apart (run replay once for each kind)")
    if tables and model is None:
        raise UserError(f"{tables[0]}: a table needs --model NAME (whose predictions are its rows?)")
    if model is not None and model not in config.models:
        raise UserError(f"--model {model}: not configured (configured: {', '.join(sorted(config.models))})")
    source_config = FileSource.model_validate(
        {"paths": [str(file) for file in files], **({"format": "table", "model": model} if tables else {})},
        strict=False,
    )
    config = replace(config, sources={SOURCE: source_config})
    size = sum(file.stat().st_size for file in files)
    try:
        with ExitStack() as stack:
            open_store = stack.enter_context(_place(store_url))
            beside = None
            if possible() and size >= BESIDE_BYTES:
                beside = stack.enter_context(closing_beside(config, open_store, now_ms, decided))
            store = stack.enter_context(closing(open_store()))
            store.beside = beside
            runtime = Runtime.build(config, store, now_ms)
            closer = beside or Here(runtime.closer(side_effects=False, decided=decided))
            _replay(runtime, store, closer, progress)
            return runtime
    except ClosingError as failed:
        raise failed.error from None


def _replay(runtime: Runtime, store: Store, closer: Closing, progress: Callable[[int], None]) -> None:
    config = runtime.config
    with closing(open_source(SOURCE, config.sources[SOURCE], config, follow=False)) as source:
        ingest = Ingest(
            source,
            store,
            runtime.new_intake,
            owner=new_owner(),
            writer=SOURCE,
            pace=Pace(now_ms=runtime.now_ms, live=False, checkpoint_events=CHECKPOINT_EVENTS),
            telemetry=runtime.telemetry,
        )
        _read(ingest, store, closer, progress)
    closer.begin("finish_input")
    closer.wait()


def _read(ingest: Ingest, store: Store, closer: Closing, progress: Callable[[int], None]) -> None:
    """Step to the end of all files; close after each checkpoint, so that memory holds one checkpoint's events only."""
    events = 0
    checkpoints = ingest.checkpoints
    while True:
        taken = ingest.step(0.0)
        events += taken
        closer.look()
        if ingest.checkpoints != checkpoints:
            checkpoints = ingest.checkpoints
            closer.begin("step")
            progress(events)
        if ingest.owned and all(ingest.source.caught_up(partition) for partition in ingest.owned):
            ingest.checkpoint()  # it may have to be read again, where somebody adds a reference meanwhile
            if ingest.owned and ingest.settled:
                break
        elif not taken:
            _refuse_halted(store)
    ingest.close()
    closer.begin("step")
    progress(events)


def _refuse_halted(store: Store) -> None:
    for state in store.partition_states(SOURCE):
        if state.halted is not None:
            raise UserError(
                f"{state.partition.topic}: cannot be read on: {state.halted} (mend the file, or leave it out)"
            )


def is_table(file: Path) -> bool:
    return any(suffix in (".parquet", ".csv") for suffix in file.suffixes)


@contextmanager
def _place(url: str | None) -> Iterator[Callable[[], InTurn]]:
    """How to open the store, here and in the process beside."""
    if url is not None:
        yield partial(InTurn.open, url)
        return
    with tempfile.TemporaryDirectory(prefix="driftline-replay-") as folder:
        yield partial(InTurn.open, f"sqlite:///{folder}/replay.db", durable=False)
