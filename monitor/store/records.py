"""What goes into the store and comes out of it. All times are ints, ms UTC; version "" is the event that names none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

from detectors.profile import Profile
from monitor.clocks import Clock
from monitor.errors import DriftlineError, FencedError
from monitor.joining.outcomes import Contributions, JoinBatch, JoinCounts
from monitor.ports import PartitionId

__all__ = [
    "ANY",
    "ActRow",
    "AlertRow",
    "AnyVersion",
    "Checkpoint",
    "CheckpointResult",
    "Claim",
    "Clock",
    "ExpiredRows",
    "FROM_THE_BEGINNING_MS",
    "GapRow",
    "JoinSize",
    "Kind",
    "ModelState",
    "OutboxRow",
    "PaneKey",
    "PaneRows",
    "PaneSummary",
    "PartitionState",
    "PartitionsFencedError",
    "PauseRow",
    "PerformanceDelta",
    "PerformanceKey",
    "Progress",
    "QuarantineRow",
    "ReferenceRow",
    "RetrainingRow",
    "RetrainingStep",
    "StaleReferences",
    "ToldRow",
    "UnconfiguredRow",
    "WindowRow",
]

FROM_THE_BEGINNING_MS = -(2**62)  # a model's first reference is in force for every event there may be


class AnyVersion(Enum):
    """Stands where a version is asked for and any will do ("" is a version of its own)."""

    ANY = "any"


ANY = AnyVersion.ANY


class PaneKey(NamedTuple):
    """What one profile is about."""

    model: str
    version: str
    reference: str
    start_ms: int


# Of performance: by the prediction's pane, and what concept detectors read: by the outcome's.
Kind = Literal["pane", "arrival"]


class PerformanceKey(NamedTuple):
    """What one performance profile is about; segment "" is all of them."""

    model: str
    kind: Kind
    start_ms: int
    version: str
    reference: str
    segment: str = ""


class PerformanceDelta(NamedTuple):
    """What is to be added to a profile: `rows` (may be negative) and the encoded profile."""

    rows: int
    profile: bytes


Fold = Callable[[Contributions], Mapping[PerformanceKey, PerformanceDelta]]
Merge = Callable[[bytes, bytes], bytes]  # adds two encoded profiles of one kind


class Claim(NamedTuple):
    """`next_offset` is None while nobody has stored where the partition starts."""

    epoch: int
    next_offset: int | None


class PartitionsFencedError(FencedError):
    """`partitions` belong to another worker, or stand at another offset than the caller believed."""

    def __init__(self, partitions: Sequence[PartitionId]) -> None:
        super().__init__("claimed by another worker: " + ", ".join(f"{topic}/{number}" for topic, number in partitions))
        self.partitions = tuple(partitions)


class StaleReferences(DriftlineError):
    """A reference was added since the caller read them. Nothing was stored: read the references and fold again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    group: str
    partition: PartitionId
    next_offset: int | None
    epoch: int
    owner: str | None
    newest_ms: int | None
    newest_read_ms: int | None
    caught_up_ms: int | None
    outcomes_seen: bool
    halted: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One partition read from `from_offset` up to, not including, `to_offset` under the claim `epoch`.

    `newest_ms` (of any model's predictions, with the time it was read) and `caught_up_ms` only ever rise in the store; None says nothing new.
    """

    partition: PartitionId
    epoch: int
    from_offset: int
    to_offset: int
    newest_ms: int | None = None
    newest_read_ms: int | None = None
    caught_up_ms: int | None = None
    outcomes_seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """`recorded_at_ms` is set by the store."""

    source: str
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    recorded_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """Records that are lost to us. `recorded_at_ms` is set by the store."""

    source: str
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    reason: str
    recorded_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnconfiguredRow:
    """Records of a model that is not configured; model "" stands for all names beyond the first hundred."""

    group: str
    model: str
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All that was made of the records between two offsets of each partition, and nothing else.

    `fold` is called inside the transaction with what `join` changed (not at all where that is nothing) and must be quick; `merges` add
    what it returns to what is stored. `clocks` are of predictions, `outcome_clocks` of outcomes.
    """

    group: str
    owner: str
    writer: str
    now_ms: int
    reference_generation: int
    partitions: Sequence[Progress]
    clocks: Mapping[tuple[PartitionId, str], Clock]
    deltas: Mapping[PaneKey, Profile]
    quarantine: Sequence[QuarantineRow] = ()
    gaps: Sequence[GapRow] = ()
    unconfigured: Mapping[str, int]
    outcome_clocks: Mapping[tuple[PartitionId, str], Clock] = field(default_factory=dict)
    join: JoinBatch | None = None
    fold: Fold | None = None
    merges: Mapping[Kind, Merge] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointResult:
    """`late_rows` by model: rows of final panes, counted and not stored. All are empty when the checkpoint had been stored before."""

    late_rows: dict[str, int]
    new_panes: int
    join: JoinCounts = field(default_factory=JoinCounts)


class JoinSize(NamedTuple):
    """`bytes` on disk, with indexes; both are estimates on PostgreSQL, from its last ANALYZE."""

    rows: int
    bytes: int


class ExpiredRows(NamedTuple):
    """Rows of the join that were forgotten: with both sides, with predictions only, with outcomes only (or retracted)."""

    matched: int = 0
    unlabelled: int = 0
    orphans: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """`frontier_ms` is what the closer last set; `first_pane_ms` the start of the model's first pane ever."""

    frontier_ms: int | None
    first_pane_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneRows:
    start_ms: int
    version: str
    reference: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneSummary:
    model: str
    open: int
    dirty: int
    final: int
    late_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow:
    """One revision of one window. A `run` > 1 stands for that many consecutive no_data windows from `start_ms` to `end_ms`.

    `decided` is set by the store and rises with every revision that was put.
    """

    id: str
    model: str
    version: str
    monitor: str
    segment: str | None = None
    start_ms: int
    end_ms: int
    state: str
    status: str
    revision: int
    rows: int
    digest: str
    reference: str
    inherited: bool
    findings: bytes
    marks: str
    run: int = 1
    withdrawn: bool = False
    recorded_at_ms: int
    decided: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One transition. `seq` is set by the store and rises.

    `stale`: the window behind it was too old to page anyone when it was judged. `pending`: telling has it to do.
    """

    id: str
    fingerprint: str
    incident: str
    model: str
    version: str
    segment: str | None = None
    monitor: str
    subject: str
    check: str
    severity: str
    status: str
    corrected: bool
    at_ms: int
    starts_at_ms: int
    ends_at_ms: int | None
    window: str
    reason: str
    text: str
    recorded_at_ms: int
    stale: bool = False
    pending: bool = False
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRow:
    """What became of an alert at a receiver, and by what (`alerts.desk.Record`); the newest of the two holds."""

    alert: str
    receiver: str
    outcome: str
    detail: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRow:
    """What a person did (`act`, in words) to what (`subject`), by the clock. `seq` is set by the store and rises."""

    at_ms: int
    who: str
    act: str
    subject: str
    detail: str
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One message to one receiver. `kind` is notification or retraining; `status` pending, sent, failed, expired or cancelled.

    The `id` of a retraining message is the id of its retraining row. Rows of one (receiver, ordering_key) are sent in the order they were put.
    """

    id: str
    kind: str
    receiver: str
    ordering_key: str
    body: bytes
    created_at_ms: int
    next_attempt_at_ms: int
    expires_at_ms: int
    attempts: int = 0
    status: str = "pending"
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingRow:
    """`reason` is why it was asked for, and stays. `detail` is JSON: the alert behind it, and `delivery`, what that came to last."""

    id: str
    model: str
    version: str
    target: str
    status: str
    mode: str
    reason: str
    at_ms: int
    recorded_at_ms: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingStep:
    """The request has this status since `at_ms` (the clock's time); `told` is what was said then."""

    request: str
    status: str
    told: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRow:
    """No retraining of the model, or of any ("")."""

    model: str
    who: str
    at_ms: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """`effective_from_ms` is set by the store. `settings` and `warnings` are JSON; `payload` is the encoded reference.

    Where another table than the configured one was chosen, `settings` holds `instead_of`: path and SHA-256 of the configured one then.
    """

    hash: str
    model: str
    version: str
    effective_from_ms: int = FROM_THE_BEGINNING_MS
    payload: bytes
    source_path: str
    source_sha256: str
    settings: str
    rows: int
    warnings: str
    recorded_at_ms: int
