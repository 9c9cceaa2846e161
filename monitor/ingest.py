"""The loop that reads one source: poll, take, checkpoint. Its only truth is the store; what is in memory may be dropped at any moment.

Offsets and counts are stored in one transaction, guarded by (owner, epoch, next offset). Everything that can go wrong - a crash, a rebalance,
a worker that wakes beside its successor, a database that answers late - ends in "forget what is not stored and read it again".
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from monitor.continuity import follow_on
from monitor.errors import FencedError, TransientError
from monitor.failpoints import reach
from monitor.harvest_rows import quarantine_rows, with_clocks
from monitor.intake import Harvest, Intake
from monitor.joining.contributions import MERGES
from monitor.ports import Assigned, Halted, PartitionId, RecordChunk, Revoked, Source, SourceEvent, Truncated
from monitor.stalls import Stalls
from monitor.store import Checkpoint, CheckpointResult, GapRow, Progress, StaleReferences, Store
from monitor.telemetry import ASSIGNED, BATCH, GAPS, LAG, STALLS, Telemetry
from monitor.workers import is_alive

log = structlog.get_logger()

CHECKPOINT_MS = 30_000
CHECKPOINT_EVENTS = 50_000
MODELS_A_CHECKPOINT = 100  # with more, checkpoints are up to five times as far apart
LEASE_MS = 10_000
RECLAIM_MS = 3_000
MAX_POLL_RECORDS = 5_000
BACKOFF_MS = (200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)


@dataclass(slots=True)
class Owned:
    """A partition this worker has claimed: what the store holds, and how far memory is ahead of it."""

    epoch: int
    stored_offset: int
    next_offset: int
    fresh: bool = True  # nothing stored since the claim: checkpoint its first batch at once
    caught_up_ms: int | None = None
    stored_caught_up_ms: int | None = None


@dataclass(slots=True, kw_only=True)
class Pace:
    """When to checkpoint; and the clock, so that tests and simulations bring their own."""

    now_ms: Callable[[], int]
    checkpoint_ms: int = CHECKPOINT_MS
    checkpoint_events: int = CHECKPOINT_EVENTS
    live: bool = True  # False: time stands still in a quiet stream (replay: only the end of input closes)


class Ingest:
    """One consumer of one source. `step` does a bounded piece of work and never blocks longer than about the poll's time-out."""

    def __init__(
        self,
        source: Source,
        store: Store,
        new_intake: Callable[[], Intake],
        *,
        owner: str,
        writer: str,
        pace: Pace,
        telemetry: Telemetry,
    ) -> None:
        self.source, self._store, self._new_intake = source, store, new_intake
        self._owner, self._writer, self._pace, self._telemetry = owner, writer, pace, telemetry
        self._intake = new_intake()
        self.owned: dict[PartitionId, Owned] = {}
        self.checkpoints = 0
        self.models_seen = 0  # in the newest checkpoint that held events
        self._gaps: list[GapRow] = []
        self._events: deque[SourceEvent] = deque()  # until each is dealt with: a store out of reach must not lose one
        self._sought: set[PartitionId] = set()  # since the last poll: chunks that it returned are from elsewhere
        self._events_waiting = 0
        self._checkpointed_ms = pace.now_ms()
        self._failures = 0  # running, ended by a stored checkpoint
        self._paused = False
        self._retry_ms = 0
        self._topics: Mapping[str, int] = {}
        self._leased_ms = 0
        self._reclaim: frozenset[PartitionId] = frozenset()
        self._reclaim_ms = 0
        self._stalls = Stalls()

    @property
    def settled(self) -> bool:
        """Everything that was taken is stored."""
        return all(owned.next_offset == owned.stored_offset for owned in self.owned.values())

    # -- one turn -----------------------------------------------------------------------------------------------------

    def step(self, timeout_seconds: float) -> int:
        """Poll once, take what came, checkpoint when due. Returns the number of records taken."""
        now_ms = self._pace.now_ms()
        if self._paused and now_ms < self._retry_ms:
            self.source.poll(0, timeout_seconds)  # keeps the membership of the group alive; everything is paused
            return 0
        try:
            self._go_on()
            self._lease(now_ms)
            self._reclaim_fenced(now_ms)
            self._prefer_slowest()
            self._sought.clear()
            chunks = self.source.poll(MAX_POLL_RECORDS, timeout_seconds)
            self._handle_events()
            read_ms = self._pace.now_ms()
            taken = sum(self._take(chunk, read_ms) for chunk in chunks if chunk.partition not in self._sought)
            self._note_caught_up(now_ms)
            if self._due(self._pace.now_ms()):
                self.checkpoint()
        except TransientError as error:
            self._back_off(error)
            return 0
        return taken

    def checkpoint(self) -> None:
        """Store everything taken so far, or drop it where the store says that it is no longer ours to store.

        What was dropped is read again by later steps. Raises TransientError after having dropped it.
        """
        partitions = [
            Progress(
                partition=partition,
                epoch=owned.epoch,
                from_offset=owned.stored_offset,
                to_offset=owned.next_offset,
                caught_up_ms=owned.caught_up_ms,
            )
            for partition, owned in sorted(self.owned.items())
        ]
        if not partitions:
            self._forget()
            return
        begun = time.perf_counter()
        harvest = self._intake.drain()
        self._telemetry.observe(BATCH, "fold", seconds=(drained := time.perf_counter()) - begun)
        try:
            result = self._store.checkpoint(self._rows(partitions, harvest))
        except FencedError as error:
            log.warning("fenced", source=self.source.name, detail=str(error))
            self._forget()
            self._fence()
            return
        except StaleReferences:
            self._forget()
            self._intake = self._new_intake()
            return
        except TransientError:
            self._forget()
            raise
        self._telemetry.observe(BATCH, "checkpoint", seconds=time.perf_counter() - drained)
        self._stored(partitions, harvest, result)
        self._report()

    def close(self) -> None:
        """Store what is there and leave the group. Safe to skip: a crash does the same without the courtesy."""
        try:
            self.checkpoint()
            if getattr(self.source, "leased", False):
                self._store.release(self.source.name, self._owner)
        except TransientError as error:
            log.warning("last checkpoint not stored; it will be read again", source=self.source.name, error=str(error))
        self.source.close()

    # -- what the source says -----------------------------------------------------------------------------------------

    def _handle_events(self) -> None:
        self._events.extend(self.source.events())
        while self._events:
            self._handle(self._events[0])
            self._events.popleft()

    def _handle(self, event: SourceEvent) -> None:
        match event:
            case Assigned(partitions):
                self._telemetry.rebalanced()
                self._let_go(partitions)
                self._claim(partitions)
            case Revoked(partitions):
                self._let_go(partitions)
            case Halted(partition, offset, reason):
                log.error(
                    "partition halted",
                    source=self.source.name,
                    topic=partition.topic,
                    partition=partition.partition,
                    offset=offset,
                    reason=reason,
                )
                if partition in self.owned:
                    with suppress(FencedError):  # then it is its new owner's business
                        self._store.halt(
                            self.source.name, partition, self.owned[partition].epoch, f"offset {offset}: {reason}"
                        )
            case Truncated(partition, wanted, available):
                if partition in self.owned:
                    self._gap(partition, wanted, available, "records were deleted before they were read")
                    self.owned[partition].next_offset = available

    def _let_go(self, partitions: frozenset[PartitionId]) -> None:
        if any(self.owned[p].next_offset != self.owned[p].stored_offset for p in partitions & set(self.owned)):
            self.checkpoint()  # still ours by the store's own check, or refused by it
        self._reclaim -= partitions
        for partition in partitions:
            self.owned.pop(partition, None)
            self._telemetry.forget(LAG, partition.topic, str(partition.partition))

    def _prefer_slowest(self) -> None:
        """Of several files the one furthest behind in event time is read next, so that no file's windows wait for another's."""
        prefer = getattr(self.source, "prefer", None)
        if prefer is not None and len(self.owned) > 1:
            newest = self._intake.newest_ms
            prefer(sorted(self.owned, key=lambda partition: (newest.get(partition, -(2**62)), partition)))

    def _fence(self) -> None:
        """Let go of everything. What the group still gives us after a while was taken by mistake or by our own lost answer: claim it again."""
        for partition in self.owned:
            self.source.pause(partition)
        self._reclaim |= frozenset(self.owned)
        self._reclaim_ms = self._pace.now_ms() + RECLAIM_MS
        self.owned = {}

    def _reclaim_fenced(self, now_ms: int) -> None:
        if self._reclaim and now_ms >= self._reclaim_ms:
            self._claim(self._still_ours(self._reclaim))
            self._reclaim = frozenset()

    def _claim(self, partitions: frozenset[PartitionId]) -> None:
        """Take the partitions over: from now on every older claim's checkpoint fails. Then start where the store says."""
        if not partitions:
            return
        now_ms = self._pace.now_ms()
        self._sync_topics(now_ms)
        claims = self._store.claim(self.source.name, sorted(partitions), self._owner, now_ms)
        reach("after_claim")
        for partition, claim in claims.items():
            offset = claim.next_offset
            if offset is None:
                offset = self.source.start_offset(partition)
                try:
                    self._store.set_start(self.source.name, partition, claim.epoch, offset)
                except FencedError:
                    continue  # another worker has claimed it in the meantime
            self.owned[partition] = Owned(claim.epoch, offset, offset)
            self._seek(partition, offset)
            self.source.resume(partition)

    def _sync_topics(self, now_ms: int) -> None:
        topics = dict(self.source.partitions())
        if topics != self._topics:
            self._store.sync_topics(self.source.name, topics, now_ms)
            self._topics = topics

    def _lease(self, now_ms: int) -> None:
        """Files have no group to share them out: the store's leases do."""
        if not getattr(self.source, "leased", False) or now_ms - self._leased_ms < LEASE_MS // 4:
            return
        self._leased_ms = now_ms
        self._sync_topics(now_ms)
        if self.owned:
            self._store.renew(self.source.name, self._owner, now_ms)
        free = self._store.claimable(self.source.name, sorted(self._topics), self._owner, now_ms, LEASE_MS, is_alive)
        fresh = frozenset(free) - set(self.owned)
        if fresh:
            self.source.assign(sorted(fresh))  # type: ignore[attr-defined]
            self._events.append(Assigned(fresh))

    def _still_ours(self, partitions: frozenset[PartitionId]) -> frozenset[PartitionId]:
        """A file whose lease went to another worker is gone; a group's assignment is told by its events."""
        if not getattr(self.source, "leased", False):
            return partitions
        ours = frozenset(s.partition for s in self._store.partition_states(self.source.name) if s.owner == self._owner)
        if partitions - ours:
            self.source.unassign(sorted(partitions - ours))  # type: ignore[attr-defined]
        return partitions & ours

    # -- taking records -----------------------------------------------------------------------------------------------

    def _take(self, chunk: RecordChunk, now_ms: int) -> int:
        owned = self.owned.get(chunk.partition)
        if owned is None or not chunk.offsets:
            return 0
        chunk, holes = follow_on(chunk, owned.next_offset)
        for start, end in holes:
            self._hole(chunk.partition, start, end)
        if not chunk.offsets:
            return 0
        self._intake.add(chunk, now_ms)
        owned.next_offset = chunk.offsets[-1] + 1
        self._events_waiting += len(chunk.values)
        return len(chunk.values)

    def _hole(self, partition: PartitionId, start: int, end: int) -> None:
        explained = getattr(self.source, "explained_hole", None)
        if explained is None or not explained(partition, start, end):
            self._gap(partition, start, end, "offsets are missing")

    def _gap(self, partition: PartitionId, start: int, end: int, reason: str) -> None:
        log.error(
            "gap",
            source=self.source.name,
            topic=partition.topic,
            partition=partition.partition,
            start=start,
            end=end,
            reason=reason,
        )
        self._telemetry.add(GAPS, partition.topic, by=end - start)
        self._gaps.append(
            GapRow(
                source=self.source.name,
                topic=partition.topic,
                partition=partition.partition,
                from_offset=start,
                to_offset=end,
                reason=reason,
            )
        )

    def _note_caught_up(self, now_ms: int) -> None:
        """Read to the end, as of now. Where time is the events' own it is only noted that the end was seen: 0 lets no clock go on."""
        seen_ms = now_ms if self._pace.live else 0
        for partition, owned in self.owned.items():
            if self.source.caught_up(partition):
                owned.caught_up_ms = seen_ms

    # -- storing ------------------------------------------------------------------------------------------------------

    def _due(self, now_ms: int) -> bool:
        if self._events_waiting >= self._pace.checkpoint_events or self._intake.crowded:
            return True
        if any(owned.fresh and owned.next_offset != owned.stored_offset for owned in self.owned.values()):
            return True
        if now_ms - self._checkpointed_ms < self._pace.checkpoint_ms * patience(self.models_seen):
            return False
        return any(
            owned.next_offset != owned.stored_offset or owned.caught_up_ms != owned.stored_caught_up_ms
            for owned in self.owned.values()
        )

    def _rows(self, partitions: Sequence[Progress], harvest: Harvest) -> Checkpoint:
        return Checkpoint(
            group=self.source.name,
            owner=self._owner,
            writer=self._writer,
            now_ms=self._pace.now_ms(),
            reference_generation=self._intake.generation,
            partitions=with_clocks(partitions, harvest),
            clocks=harvest.clocks,
            outcome_clocks=harvest.outcome_clocks,
            deltas=harvest.deltas,
            quarantine=quarantine_rows(self.source.name, harvest),
            gaps=self._gaps,
            unconfigured=harvest.unconfigured,
            join=harvest.join,
            fold=self._intake.joining.fold,
            merges=MERGES,
        )

    def _stored(self, partitions: Sequence[Progress], harvest: Harvest, result: CheckpointResult) -> None:
        for progress in partitions:
            owned = self.owned[progress.partition]
            owned.fresh = owned.fresh and owned.stored_offset == progress.to_offset
            owned.stored_offset = progress.to_offset
            owned.stored_caught_up_ms = owned.caught_up_ms
        self._gaps = []
        self._events_waiting = 0
        self._failures = 0
        self._checkpointed_ms = self._pace.now_ms()
        self.checkpoints += 1
        self.models_seen = len(harvest.predictions) or self.models_seen
        self._telemetry.checkpointed(self._checkpointed_ms, harvest, result.late_rows)
        self._telemetry.joined(result.join)
        for model, seconds in self._intake.joining.take_delays().items():
            self._telemetry.outcome_delays(model, seconds)
        self.source.courtesy_commit({p.partition: p.to_offset for p in partitions})

    def _report(self) -> None:
        """How far behind this worker is, and where it stands still, at the pace of its checkpoints. Files have no end that is cheap to ask for."""
        topics = Counter(partition.topic for partition in self.owned)
        for topic in self._topics:
            self._telemetry.set(ASSIGNED, topic, value=topics[topic])
        with suppress(TransientError):
            self._telemetry.join_holds(self._store.join_size())
        if getattr(self.source, "leased", False):
            return
        for topic in topics:
            self._telemetry.add(STALLS, topic, by=0)
        standing: dict[PartitionId, tuple[int, bool]] = {}
        with suppress(TransientError):
            for partition, end in self.source.end_offsets(sorted(self.owned)).items():
                offset = self.owned[partition].next_offset
                self._telemetry.set(LAG, partition.topic, str(partition.partition), value=max(0, end - offset))
                # a transaction's marker lies behind the last record: what was read to its end is not waiting
                standing[partition] = offset, offset < end and not self.source.caught_up(partition)
            for topic, number in self._stalls.look(self._pace.now_ms(), standing) if self._pace.live else ():
                offset = standing[PartitionId(topic, number)][0]
                self._telemetry.add(STALLS, topic)
                log.error("partition stalled", source=self.source.name, topic=topic, partition=number, offset=offset)

    def _forget(self) -> None:
        """Drop all that is not stored and read on from where the store stands. Asks nothing of the store, which may be out of reach."""
        self._intake.discard()
        self._gaps = []
        self._events_waiting = 0
        for partition, owned in self.owned.items():
            owned.next_offset = owned.stored_offset
            owned.caught_up_ms = owned.stored_caught_up_ms
            self._seek(partition, owned.stored_offset)

    def _seek(self, partition: PartitionId, offset: int) -> None:
        self.source.seek(partition, offset)
        self._sought.add(partition)

    def _back_off(self, error: TransientError) -> None:
        wait_ms = BACKOFF_MS[min(self._failures, len(BACKOFF_MS) - 1)]
        self._failures += 1
        self._retry_ms = self._pace.now_ms() + wait_ms
        self._telemetry.store_failed()
        log.warning(
            "store or broker out of reach, trying again", source=self.source.name, wait_ms=wait_ms, error=str(error)
        )
        self._paused = True
        for partition in self.owned:
            self.source.pause(partition)

    def _go_on(self) -> None:
        """After a pause: from what was taken, because a poll that met trouble may have handed out more than was."""
        if not self._paused:
            return
        self._paused = False
        for partition, owned in self.owned.items():
            self._seek(partition, owned.next_offset)
            self.source.resume(partition)


def patience(models: int) -> float:
    """How many times further apart checkpoints come: each overwrites a row for every pane it touches. A crash reads so much more again."""
    return min(max(models / MODELS_A_CHECKPOINT, 1.0), 5.0)
