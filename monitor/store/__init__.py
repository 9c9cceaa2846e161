"""The store: one SQL database, SQLite or PostgreSQL, and the only package that knows SQL."""

from __future__ import annotations

from monitor.store.closing import ClosingTransaction
from monitor.store.engine import BusyError
from monitor.store.records import (
    ANY,
    FROM_THE_BEGINNING_MS,
    AlertRow,
    AnyVersion,
    Checkpoint,
    CheckpointResult,
    Claim,
    Clock,
    GapRow,
    ModelState,
    OutboxRow,
    PaneKey,
    PaneRows,
    PaneSummary,
    PartitionsFencedError,
    PartitionState,
    Progress,
    QuarantineRow,
    ReferenceRow,
    RetrainingRow,
    StaleReferences,
    UnconfiguredRow,
    WindowRow,
)
from monitor.store.store import Store

__all__ = [
    "ANY",
    "FROM_THE_BEGINNING_MS",
    "AlertRow",
    "AnyVersion",
    "BusyError",
    "Checkpoint",
    "CheckpointResult",
    "Claim",
    "Clock",
    "ClosingTransaction",
    "GapRow",
    "ModelState",
    "OutboxRow",
    "PaneKey",
    "PaneRows",
    "PaneSummary",
    "PartitionState",
    "PartitionsFencedError",
    "Progress",
    "QuarantineRow",
    "ReferenceRow",
    "RetrainingRow",
    "StaleReferences",
    "Store",
    "UnconfiguredRow",
    "WindowRow",
]
