"""Closing in a second process, while `replay` reads on: decoding and judging are each about half of the work.

In lock-step, so that nothing depends on timing: after checkpoint k the closer is told to close, and checkpoint k+1 waits for its answer. Reading
changes nothing in the store that closing looks at, so windows, revisions and their order are those of one process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Literal

from monitor.closing.closer import Closer
from monitor.closing.scene import Decision
from monitor.config import Config
from monitor.errors import TransientError, UserError
from monitor.runtime import Runtime
from monitor.store import Checkpoint, CheckpointResult, Store
from monitor.telemetry import Telemetry

DECISIONS_A_MESSAGE = 4_000  # usually all of a turn: sending does not wait for the reader meanwhile

Work = Literal["step", "finish_input"]
Answer = tuple[list[Decision], bool, Exception | None]  # decided, whether the turn is over, and what ended it


class InTurn(Store):
    """The reader's store: while the closer is at work nothing is written to it, checkpoints wait."""

    beside: Beside | None = None

    def checkpoint(self, c: Checkpoint) -> CheckpointResult:
        if self.beside is not None:
            self.beside.wait()
        return super().checkpoint(c)

    def renew(self, group: str, owner: str, now_ms: int) -> None:
        """Left out during a turn, which leaves SQLite's other writers hardly a gap; the next checkpoint renews too."""
        if self.beside is None or not self.beside.busy:
            super().renew(group, owner, now_ms)


class Here:
    """The closer in this process: a turn is over when it has begun."""

    def __init__(self, closer: Closer) -> None:
        self._closer = closer

    def begin(self, work: Work) -> None:
        _work(self._closer, work)

    def look(self) -> None:
        """Nothing is under way."""

    def wait(self) -> None:
        """Nothing is under way."""


class ClosingError(Exception):
    """What went wrong in the closer, past everybody who would try again. `error` is to be raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Beside:
    """The closer in another process. Decisions are told to `decided` here, in their order."""

    def __init__(self, process: ForkProcess, pipe: Connection, decided: Callable[[Decision], None]) -> None:
        self._process, self._pipe, self._decided = process, pipe, decided
        self.busy = False

    def begin(self, work: Work) -> None:
        self.wait()
        with suppress(BrokenPipeError):  # the answer tells what became of it
            self._pipe.send(work)
        self.busy = True

    def look(self) -> None:
        """Take what has been decided so far."""
        while self.busy and self._pipe.poll():
            self._take()

    def wait(self) -> None:
        while self.busy:
            self._take()

    def _take(self) -> None:
        try:
            decisions, over, error = self._answer()
        except (EOFError, ConnectionError):
            self._process.join()
            raise RuntimeError(f"the closing process has died (status {self._process.exitcode})") from None
        for decision in decisions:
            self._decided(decision)
        if error is not None:
            raise ClosingError(error)
        self.busy = not over

    def _answer(self) -> Answer:
        answer: Answer = self._pipe.recv()
        return answer


Closing = Here | Beside


def possible() -> bool:
    """A second core, and a system on which a process that has few threads may fork."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1


@contextmanager
def closing_beside(
    config: Config, open_store: Callable[[], Store], now_ms: Callable[[], int], decided: Callable[[Decision], None]
) -> Iterator[Beside]:
    """To be entered before this process opens the store: neither connections nor threads may be inherited."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(ours, theirs, config, open_store, now_ms), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Beside(process, ours, decided)
    except BaseException:
        process.terminate()  # what it has not committed is undone
        raise
    finally:
        ours.close()
        process.join()


def _serve(
    ours: Connection, pipe: Connection, config: Config, open_store: Callable[[], Store], now_ms: Callable[[], int]
) -> None:
    """The closing process: one turn a message, until the reader goes away, for whatever reason."""
    ours.close()  # else its end would never be seen
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the reader's, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    decided: list[Decision] = []

    def decide(decision: Decision) -> None:
        decided.append(decision)
        if len(decided) >= DECISIONS_A_MESSAGE:
            tell(over=False)

    def tell(*, over: bool, error: Exception | None = None) -> None:
        pipe.send((decided, over, error))
        decided.clear()

    with suppress(EOFError, ConnectionError):
        work: Work = pipe.recv()
        try:
            with closing(open_store()) as store:
                closer = Runtime(config, store, now_ms, Telemetry()).closer(side_effects=False, decided=decide)
                while True:
                    _work(closer, work)
                    tell(over=True)
                    work = pipe.recv()
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001  raised where the reader is
            tell(over=True, error=_portable(error))


def _work(closer: Closer, work: Work) -> None:
    if work == "finish_input":
        closer.finish_input()
    else:
        closer.step()


def _portable(error: Exception) -> Exception:
    """The error as it can cross the pipe; a bug as its traceback, which would be lost."""
    if isinstance(error, UserError | TransientError):
        return error
    return RuntimeError("in the closing process:\n" + "".join(traceback.format_exception(error)))
