"""From counts to a judged window: pure, so that a replay, a revision and a second worker all reach the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from detectors.assembly import states_of
from detectors.drift.pool import judge_pool
from detectors.finding import Finding, Monitor, Severity, State, window_state
from detectors.judge import Policy, judge_distributions, judge_quality
from detectors.profile import Profile
from detectors.reference.build import Reference
from monitor.config import Window
from monitor.store import WindowRow

DIGEST_FORMAT = 1
VERSION_MONITORS = (Monitor.DATA, Monitor.PREDICTION, Monitor.QUALITY)


def window_id(  # noqa: PLR0917  the fields of its identity, in their order
    model: str, version: str, monitor: str, start_ms: int, end_ms: int, segment: str | None = None
) -> str:
    """Hash of what identifies a window; the same in all its revisions."""
    return _hash("window", model, version, monitor, segment, start_ms, end_ms)[:32]


def _id_of(row: WindowRow) -> str:
    return window_id(row.model, row.version, row.monitor, row.start_ms, row.end_ms, row.segment)


def window_digest(row: WindowRow, counts: bytes) -> str:
    """SHA-256 of what the window is about and its merged counts; no revision, state or way of reading enters it."""
    head = json.dumps(
        [DIGEST_FORMAT, row.model, row.version, row.monitor, row.segment, row.start_ms, row.end_ms, row.reference]
    )
    return hashlib.sha256(head.encode() + b"\n" + counts).hexdigest()


def expand(row: WindowRow) -> list[WindowRow]:
    """A run of empty windows as the single windows it stands for, each with its own id and digest; any other row as it is."""
    if row.run == 1:
        return [row]
    size_ms = (row.end_ms - row.start_ms) // row.run
    counts = volume_counts(0) if row.monitor == Monitor.VOLUME else b""
    singles = []
    for start_ms in range(row.start_ms, row.end_ms, size_ms):
        single = replace(row, start_ms=start_ms, end_ms=start_ms + size_ms, run=1)
        singles.append(replace(single, id=_id_of(single), digest=window_digest(single, counts)))
    return singles


def judge(reference: Reference | None, profile: Profile, policy: Policy) -> dict[Monitor, Sequence[Finding]]:
    """The findings of every monitor of a version over one profile; a version without a reference is `not_configured`."""
    if reference is None:
        unknown = Finding(subject="reference", check="reference", state=State.NOT_CONFIGURED, rows=profile.rows)
        return {monitor: [unknown] for monitor in VERSION_MONITORS}
    return {
        **judge_distributions(reference, profile, policy),
        Monitor.QUALITY: judge_quality(reference, profile, policy),
    }


def with_pool(
    found: Mapping[Monitor, Sequence[Finding]], rows: int, window: Window
) -> dict[Monitor, Sequence[Finding]]:
    """The findings of a window than which no pool may be longer. Where it holds too few rows all the same, those of data and prediction
    that could not be judged name the window to configure. The counts, and so the digest, are not touched."""
    if rows >= window.min_rows:
        return dict(found)
    short = judge_pool(rows, span_ms=window.max_ms, min_rows=window.min_rows)
    return {
        monitor: [*findings, short]
        if monitor is not Monitor.QUALITY and State.INSUFFICIENT_DATA in states_of(findings)
        else findings
        for monitor, findings in found.items()
    }


def monitor_counts(monitor: Monitor, reference: Reference | None, profile: Profile) -> bytes:
    """The merged counts that a monitor's digest covers, in subject order: of features for data, of predictions for prediction, all for quality.

    Which cell is whose follows from the reference, whose hash is in the digest too.
    """
    rows = profile.rows.to_bytes(8, "little")
    if reference is None:
        return rows
    counts = profile.counts
    if monitor is not Monitor.QUALITY:
        layout = reference.layout
        feature = np.array([subject.role == "feature" for subject in layout.subjects])
        counts = counts[feature[layout.subject_of] == (monitor is Monitor.DATA)]
    return rows + counts.astype("<i8").tobytes()


def volume_counts(rows: int) -> bytes:
    return rows.to_bytes(8, "little")


def marks(findings: Sequence[Finding], *, open_verdict: bool = False) -> str:
    """What the alert life cycle needs of a window without decoding its findings: who drifts, how badly, and who could not be judged.

    `open_verdict`: too little is known yet to say that all is well. What drifts counts, what does not ends no alert.
    """
    states = states_of(findings)
    drift = (
        {key(f): str(f.severity or Severity.WARNING) for f in findings if f.state is State.DRIFT}
        if State.DRIFT in states
        else {}
    )
    blind = sorted(key(f) for f in findings if f.state in BLIND) if BLIND & states else []
    everyone = states <= BLIND  # also where there is no finding at all
    found: dict[str, object] = {"drift": drift, "blind": "*" if everyone else blind}
    return json.dumps(found | ({"open": True} if open_verdict else {}), separators=(",", ":"))


BLIND = frozenset({State.INSUFFICIENT_DATA, State.NO_DATA, State.NOT_CONFIGURED, State.STALE, State.ERROR})


def key(finding: Finding) -> str:
    """Name of a finding inside its window: subject and check."""
    return f"{finding.check} {finding.subject}"


def finish(row: WindowRow, findings: Sequence[Finding], counts: bytes, *, open_verdict: bool = False) -> WindowRow:
    """The row with its id, state, digest and marks (see there) filled in."""
    return replace(
        row,
        id=_id_of(row),
        state=str(window_state(states_of(findings), empty=State.NOT_CONFIGURED if row.rows else State.NO_DATA)),
        digest=window_digest(row, counts),
        marks=marks(findings, open_verdict=open_verdict),
    )


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
