"""Store: the service's whole memory behind one object. Several threads and several processes may use one database at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from alerts.lifecycle import Acknowledgement
from alerts.record import Page
from alerts.silence import Silence
from monitor.ports import PartitionId
from monitor.store import (
    acknowledgements,
    acts,
    checkpoint,
    closing,
    outbox,
    performance,
    prune,
    reading,
    references,
    retraining,
    schema,
    sources,
    telling,
    transitions,
)
from monitor.store.engine import BUSY_TIMEOUT_MS, Database
from monitor.store.outcomes import Join
from monitor.store.posts import StoredPosts
from monitor.store.records import (
    ActRow,
    AlertRow,
    Checkpoint,
    CheckpointResult,
    Claim,
    Clock,
    ExpiredRows,
    GapRow,
    JoinSize,
    Kind,
    ModelState,
    OutboxRow,
    PaneSummary,
    PartitionState,
    PauseRow,
    QuarantineRow,
    ReferenceRow,
    RetrainingRow,
    RetrainingStep,
    ToldRow,
    UnconfiguredRow,
    WindowRow,
)

if TYPE_CHECKING:
    from alerts.notifiers.slack import Posts  # brings its HTTP client along


class Store:
    """Every method is a transaction of its own and may raise TransientError: nothing was stored then, as far as is known, and it may be repeated."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._join = Join(database)

    @classmethod
    def open(
        cls, url: str, *, create: bool = True, durable: bool = True, busy_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> Self:
        """Raises UserError, in one line, for a database that cannot be reached or written or whose schema does not fit; BusyError (a
        TransientError) while others hold it. Creates the schema in an empty database if `create`; migrates SQLite.
        `durable=False` and `busy_timeout_ms` are for SQLite: no fsync, and how long a writer waits for its turn.
        """
        database = Database(url, durable=durable, busy_timeout_ms=busy_timeout_ms)
        try:
            schema.prepare(database, create=create)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @staticmethod
    def upgrade(url: str) -> None:
        """Bring the schema to the newest revision. Stop the workers first."""
        database = Database(url)
        try:
            schema.upgrade(database)
        finally:
            database.close()

    def close(self) -> None:
        self._db.close()

    # Partitions

    def sync_topics(self, group: str, topics: Mapping[str, int], now_ms: int) -> None:
        """Make a row for each partition (topic -> number of them) that has none: unread, epoch 0. Rows are never taken away."""
        sources.sync_topics(self._db, group, topics, now_ms)

    def claim(self, group: str, partitions: Iterable[PartitionId], owner: str, now_ms: int) -> dict[PartitionId, Claim]:
        """Take partitions, whoever has them: epoch + 1, and the former owner is fenced. Forgets that they were halted."""
        return sources.claim(self._db, group, partitions, owner, now_ms)

    def set_start(self, group: str, partition: PartitionId, epoch: int, next_offset: int) -> None:
        """Where reading begins; to be stored before it does. Raises PartitionsFencedError."""
        sources.set_start(self._db, group, partition, epoch, next_offset)

    def halt(self, group: str, partition: PartitionId, epoch: int, reason: str) -> None:
        """Note that the partition cannot be read on, until it is claimed again. Raises PartitionsFencedError."""
        sources.halt(self._db, group, partition, epoch, reason)

    def claimable(  # noqa: PLR0917
        self,
        group: str,
        topics: Iterable[str],
        owner: str,
        now_ms: int,
        lease_ms: int,
        is_alive: Callable[[str], bool],
    ) -> list[PartitionId]:
        """Partitions without an owner, with one that has not renewed for `lease_ms`, or with a dead one. Another may claim them first."""
        return sources.claimable(self._db, group, topics, owner, now_ms=now_ms, lease_ms=lease_ms, is_alive=is_alive)

    def renew(self, group: str, owner: str, now_ms: int) -> None:
        """Extend the leases of all the owner's partitions. A checkpoint does it for those it moves."""
        sources.renew(self._db, group, owner, now_ms)

    def release(self, group: str, owner: str) -> None:
        """Give back all the owner's partitions; its later checkpoints are fenced."""
        sources.release(self._db, group, owner)

    def partition_states(self, group: str | None = None) -> list[PartitionState]:
        return sources.partition_states(self._db, group)

    def model_clocks(self, group: str | None = None) -> dict[tuple[str, PartitionId, str], Clock]:
        """By (group, partition, model)."""
        return sources.model_clocks(self._db, group)

    def checkpoint(self, c: Checkpoint) -> CheckpointResult:
        """All or nothing. Raises PartitionsFencedError (naming them), StaleReferences, TransientError.

        The same checkpoint may be repeated after a TransientError: what had landed is recognised and not stored again.
        """
        return checkpoint.checkpoint(self._db, self._join, c)

    # Outcomes

    def outcome_clocks(self, group: str | None = None) -> dict[tuple[str, PartitionId, str], Clock]:
        """By (group, partition, model): the newest outcome time there."""
        return performance.outcome_clocks(self._db, group)

    def dirty_performance_models(self) -> dict[str, dict[Kind, int]]:
        """Model -> kind -> start of its oldest performance pane that changed since its windows were written."""
        return performance.dirty_performance_models(self._db)

    def expire_outcomes(self, watermarks: Mapping[str, int], batch: int = 5000) -> dict[str, ExpiredRows]:
        """Forget the ids of these models whose events are all older than their retention at the model's watermark, `batch` a transaction.

        Looks through all that is waiting: for every hour or so.
        """
        return self._join.expire(watermarks, batch)

    def join_size(self) -> JoinSize:
        """What waits in the join, without counting it row by row."""
        return self._join.size()

    # Windows

    def closing(self, model: str) -> AbstractContextManager[closing.ClosingTransaction | None]:
        """One transaction over everything that is decided about the model; None while another worker is closing it."""
        return closing.closing(self._db, model)

    def windows(
        self,
        model: str | None = None,
        monitor: str | None = None,
        *,
        since_ms: int | None = None,
        revisions: bool = False,
        limit: int | None = None,
    ) -> Iterator[WindowRow]:
        """In the order decided: newest revisions that are not withdrawn, or all with `revisions`; start >= since_ms; the last `limit`.

        Read in pages, so windows decided meanwhile may or may not appear.
        """
        return reading.read_windows(self._db, model, monitor, since_ms=since_ms, revisions=revisions, limit=limit)

    def window(self, window_id: str) -> WindowRow | None:
        """Its newest revision, also when withdrawn."""
        return reading.window(self._db, window_id)

    def dirty_models(self) -> dict[str, int]:
        """Model -> start of its oldest pane that changed since its windows were written."""
        return reading.dirty_models(self._db)

    def model_states(self) -> dict[str, ModelState]:
        """How far each model has been closed, of those that were ever looked at."""
        return reading.model_states(self._db)

    def newest_windows(self) -> list[WindowRow]:
        """For each (model, version, monitor) the standing window of all rows with the greatest end (of equal ends the last decided)."""
        return reading.newest_windows(self._db)

    def windows_after(self, decided: int, monitor: str, limit: int = 2_000) -> tuple[list[WindowRow], int]:
        """Newest revisions (also withdrawn ones) without a segment that were decided after `decided`, at most `limit` in that order;
        and where to go on from."""
        return reading.windows_after(self._db, decided, monitor, limit)

    def judged_again(self, model: str, version: str, monitor: str, limit: int) -> list[WindowRow]:
        """Standing windows without a segment that have been revised, latest end first."""
        return reading.judged_again(self._db, model, version, monitor, limit)

    def panes(self) -> list[PaneSummary]:
        return reading.panes(self._db)

    # References

    def add_reference(self, row: ReferenceRow, *, window_ms: int) -> None:
        """Store a reference, in force from the window after the newest pane of the model, or of the version it is for (from ever if there
        is none), and make workers that do not know it read it first. Nothing happens when it is the newest of its model and version
        already, with the same settings."""
        references.add_reference(self._db, row, window_ms=window_ms)

    def references(self, model: str | None = None) -> list[ReferenceRow]:
        """In the order they were added: of those with the same effective_from_ms the last one is in force."""
        return references.references(self._db, model)

    def reference_generation(self) -> int:
        """How many references were added so far. Read it before `references`, never after."""
        return references.reference_generation(self._db)

    # Alerts

    def alerts(self, history: bool = False) -> list[AlertRow]:
        """The newest transition of each alert, or all transitions, in the order they were put."""
        return transitions.alerts(self._db, history)

    def firing_alerts(self) -> list[AlertRow]:
        """The newest transition of each alert that fires, in the order they were put. Cheap, however many alerts there were."""
        return transitions.firing_alerts(self._db)

    def alert_history(self, alert_id: str) -> list[AlertRow]:
        """All transitions of one alert, in the order they were put."""
        return transitions.alert_history(self._db, alert_id)

    def telling_due(self, now_ms: int) -> bool:
        """Whether a turn of telling has something to do: a transition is pending, or something kept is to be looked at by now. Cheap."""
        return telling.telling_due(self._db, now_ms)

    def telling(self) -> AbstractContextManager[telling.TellingTransaction | None]:
        """One transaction over everything that is decided about whom to tell; None while another worker is at it."""
        return telling.telling(self._db)

    def told(self, alert_id: str) -> list[ToldRow]:
        """What became of the alert at each receiver, by receiver."""
        return transitions.told(self._db, alert_id)

    def told_to(self, receiver: str) -> set[str]:
        """The alerts of which the newest record at this receiver is that they were told."""
        return transitions.told_to(self._db, receiver)

    def told_by(self, receiver: str) -> list[tuple[ToldRow, AlertRow]]:
        """The newest record of each alert at this receiver, oldest first, with the newest transition of the alert."""
        return transitions.told_by(self._db, receiver)

    def pages(self) -> list[Page]:
        """Oldest first, each with the newest verdict that was given on an alert of its incident."""
        return acts.pages(self._db)

    def posts(self, receiver: str, now_ms: Callable[[], int]) -> Posts:
        """Where the receiver keeps its first message of an incident. Its methods raise nothing and may be called by any thread."""
        return StoredPosts(self._db, receiver, now_ms)

    # What people do

    def acknowledge(self, acknowledgement: Acknowledgement, act: ActRow) -> None:
        """It holds for the groups that the alert is in and for those that it comes into. Waits for a turn of telling under way."""
        acts.acknowledge(self._db, acknowledgement, act)

    def acknowledgements(self, alert_id: str) -> list[Acknowledgement]:
        """Oldest first; the last one holds."""
        return acknowledgements.acknowledgements(self._db, alert_id)

    def put_silence(self, silence: Silence, act: ActRow) -> None:
        """Takes the place of the one with the same id."""
        acts.put_silence(self._db, silence, act)

    def silences(self) -> list[Silence]:
        """All that are kept, also those that are over, in order of their ends."""
        return acts.silences(self._db)

    def put_act(self, act: ActRow) -> None:
        acts.put_act(self._db, act)

    def acts(self, limit: int | None = None) -> list[ActRow]:
        """The last `limit`, oldest first."""
        return acts.acts(self._db, limit)

    # Messages

    def lease_outbox(self, now_ms: int, owner: str, lease_ms: int, limit: int) -> list[OutboxRow]:
        """Due messages for this sender alone until the lease ends, also those that have expired: of each (receiver, ordering_key) the
        oldest pending one only, so a message waits for the retries of those before it."""
        return outbox.lease_outbox(self._db, now_ms, owner, lease_ms, limit)

    def finish_outbox(
        self,
        message_id: str,
        owner: str,
        *,
        sent: bool,
        error: str | None,
        next_attempt_at_ms: int | None,
        now_ms: int,
    ) -> str | None:
        """What came of a leased message; returns its status: sent; pending (again at next_attempt_at_ms); expired, where that is too late
        or its time has come; without a next attempt failed. None, and nothing is done, when another sender has it by now.
        A retraining request that waits for its message is told the error, and has failed with a message that failed or expired."""
        return outbox.finish_outbox(
            self._db,
            message_id,
            owner,
            sent=sent,
            error=error,
            next_attempt_at_ms=next_attempt_at_ms,
            now_ms=now_ms,
        )

    def outbox_pending(self, receiver: str | None = None) -> int:
        return outbox.outbox_pending(self._db, receiver)

    # Retraining

    def retraining(self) -> list[RetrainingRow]:
        return retraining.retrainings(self._db)

    def retraining_steps(self, request_id: str) -> list[RetrainingStep]:
        """Each status that the request has had, oldest first."""
        return retraining.retraining_steps(self._db, request_id)

    def set_retraining_status(
        self, request_id: str, status: str, told: str, now_ms: int, detail: Mapping[str, Any] | None = None, /
    ) -> bool:
        """Move a request on, with a step where its status changes; `told` becomes `delivery` in its detail, the keys of `detail` are set
        there too, its reason stays. False, nothing is changed and the log tells why, where the request is unknown or may not go from its
        status to this one."""
        return retraining.set_retraining_status(self._db, request_id, status, told, now_ms=now_ms, detail=detail)

    def approve_retraining(self, message: OutboxRow) -> bool:
        """Send a proposed request: puts its message. False when the request waits no longer or its message is there already."""
        return retraining.approve_retraining(self._db, message)

    def cancel_retraining(self, request_id: str, told: str, now_ms: int, act: ActRow) -> bool:
        """End a request, and its message where that still waits (one that is being sent may arrive all the same). False, and no act, where
        the request is unknown or has ended."""
        return retraining.cancel_retraining(self._db, request_id, told, now_ms, act)

    def pause_retraining(self, pause: PauseRow, act: ActRow) -> None:
        """Takes the place of the pause of the same model."""
        retraining.pause_retraining(self._db, pause, act)

    def resume_retraining(self, model: str, act: ActRow) -> bool:
        """False, and no act, where that (a model, or "" for all of them) is not paused."""
        return retraining.resume_retraining(self._db, model, act)

    def retraining_pauses(self) -> dict[str, PauseRow]:
        """By model; "" is all of them."""
        return retraining.retraining_pauses(self._db)

    # What could not be used

    def quarantine(self, limit: int | None = None) -> list[QuarantineRow]:
        """The last `limit`, oldest first."""
        return reading.quarantined(self._db, limit)

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        """By (topic, reason), of the rows that are still kept."""
        return reading.quarantine_counts(self._db)

    def gaps(self, limit: int | None = None) -> list[GapRow]:
        """The last `limit`, oldest first."""
        return reading.gaps(self._db, limit)

    def unconfigured(self) -> list[UnconfiguredRow]:
        return reading.unconfigured_models(self._db)

    def prune(
        self,
        now_ms: int,
        windows_ms: int,
        quarantine_ms: int,
        batch: int = 5000,
    ) -> dict[str, int]:
        """Delete what was recorded longer ago than its retention, `batch` rows a transaction; returns how many by table.

        `windows_ms` also holds for alerts and what was made of them, retraining, acts and the state of final panes, `quarantine_ms` for
        gaps and finished messages. An alert that fires is kept.
        """
        return prune.prune(self._db, now_ms, windows_ms=windows_ms, quarantine_ms=quarantine_ms, batch=batch)
