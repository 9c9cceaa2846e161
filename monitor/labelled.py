"""The newest window of performance that labels have judged, by model version; kept from scrape to scrape.

With labels that come weeks late it is not the newest window, and which one it is changes with every batch of labels. So it is looked up
once for each version, and from then on only what has been decided since the last scrape is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from monitor.outcome_series import Track, realised
from monitor.results import decode_findings
from monitor.series import Judged
from monitor.store import WindowRow

LOOKED_UP_A_SCRAPE = 50  # versions; the first scrapes of hundreds of models stay quick
CANDIDATES = 16
OVERLAP = 2_000  # decisions read again: transactions may commit in another order than they were numbered


class PerformanceResults(Protocol):
    def windows_after(self, decided: int, monitor: str) -> tuple[Sequence[WindowRow], int]: ...

    def judged_again(self, model: str, version: str, monitor: str, limit: int) -> Sequence[WindowRow]: ...


class NewestLabelled:
    """`update` with the newest window of performance of every version in use, then `windows`."""

    def __init__(self, results: PerformanceResults) -> None:
        self._results = results
        self._seen: int | None = None
        self._best: dict[Track, Judged | None] = {}  # None: looked up, and there is none
        self.complete = True  # every version of the last update has been looked up

    @property
    def windows(self) -> Mapping[Track, Judged]:
        return {track: judged for track, judged in self._best.items() if judged is not None}

    def update(self, newest: Iterable[WindowRow]) -> None:
        rows = {(row.model, row.version): row for row in newest}
        self._best = {track: judged for track, judged in self._best.items() if track in rows}
        if not rows:
            self.complete = True
            return
        if self._seen is None:
            self._seen = max(row.decided for row in rows.values())
        decided, self._seen = self._results.windows_after(max(0, self._seen - OVERLAP), "performance")
        for row in decided:
            self._hear(row)
        unknown = [track for track in rows if track not in self._best]
        for model, version in unknown[:LOOKED_UP_A_SCRAPE]:
            again = self._results.judged_again(model, version, "performance", CANDIDATES)
            self._best[model, version] = _first([rows[model, version], *again])
        self.complete = len(unknown) <= LOOKED_UP_A_SCRAPE

    def _hear(self, row: WindowRow) -> None:
        track = row.model, row.version
        if track not in self._best:
            return
        best = self._best[track]
        if best is not None:
            known = best[0]
            if (row.id, row.revision) == (known.id, known.revision) or row.end_ms < known.end_ms:
                return
        judged = None if row.withdrawn else _first([row])
        if judged is not None:
            self._best[track] = judged
        elif best is not None and row.id == best[0].id:
            del self._best[track]  # it says no more what it said: look again


def _first(rows: Sequence[WindowRow]) -> Judged | None:
    for row in sorted(rows, key=lambda row: (row.end_ms, row.decided), reverse=True):
        findings = decode_findings(row.findings)
        if realised(findings):
            return row, findings
    return None
