"""Labels that the reference does not know."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.finding import Severity, State
from detectors.performance.layout import PerformanceLayout, performance_layout
from detectors.performance.profile import PerformanceProfile, empty
from detectors.performance.unknown_labels import unknown_labels
from detectors.sentences import sentence


def counted(known: int, strange: int) -> tuple[PerformanceLayout, PerformanceProfile]:
    layout = performance_layout(task="binary", classes=("paid", "default"), score=np.linspace(0, 1, 500))
    profile = empty(layout)
    layout.view(profile.vector, "labelled_rows")[:] = known
    layout.view(profile.vector, "unknown_labels")[:] = strange
    return layout, profile


@pytest.mark.parametrize(
    ("known", "strange", "state", "severity"),
    [
        (5_000, 19, State.OK, None),
        (5_000, 49, State.OK, None),  # below one in a hundred
        (1_000, 20, State.DRIFT, Severity.WARNING),
        (700, 300, State.DRIFT, Severity.CRITICAL),
        (0, 19, State.OK, None),
        (0, 5_000, State.ERROR, None),
    ],
)
def test_strange_labels_are_told_by_their_share(known, strange, state, severity):
    found = unknown_labels(*counted(known, strange))
    assert (found.state, found.severity) == (state, severity)
    assert found.value == pytest.approx(strange / (known + strange))
    assert found.interval[0] < found.value <= found.interval[1]
    assert found.rows == known + strange


def test_nothing_is_said_where_every_label_is_known():
    assert unknown_labels(*counted(5_000, 0)) is None


def test_the_sentence_names_the_known_labels_and_the_way_out():
    found = unknown_labels(*counted(0, 5_000))
    assert found.value is not None
    assert "5,000 of 5,000 labels" in sentence(found)
    assert "(paid, default)" in sentence(found)
    assert "label_map" in sentence(found)
