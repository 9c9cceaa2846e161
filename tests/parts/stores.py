"""Small rows for the tests of the store: what a test does not name is of no interest to it."""

from __future__ import annotations

import numpy as np

from detectors.profile import Profile
from monitor.ports import PartitionId
from monitor.store import (
    AlertRow,
    Checkpoint,
    OutboxRow,
    PaneKey,
    Progress,
    ReferenceRow,
    RetrainingRow,
    Store,
    WindowRow,
)

GROUP = "live"
P0, P1 = PartitionId("events", 0), PartitionId("events", 1)
HOUR = 3_600_000
REF = "a" * 64


def profile(*counts: int, total: int = 7) -> Profile:
    return Profile(rows=sum(counts), counts=np.array(counts, np.int64), sums=np.array([total * sum(counts)], np.int64))


def key(start: int, *, model: str = "churn", version: str = "1", reference: str = REF) -> PaneKey:
    return PaneKey(model, version, reference, start * HOUR)


class Worker:
    """Reads `partition` on from where it stands: each call of `checkpoint` is ten records further."""

    def __init__(self, store: Store, name: str = "w1", partition: PartitionId = P0) -> None:
        self.store, self.name, self.partition = store, name, partition
        store.sync_topics(GROUP, {partition.topic: partition.partition + 1}, 0)
        claim = store.claim(GROUP, [partition], name, 0)[partition]
        self.epoch = claim.epoch
        if claim.next_offset is None:
            store.set_start(GROUP, partition, claim.epoch, 0)
        self.offset = claim.next_offset or 0

    def rows(self, deltas: dict[PaneKey, Profile] | None = None, **more: object) -> Checkpoint:
        progress = Progress(
            partition=self.partition, epoch=self.epoch, from_offset=self.offset, to_offset=self.offset + 10
        )
        fields = {"partitions": [progress], "clocks": {}, "deltas": deltas or {}, "unconfigured": {}, "now_ms": 1000}
        fields |= {
            "group": GROUP,
            "owner": self.name,
            "writer": self.name,
            "reference_generation": self.store.reference_generation(),
        }
        return Checkpoint(**fields | more)  # type: ignore[arg-type]

    def checkpoint(self, deltas: dict[PaneKey, Profile] | None = None, **more: object):
        result = self.store.checkpoint(self.rows(deltas, **more))
        self.offset += 10
        return result


def reference(hash: str = REF, **more: object) -> ReferenceRow:
    fields = {"hash": hash, "model": "churn", "version": "", "payload": b"p", "source_path": "ref.parquet"}
    fields |= {"source_sha256": "s", "settings": "{}", "rows": 5, "warnings": "[]", "recorded_at_ms": 1}
    return ReferenceRow(**fields | more)  # type: ignore[arg-type]


def window(id: str = "w", start: int = 0, **more: object) -> WindowRow:
    fields = {
        "id": id,
        "model": "churn",
        "version": "1",
        "monitor": "data",
        "start_ms": start * HOUR,
        "end_ms": (start + 1) * HOUR,
    }
    fields |= {"state": "ok", "status": "provisional", "revision": 1, "rows": 10, "digest": "d", "reference": REF}
    fields |= {"inherited": False, "findings": b"f", "marks": "{}", "recorded_at_ms": 1}
    return WindowRow(**fields | more)  # type: ignore[arg-type]


def alert(id: str = "a", **more: object) -> AlertRow:
    fields = {
        "id": id,
        "fingerprint": "f",
        "incident": "i",
        "model": "churn",
        "version": "1",
        "monitor": "data",
        "subject": "age",
    }
    fields |= {
        "check": "distribution",
        "severity": "warning",
        "status": "firing",
        "corrected": False,
        "at_ms": 2,
        "starts_at_ms": 1,
    }
    fields |= {"ends_at_ms": None, "window": "w", "reason": "r", "text": "t", "recorded_at_ms": 1}
    return AlertRow(**fields | more)  # type: ignore[arg-type]


def message(id: str, **more: object) -> OutboxRow:
    fields = {"id": id, "kind": "notification", "receiver": "oncall", "ordering_key": "f", "body": b"{}"}
    fields |= {"created_at_ms": 0, "next_attempt_at_ms": 0, "expires_at_ms": 10_000}
    return OutboxRow(**fields | more)  # type: ignore[arg-type]


def request(id: str, **more: object) -> RetrainingRow:
    fields = {"id": id, "model": "churn", "version": "1", "target": "airflow", "status": "requested", "mode": "auto"}
    fields |= {"reason": "drift", "at_ms": 1, "recorded_at_ms": 1, "detail": "{}"}
    return RetrainingRow(**fields | more)  # type: ignore[arg-type]
