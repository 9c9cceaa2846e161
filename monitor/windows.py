"""From counts to a judged window: pure, so that a replay, a revision and a second worker all reach the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detectors.assembly import states_of
from detectors.finding import Finding, Monitor, Severity, State, window_state
from detectors.judge import Policy, judge_distributions, judge_quality
from detectors.profile import Profile
from detectors.reference import Reference
from monitor.store import WindowRow

DIGEST_FORMAT = 1
VERSION_MONITORS = (Monitor.DATA, Monitor.PREDICTION, Monitor.QUALITY)


def window_id(model: str, version: str, monitor: str, start_ms: int, end_ms: int) -> str:
    """Hash of what identifies a window; the same in all its revisions."""
    return _hash("window", model, version, monitor, None, start_ms, end_ms)[:32]


def _id_of(row: WindowRow) -> str:
    return window_id(row.model, row.version, row.monitor, row.start_ms, row.end_ms)


def window_digest(row: WindowRow, counts: bytes) -> str:
    """SHA-256 of what the window is about and its merged counts; no revision, state or way of reading enters it."""
    head = json.dumps(
        [DIGEST_FORMAT, row.model, row.version, row.monitor, None, row.start_ms, row.end_ms, row.reference]
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


def marks(findings: Sequence[Finding]) -> str:
    """What the alert life cycle needs of a window without decoding its findings: who drifts, how badly, and who could not be judged."""
    states = states_of(findings)
    drift = (
        {key(f): str(f.severity or Severity.WARNING) for f in findings if f.state is State.DRIFT}
        if State.DRIFT in states
        else {}
    )
    blind = sorted(key(f) for f in findings if f.state in BLIND) if BLIND & states else []
    everyone = states <= BLIND  # also where there is no finding at all
    return json.dumps({"drift": drift, "blind": "*" if everyone else blind}, separators=(",", ":"))


BLIND = frozenset({State.INSUFFICIENT_DATA, State.NO_DATA, State.NOT_CONFIGURED, State.STALE, State.ERROR})


def key(finding: Finding) -> str:
    """Name of a finding inside its window: subject and check."""
    return f"{finding.check} {finding.subject}"


def finish(row: WindowRow, findings: Sequence[Finding], counts: bytes) -> WindowRow:
    """The row with its id, state, digest and marks filled in."""
    return replace(
        row,
        id=_id_of(row),
        state=str(window_state(states_of(findings), empty=State.NOT_CONFIGURED if row.rows else State.NO_DATA)),
        digest=window_digest(row, counts),
        marks=marks(findings),
    )


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
