"""What every turn of closing stands on: the model, the transaction, the watermarks; and how a window gets its revision and status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from detectors.finding import Finding, Monitor
from detectors.performance.reference import PerformanceReference
from monitor.closing.alerting import Judged
from monitor.closing.panes import pane_start
from monitor.closing.windows import finish
from monitor.config import Model
from monitor.references import ReferenceBook
from monitor.store import AlertRow, ClosingTransaction, RetrainingRow, WindowRow
from monitor.store.records import PerformanceKey

FOREVER_MS = 2**62

Decision = WindowRow | AlertRow | RetrainingRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one turn of closing knows. Watermarks are None where nothing is certain; `end_of_input`: everything that holds data is closed."""

    model: Model
    tx: ClosingTransaction
    book: ReferenceBook
    watermark_ms: int | None
    outcome_watermark_ms: int | None
    end_of_input: bool
    now_ms: int

    @property
    def size_ms(self) -> int:
        return self.model.window.size_ms

    def performance_of(self, reference: str) -> PerformanceReference | None:
        known = self.book.by_hash(reference)
        return None if known is None else known.performance

    def before_ms(self, watermark_ms: int | None) -> int:
        """Panes that start before this are closed by the watermark."""
        if self.end_of_input:
            return FOREVER_MS
        return -FOREVER_MS if watermark_ms is None else pane_start(watermark_ms, self.size_ms)

    def row(self, monitor: Monitor, key: PerformanceKey, rows: int) -> WindowRow:
        adopted = self.book.in_force(key.model, key.version, key.start_ms)
        return WindowRow(
            id="", model=key.model, version=key.version, monitor=str(monitor), segment=key.segment or None,
            start_ms=key.start_ms, end_ms=key.start_ms + self.size_ms, state="", status="", revision=0, rows=rows, digest="",
            reference=key.reference, inherited=adopted is not None and adopted.version != key.version,
            findings=b"", marks="", recorded_at_ms=self.now_ms,
        )  # fmt: skip


def put(
    scene: Scene,
    row: WindowRow,
    findings: Sequence[Finding],
    counts: bytes,
    *,
    final: bool,
    heard_ms: int | None = None,
    open_verdict: bool = False,
) -> Judged | None:
    """The finished window with its revision and status; None where nothing changed (a window that became final is noted at once)."""
    row = finish(row, findings, counts, open_verdict=open_verdict)
    known = scene.tx.window(row.id)
    status = "final" if final else "provisional"
    if known is None:
        return Judged(row=replace(row, revision=1, status=status), findings=findings, in_order=False, heard_ms=heard_ms)
    revision = known.revision + 1
    if known.digest == row.digest and known.state == row.state:
        if known.marks == row.marks:
            if final and known.status == "provisional":
                scene.tx.put_window(replace(known, status="final"))
            return None
        if _closed(known.marks) == _closed(row.marks):  # the same verdict, which counts from now on
            revision = known.revision
    changed = replace(row, revision=revision, status=status if known.status == "provisional" else "revised")
    return Judged(row=changed, findings=findings, in_order=False, before=known.marks, heard_ms=heard_ms)


def _closed(marks: str) -> object:
    return {**json.loads(marks), "open": False}
