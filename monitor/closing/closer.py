"""Closing: the watermark has passed, panes become windows with verdicts, verdicts become alert transitions, all in one transaction per model.

Any worker may close any model; the store's lock on the model makes it one at a time. What is written depends only on the merged counts, the
reference and the configuration, so a window closed twice, late, or elsewhere is the same window.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from monitor.closing.alerting import Alerting
from monitor.closing.data import DataRules, DataTurn
from monitor.closing.outcomes import close_outcomes
from monitor.closing.panes import pane_start
from monitor.closing.performance_windows import Rules
from monitor.closing.scene import Decision, Scene
from monitor.closing.watermarks import Bounded, outcome_watermarks, stored_watermarks
from monitor.config import Model
from monitor.references import ReferenceBook
from monitor.store import ClosingTransaction, ModelState, RetrainingRow, Store, WindowRow
from monitor.telemetry import BATCH, TRIGGERS, WATERMARK, WINDOWS, Telemetry


@dataclass(slots=True, kw_only=True)
class Watched:
    """One configured model, as the closer needs it."""

    model: Model
    data: DataRules
    performance: Rules

    @property
    def size_ms(self) -> int:
        return self.model.window.size_ms


@dataclass(slots=True)
class Closer:
    """`step` closes what the watermarks allow; `finish_input` closes every window that holds data, for the end of a replay."""

    store: Store
    watched: Mapping[str, Watched]
    book: Callable[[], ReferenceBook]
    alerting: Alerting
    now_ms: Callable[[], int]
    groups: Collection[str] = ()  # sources whose partitions hold the watermark; empty: all that the store knows
    decided: Callable[[Decision], None] = field(default=lambda decision: None)
    telemetry: Telemetry = field(default_factory=Telemetry)
    bounded: Bounded = lambda source, partition: False  # which partitions never grow: finished ones hold back no stream
    # Watermarks when a model's outcomes were last closed.
    _looked: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    _due_ms: dict[str, dict[int, int]] = field(default_factory=dict)

    def step(self) -> int:
        """Close every model that has something to close. Returns the number of panes closed."""
        begun = time.perf_counter()
        dirty, states = self.store.dirty_models(), self.store.model_states()
        watermarks = self.watermarks() if dirty or states else {}
        for name, watermark in watermarks.items():
            if watermark is not None:
                self.telemetry.set(WATERMARK, name, value=watermark / 1000)
        closed = {
            name: self._close_model(self.watched[name], watermark, end_of_input=False)
            for name, watermark in sorted(watermarks.items())
            if watermark is not None
            and self._has_work(self.watched[name], watermark, dirty.get(name), states.get(name))
        }
        self._close_outcomes(watermarks, frozenset(closed), end_of_input=False)
        if closed:
            self.telemetry.observe(BATCH, "close", seconds=time.perf_counter() - begun)
        return sum(closed.values())

    def finish_input(self) -> int:
        """The end of input: every pane with data is closed, provisional where the watermark has not passed it; no silence after it."""
        watermarks = self.watermarks()
        closed = {
            name: self._close_model(self.watched[name], watermarks.get(name), end_of_input=True)
            for name in sorted(self.store.dirty_models())
            if name in self.watched
        }
        self._close_outcomes(watermarks, frozenset(), end_of_input=True)
        return sum(closed.values())

    def watermarks(self) -> dict[str, int | None]:
        """Model -> watermark, from what all workers have stored."""
        lateness = {name: watched.model.lateness_ms for name, watched in self.watched.items()}
        return stored_watermarks(self.store, lateness, self.groups, self.bounded)

    def _close_outcomes(
        self, watermarks: Mapping[str, int | None], moved: Collection[str], *, end_of_input: bool
    ) -> None:
        """Of every model whose outcomes changed something since they were last looked at, or whose time went on (`moved`)."""
        dirty = self.store.dirty_performance_models()
        if not dirty and not moved:
            return
        lateness = {name: watched.model.lateness_ms for name, watched in self.watched.items()}
        heard = outcome_watermarks(self.store, lateness, self.groups, self.bounded)
        for name, watched in sorted(self.watched.items()):
            now = (watermarks.get(name), heard.get(name))
            if name not in dirty.keys() | moved or (self._looked.get(name) == now and not end_of_input):
                continue
            more = True
            while more:
                with self.store.closing(name) as tx:
                    if tx is None:
                        break
                    scene = self._scene(watched, tx, now, end_of_input=end_of_input)
                    due_ms = self._due_ms.setdefault(name, {})
                    decisions, more = close_outcomes(scene, watched.performance, self.alerting, due_ms)
                self._tell(decisions)
            else:
                self._looked[name] = now

    def _scene(
        self,
        watched: Watched,
        tx: ClosingTransaction,
        watermarks: tuple[int | None, int | None],
        *,
        end_of_input: bool,
    ) -> Scene:
        return Scene(
            model=watched.model, tx=tx, book=self.book(), watermark_ms=watermarks[0], outcome_watermark_ms=watermarks[1],
            end_of_input=end_of_input, now_ms=self.now_ms(),
        )  # fmt: skip

    def _tell(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._count(decision)
            self.decided(decision)

    def _count(self, decision: Decision) -> None:
        if isinstance(decision, WindowRow):
            self.telemetry.add(WINDOWS, decision.model, decision.monitor, _result(decision.state), by=decision.run)
        elif isinstance(decision, RetrainingRow):
            self.telemetry.add(TRIGGERS, decision.model, decision.target, "accepted")

    @staticmethod
    def _has_work(watched: Watched, watermark: int, dirty_ms: int | None, state: ModelState | None) -> bool:
        limit_ms = pane_start(watermark, watched.size_ms)
        frontier_ms = state.frontier_ms if state else None
        return (dirty_ms is not None and dirty_ms < limit_ms) or (frontier_ms is not None and frontier_ms < limit_ms)

    def _close_model(self, watched: Watched, watermark: int | None, *, end_of_input: bool) -> int:
        closed = 0
        while True:
            with self.store.closing(watched.model.name) as tx:
                if tx is None:
                    return closed
                scene = self._scene(watched, tx, (watermark, None), end_of_input=end_of_input)
                turn = DataTurn(scene, watched.data, self.alerting, self.telemetry)
                panes, more = turn.run()
            self._tell(turn.decisions)
            closed += panes
            if not more:
                return closed


def _result(state: str) -> str:
    return {"error": "error", "insufficient_data": "insufficient_data", "no_data": "insufficient_data"}.get(
        state, "evaluated"
    )
