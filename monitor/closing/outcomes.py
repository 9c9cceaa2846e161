"""One turn of closing what outcomes are about: performance, then concept drift, then the alerts that follow, in one transaction."""

from __future__ import annotations

from monitor.closing.alerting import Alerting, Judged
from monitor.closing.concept import ConceptTurn
from monitor.closing.performance import PerformanceTurn
from monitor.closing.performance_windows import Rules
from monitor.closing.scene import Decision, Scene


def close_outcomes(
    scene: Scene, rules: Rules, alerting: Alerting, due_ms: dict[int, int]
) -> tuple[list[Decision], bool]:
    """What was decided, in order, and whether there is more to do. `due_ms`: see PerformanceTurn."""
    performance = PerformanceTurn(scene, rules, due_ms)
    concept = ConceptTurn(scene, performance)
    more = performance.run()
    concept.run()
    judged = [*performance.judged, *concept.judged]
    judged.sort(key=_place)
    told = alerting.fold(scene.tx, scene.model, judged, scene.now_ms)
    return list(told), more


def _place(item: Judged) -> tuple[int, int, str, str, str]:
    row = item.row
    return row.end_ms, row.start_ms, row.version, row.monitor, row.segment or ""
