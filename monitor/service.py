"""The service: sources are read, windows closed, messages sent, pages served. One process plays all roles or a few of them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from alerts.ports import Notifier
from alerts.sender import Limits, Sender
from monitor.closing.closer import Closer
from monitor.counting import Counted
from monitor.errors import TransientError, UserError
from monitor.exposition import serve
from monitor.http import HttpServer
from monitor.ingest import Ingest, Pace
from monitor.keepalive import Keepalive
from monitor.ports import PartitionId, Source
from monitor.receivers import notifiers
from monitor.retraining.follow import Follow
from monitor.runtime import Runtime
from monitor.sources.opening import open_source
from monitor.telling.teller import Teller
from monitor.workers import new_owner

log = structlog.get_logger()

ROLES = ("ingest", "close", "notify", "serve")
CLOSE_EVERY_MS = 1_000
PRUNE_EVERY_MS = 3_600_000
DRAIN_PATIENCE_SECONDS = 300
IDLE_SECONDS = 0.2
OUTBOX_RETRY_SECONDS = 5.0
FINISH_TRIES = 50
LEASE_MARGIN_MS = 10_000
WELL_MS = 60_000  # a loop that has not turned for so long is not well


@dataclass(slots=True)
class Heartbeat:
    """When each loop last turned, for the probes."""

    loop_ms: int = 0
    trouble: str | None = None


class Service:
    """`run` goes on until `stop` is set; `run_until_caught_up` ends with the input. Everything durable is in the store."""

    def __init__(
        self, runtime: Runtime, roles: Collection[str] = ROLES, *, stop: threading.Event | None = None
    ) -> None:
        self.runtime, self._roles, self.stop = runtime, frozenset(roles), stop or threading.Event()
        self.owner = new_owner()
        self.heartbeat = Heartbeat()
        self.closer: Closer = runtime.closer(side_effects=True)
        self.ingests: list[Ingest] = []
        self._closed_ms = 0
        self._pruned_ms = 0
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """All roles until `stop`. Leaves the group, stores what is there, and returns."""
        server = self._serve()
        self._open_sources(live=True)
        self._start_sender()
        try:
            while not self.stop.is_set():
                self._turn(IDLE_SECONDS)
        finally:
            self._close(server)

    def run_until_caught_up(self) -> None:
        """Consume to the end offsets seen now, close as for the end of input, drain the outbox. Waits for partitions of other workers."""
        server = self._serve()
        self._open_sources(live=False)
        try:
            targets = {ingest: _targets(ingest.source) for ingest in self.ingests}
            while not self.stop.is_set() and not self._all_stored(targets):
                self._turn(IDLE_SECONDS)
            if "close" in self._roles and not self.stop.is_set():
                self._patiently(self.closer.step)
                self._patiently(self._finish_input)
            if "notify" in self._roles:
                self._patiently(self._tell_all)
                self._drain()
        finally:
            self._close(server)

    # -- one turn -----------------------------------------------------------------------------------------------------

    def _turn(self, timeout_seconds: float) -> None:
        busy = 0
        for ingest in self.ingests:
            busy += ingest.step(0.0 if busy or len(self.ingests) > 1 else timeout_seconds)
        now_ms = self.runtime.now_ms()
        self.heartbeat.loop_ms = now_ms
        if "close" in self._roles and now_ms - self._closed_ms >= CLOSE_EVERY_MS:
            self._closed_ms = now_ms
            self._try(self.closer.step, "close")
        if "close" in self._roles and now_ms - self._pruned_ms >= PRUNE_EVERY_MS:
            self._pruned_ms = now_ms
            self._try(self._prune, "prune")
        if not busy and (len(self.ingests) != 1):
            self.stop.wait(timeout_seconds)

    def _try(self, act: Callable[[], object], operation: str) -> None:
        """Transient trouble is for the next turn; it shows in the probes until an act succeeds. The log tells its beginning and its end."""
        trouble = self.heartbeat.trouble
        try:
            act()
            self.heartbeat.trouble = None
        except TransientError as error:
            self.heartbeat.trouble = f"{operation}: {error}"
            self.runtime.telemetry.store_failed(operation)
            if trouble is None:
                log.warning("out of reach, trying again", operation=operation, error=str(error))
            return
        if trouble is not None:
            log.info("in reach again", operation=operation)

    def _all_stored(self, targets: Mapping[Ingest, dict[PartitionId, int]]) -> bool:
        """A last checkpoint that was refused, or whose database is away, is read again: only what is stored counts."""
        if not all(self._reached(ingest, ends) for ingest, ends in targets.items()):
            return False
        for ingest in targets:
            self._try(ingest.checkpoint, "checkpoint")
        return all(ingest.settled and self._reached(ingest, ends) for ingest, ends in targets.items())

    def _finish_input(self) -> None:
        """Another worker may be closing the same model: come back a few times for what is left."""
        for _ in range(FINISH_TRIES):
            self.closer.finish_input()
            store = self.runtime.store
            left = store.dirty_models().keys() | store.dirty_performance_models().keys()
            if not left & self.closer.watched.keys():
                return
            self.stop.wait(IDLE_SECONDS)

    def _patiently(self, act: Callable[[], object]) -> None:
        for wait_seconds in (0.5, 1, 2, 5, 10, 30):
            try:
                act()
                return
            except TransientError as error:
                log.warning("out of reach, trying again", error=str(error))
                self.stop.wait(wait_seconds)
        act()

    def _prune(self) -> None:
        retention, store = self.runtime.config.retention, self.runtime.store
        store.prune(self.runtime.now_ms(), windows_ms=retention.windows_ms, quarantine_ms=retention.quarantine_ms)
        certain = {model: time for model, time in self.closer.watermarks().items() if time is not None}
        for rows in store.expire_outcomes(certain).values():
            self.runtime.telemetry.join_expired(rows)
        self.runtime.telemetry.join_holds(store.join_size())

    # -- parts --------------------------------------------------------------------------------------------------------

    def _open_sources(self, *, live: bool) -> None:
        if "ingest" not in self._roles:
            return
        pace = Pace(now_ms=self.runtime.now_ms, live=live)
        writer = self.owner.rpartition(":")[2]
        for name, config in self.runtime.config.sources.items():
            source = open_source(name, config, self.runtime.config, follow=live)
            self.ingests.append(
                Ingest(
                    source, self.runtime.store, partial(self.runtime.new_intake, config),
                    owner=self.owner, writer=writer, pace=pace, telemetry=self.runtime.telemetry,
                )
            )  # fmt: skip

    def _reached(self, ingest: Ingest, ends: dict[PartitionId, int]) -> bool:
        """Whether everything up to the end offsets is stored, or at least taken by us."""
        missing = {
            partition
            for partition, end in ends.items()
            if not (
                partition in ingest.owned
                and (ingest.owned[partition].next_offset >= end or ingest.source.caught_up(partition))
            )
        }
        if not missing:
            return True
        try:
            stored = {state.partition: state for state in self.runtime.store.partition_states(ingest.source.name)}
        except TransientError:
            return False
        return all(
            partition in stored
            and (stored[partition].halted is not None or (stored[partition].next_offset or 0) >= ends[partition])
            for partition in missing
        )

    def _notifiers(self) -> dict[str, Notifier]:
        return notifiers(self.runtime.config, partial(self.runtime.store.posts, now_ms=self.runtime.now_ms))

    def _sender(self, made: Mapping[str, Notifier]) -> Sender:
        counted = {name: Counted(name, notifier, self.runtime.telemetry) for name, notifier in made.items()}
        slowest_ms = int(1000 * max(notifier.limit_seconds for notifier in made.values()))
        return Sender(
            self.runtime.store, counted, clock=self.runtime.now_ms, random=random.random, owner=self.owner,
            limits=Limits(lease_ms=max(Limits().lease_ms, slowest_ms + LEASE_MARGIN_MS)),
        )  # fmt: skip

    def _start_sender(self) -> None:
        if "notify" not in self._roles:
            return
        made = self._notifiers()
        teller = Teller(self.runtime.store, self.runtime.config, self.runtime.telemetry)
        self._start("tell", partial(self._repeat, "tell", teller.turn))
        self._start("notify", partial(self._send, self._sender(made)))
        if self.runtime.config.retraining_targets:
            follow = Follow.of(self.runtime.config, self.runtime.store)
            self._start("follow", partial(self._repeat, "follow retraining", follow.turn))
        keepalive = Keepalive.of(self.runtime.config, self.runtime.store, made)
        if keepalive is not None:
            self._start("keepalive", partial(self._keep_alive, keepalive))

    def _start(self, name: str, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _keep_alive(self, keepalive: Keepalive) -> None:
        while not self.stop.wait(1.0):
            now_ms, beat = self.runtime.now_ms(), self.heartbeat
            keepalive.turn(now_ms, well=beat.trouble is None and now_ms - beat.loop_ms < WELL_MS)
        keepalive.close()

    def _repeat(self, operation: str, turn: Callable[[int], int]) -> None:
        """Turns for as long as the service runs. What goes wrong is tried again: nothing is taken before it is done."""
        while not self.stop.is_set():
            wait_seconds = IDLE_SECONDS
            try:
                if turn(self.runtime.now_ms()):
                    wait_seconds = 0.0
            except TransientError as error:
                wait_seconds = OUTBOX_RETRY_SECONDS
                log.warning("out of reach, trying again", operation=operation, error=str(error))
            except Exception:  # a thread that ends tells nobody of it
                wait_seconds = OUTBOX_RETRY_SECONDS
                log.exception("failed, trying again", operation=operation)
            self.stop.wait(wait_seconds)

    def _tell_all(self) -> None:
        """Everything that waits, groups included. Another worker may be telling: come back a few times."""
        teller = Teller(self.runtime.store, self.runtime.config, self.runtime.telemetry)
        for _ in range(FINISH_TRIES):
            while teller.turn(self.runtime.now_ms(), flush=True):
                pass
            if not self.runtime.store.telling_due(self.runtime.now_ms()):
                return
            self.stop.wait(IDLE_SECONDS)

    def _send(self, sender: Sender) -> None:
        wait_seconds = IDLE_SECONDS
        while not self.stop.is_set():
            try:
                if not sender.send_due():
                    self.stop.wait(IDLE_SECONDS)
                wait_seconds = IDLE_SECONDS
            except TransientError as error:
                wait_seconds = min(2 * wait_seconds, OUTBOX_RETRY_SECONDS)
                log.warning("outbox out of reach, trying again", wait_seconds=wait_seconds, error=str(error))
                self.stop.wait(wait_seconds)
        sender.close(patience_seconds=2.0)

    def _drain(self) -> None:
        """Send until nothing waits, or nothing has got through for a while: then say what is left, which the next run sends."""
        sender, store = self._sender(self._notifiers()), self.runtime.store
        last, pending = time.monotonic(), store.outbox_pending()
        while pending and time.monotonic() - last < DRAIN_PATIENCE_SECONDS and not self.stop.is_set():
            self._try(sender.send_due, "send")
            now_pending = store.outbox_pending()
            if now_pending != pending:
                last, pending = time.monotonic(), now_pending
            elif not sender.busy:
                self.stop.wait(IDLE_SECONDS)
        sender.close(patience_seconds=2.0)
        if pending:
            log.warning("messages are left in the outbox; the next run sends them", pending=pending)

    def _serve(self) -> HttpServer | None:
        if "serve" not in self._roles or self.runtime.config.http is None:
            return None
        return serve(self.runtime, self.heartbeat, self.runtime.config.http)

    def _close(self, server: HttpServer | None) -> None:
        self.stop.set()
        for ingest in self.ingests:
            ingest.close()
        for thread in self._threads:
            thread.join(timeout=20)
        if server is not None:
            server.stop()


def _targets(source: Source) -> dict[PartitionId, int]:
    topics = source.partitions()
    return source.end_offsets(
        [PartitionId(topic, number) for topic, count in topics.items() for number in range(count)]
    )


def parse_roles(text: str) -> Sequence[str]:
    """`ingest,close` as a tuple. Raises UserError for an unknown role."""
    roles = tuple(role.strip() for role in text.split(",") if role.strip())
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise UserError(f"--role: {', '.join(unknown) or 'empty'} is no role (choose from {', '.join(ROLES)})")
    return roles
