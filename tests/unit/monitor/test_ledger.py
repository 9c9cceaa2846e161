"""What settled windows teach: delays, how far estimates were off, and that labels contradict them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.performance.label_coverage import HISTORY
from monitor.closing.ledger import ERRORS_KEPT, Ledger, estimator_of, settled
from parts.judged_windows import drawn, known, window

HOUR = 3_600_000


def learned(windows: int, *, wrong: float = 0.0, ledger: Ledger | None = None, seed: int = 0) -> Ledger:
    ledger = ledger or Ledger()
    first = 0 if ledger.seen_ms is None else ledger.seen_ms // HOUR + 1
    for i in range(first, first + windows):
        profile = window(known(), drawn(400, seed + i, wrong=wrong))
        ledger = ledger.advance(known(), estimator_of(known()), profile, i * HOUR)
    return ledger


def test_a_window_is_settled_when_19_of_20_are_labelled() -> None:
    rows = drawn(400)
    for labelled, expected in ((379, False), (380, True), (400, True)):
        assert settled(window(known(), rows, labelled=np.arange(400) < labelled)) is expected
    assert not settled(window(known(), drawn(0)))


def test_a_ledger_comes_back_from_its_text_as_it_was() -> None:
    for ledger in (Ledger(), learned(2), learned(5, wrong=0.4)):
        assert Ledger.decode(ledger.encode()) == Ledger.decode(Ledger.decode(ledger.encode()).encode())
        assert Ledger.decode(ledger.encode()).encode() == ledger.encode()
    later, again = learned(1, ledger=learned(2)), learned(1, ledger=Ledger.decode(learned(2).encode()))
    assert later.encode() == again.encode(), "a worker that takes over learns on as if it had been there"


def test_delays_of_the_last_windows_are_kept_and_add_up() -> None:
    rows = drawn(200)
    early = window(known(), rows, delay_ms=60_000, labelled=np.arange(200) < 150)
    ledger = Ledger()
    for i in range(HISTORY + 3):
        ledger = ledger.advance(known(), None, early, i * HOUR)
    assert len(ledger.delays) == HISTORY
    mature = ledger.mature(known().layout)
    assert mature is not None
    assert (mature.rows, mature.labelled_rows) == (200 * HISTORY, 150 * HISTORY)
    assert Ledger().mature(known().layout) is None


def test_earlier_windows_are_shown_as_they_stood_at_the_same_age() -> None:
    delays = np.where(np.arange(400) % 2 == 0, 10 * 60_000, 10 * HOUR)
    ledger = Ledger().advance(known(), None, window(known(), drawn(400), delay_ms=delays), 0)
    young, half, old = (
        ledger.covered(known().layout, age_seconds=age, window_seconds=3600)[0]
        for age in (0.0, 2 * 3600.0, 48 * 3600.0)
    )
    assert (young.rows, half.rows, old.rows) == (400, 400, 400)
    assert 0 < young.labelled < 200, "the last predictions of the window are younger than ten minutes"
    assert (half.labelled, old.labelled) == (200, 400)


def test_past_errors_are_those_of_the_last_windows() -> None:
    ledger = learned(3)
    assert ledger.past_error("accuracy") == pytest.approx(sum(ledger.errors["accuracy"]) / 3)
    assert 0 < ledger.past_error("accuracy") < 0.05
    assert ledger.past_error("no_such_metric") is None
    full = replace(ledger, errors={"accuracy": (1.0,) * ERRORS_KEPT})
    assert learned(1, ledger=full).errors["accuracy"][:-1] == (1.0,) * (ERRORS_KEPT - 1)


def test_labels_that_agree_with_the_estimate_never_contradict_it() -> None:
    assert learned(12).contradicted_ms is None


def test_a_changed_concept_contradicts_the_estimate_within_two_windows_and_the_first_time_stands() -> None:
    ledger = learned(2, wrong=0.35, ledger=learned(3), seed=50)
    since = ledger.contradicted_ms
    assert since in (3 * HOUR, 4 * HOUR)
    assert learned(2, wrong=0.35, ledger=ledger, seed=60).contradicted_ms == since


def test_a_window_without_labels_teaches_delays_only() -> None:
    before = learned(2)
    after = before.advance(
        known(), estimator_of(known()), window(known(), drawn(400), labelled=np.zeros(400, bool)), 9 * HOUR
    )
    assert (after.seen_ms, len(after.delays)) == (9 * HOUR, 3)
    assert (after.truth, after.errors) == (before.truth, before.errors)


def test_labels_of_one_kind_that_come_first_make_the_order_of_arrival_biased_for_good() -> None:
    rows = drawn(800, 4)
    fair = Ledger().advance(known(), None, window(known(), rows, delay_ms=np.arange(800) % 20 * HOUR), 0)
    assert not fair.biased
    wrong_first = np.where(rows.right, 20 * HOUR, HOUR)
    biased = fair.advance(known(), None, window(known(), rows, delay_ms=wrong_first), HOUR)
    assert biased.biased
    assert learned(3, ledger=biased).biased
    assert Ledger.decode(biased.encode()).biased
