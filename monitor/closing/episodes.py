"""Episodes of alerts between closings: where each subject stands, and ends that are no verdict about its windows.

An episode ends when another version of the model has taken over, or when a window is judged under another reference than it began with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from alerts import lifecycle
from alerts.lifecycle import AlertState, Observation, Phase, Policy, Reason, Subject, Transition
from detectors.finding import Monitor
from monitor.store import ClosingTransaction, WindowRow

ReferenceEnd = Callable[
    [int], tuple[Reason, str]
]  # start of an episode -> why and in what words another reference ends it


_EVER_MS = 2**62


@dataclass(slots=True)
class Standing:
    """Where one subject of the model stands, with the incident its episode belongs to and the reference it began under ("" for none)."""

    subject: Subject
    state: AlertState
    incident: str = ""
    reference: str = ""

    @property
    def runs(self) -> bool:
        """It fires, or may soon."""
        return self.state.active or self.state.phase is Phase.PENDING

    def encode(self) -> str:
        s = self.subject
        state = lifecycle.encode_state(self.state)
        return json.dumps([s.version, s.monitor, s.subject, s.check, state, self.incident, s.segment, self.reference])

    @classmethod
    def decode(cls, model: str, text: str) -> Standing:
        version, monitor, subject, check, state, incident_id, *rest = json.loads(text)
        segment = rest[0] if rest else None  # stored before there were segments
        reference = rest[1] if len(rest) > 1 else ""  # stored before it was kept
        whole = Subject(model=model, version=version, segment=segment, monitor=monitor, subject=subject, check=check)
        return cls(whole, lifecycle.decode_state(state), incident_id, reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The end of a window by which only `versions` have had predictions for a while."""

    end_ms: int
    window: str
    versions: frozenset[str]

    def ends(self, standing: Standing) -> bool:
        """Whether another version has taken over from that of the episode."""
        version, begun_ms = standing.subject.version, standing.state.starts_at_ms
        if not standing.runs or version in self.versions or begun_ms is None or begun_ms >= self.end_ms:
            return False
        return any(lifecycle.is_superseded(standing.subject, other) for other in self.versions if other)


def handovers(tx: ClosingTransaction, rows: Iterable[WindowRow], size_ms: int, windows: int) -> list[Handover]:
    """One for each new window of the model (those of volume, in order) that had predictions, as had all of the `windows` up to it.

    One window without a version is not enough: a small share of the traffic may well miss one.
    """
    new = {row.start_ms: row for row in rows if row.monitor == Monitor.VOLUME and row.rows}
    if not new:
        return []
    versions: dict[int, set[str]] = {}
    for pane in tx.pane_rows(min(new) - (windows - 1) * size_ms, max(new) + 1):
        if pane.rows:
            versions.setdefault(pane.start_ms, set()).add(pane.version)
    found = []
    for start_ms, row in sorted(new.items()):
        seen = [versions.get(start_ms - place * size_ms, set()) for place in range(windows)]
        if all(seen):
            found.append(
                Handover(end_ms=start_ms + size_ms, window=row.id, versions=frozenset().union(*seen)),
            )
    return found


def is_retired(tx: ClosingTransaction, version: str, size_ms: int, windows: int) -> bool:
    """Whether the model's newest panes, so many running, hold predictions of other versions only: what labels still say of this one is history."""
    last_ms, _ = tx.neighbours(_EVER_MS, _EVER_MS)
    if not version or last_ms is None:
        return False
    panes = [pane for pane in tx.pane_rows(last_ms - (windows - 1) * size_ms, last_ms + 1) if pane.rows]
    others = {pane.version for pane in panes} - {version, ""}
    alone = all(pane.version != version for pane in panes)
    return bool(others) and alone and len({pane.start_ms for pane in panes}) == windows


def is_another(reference: str, begun: str) -> bool:
    """Whether a window was judged under another reference than the episode began with; one without any tells nothing."""
    return bool(reference and begun and reference != begun)


def refolded(
    history: Sequence[tuple[WindowRow, Observation]],
    told: Iterable[Transition],
    policy: Policy,
    reference_end: ReferenceEnd,
) -> tuple[AlertState, list[Transition], str]:
    """Fold a history anew: the state, the transitions, and the reference of the episode. Ends that were `told` and are no verdict stay."""
    ends = sorted((t for t in told if t.reason in lifecycle.CLOSING), key=lambda t: t.at_ms)
    state, begun, transitions = AlertState(), "", []

    def end(reason: Reason, at_ms: int, window_id: str, text: str) -> None:
        nonlocal state
        state, transition = lifecycle.close(state, reason, at_ms=at_ms, window_id=window_id, text=text)
        if transition is not None:
            transitions.append(transition)

    for row, observation in history:
        while ends and ends[0].at_ms <= observation.end_ms:
            last = ends.pop(0)
            end(last.reason, last.at_ms, last.window_id, last.text)
        if state.starts_at_ms is not None and _runs(state) and is_another(row.reference, begun):
            reason, text = reference_end(state.starts_at_ms)
            end(reason, observation.end_ms, row.id, text)
        before = state
        state, transition = lifecycle.step(state, observation, policy)
        if _runs(state) and not _runs(before):
            begun = row.reference
        if transition is not None:
            transitions.append(transition)
    for last in ends:
        end(last.reason, last.at_ms, last.window_id, last.text)
    return state, transitions, begun


def _runs(state: AlertState) -> bool:
    return state.active or state.phase is Phase.PENDING
