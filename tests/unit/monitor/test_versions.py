"""Versions of a model: told apart up to a limit, and together beyond it; what is decided does not depend on how events were cut into blocks."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.versions import OTHER_VERSIONS, Versions

HOUR = 3_600_000


def fold(versions: Versions, names: list[str], times: list[int] | None = None) -> list[str]:
    found, _ = versions.fold("churn", names, np.array(times or [0] * len(names), np.int64))
    return list(found)


def book(most: int = 3, pinned: frozenset[tuple[str, str]] = frozenset()) -> Versions:
    return Versions({"churn": HOUR, "other": HOUR}, pinned, most)


def test_versions_beyond_the_limit_are_judged_together():
    versions = book()
    assert fold(versions, ["1", "2", "3", "4", "1", "5"]) == ["1", "2", "3", OTHER_VERSIONS, "1", OTHER_VERSIONS]
    assert versions.fold("churn", ["6"], np.zeros(1, np.int64)) == ([OTHER_VERSIONS], 1)
    assert fold(versions, ["3"]) == ["3"]
    assert versions.fold("other", ["6"], np.zeros(1, np.int64)) == (["6"], 0)  # each model has places of its own


def test_events_without_a_version_and_versions_with_a_reference_of_their_own_need_no_place():
    versions = book(1, frozenset({("churn", "9")}))
    assert fold(versions, ["", "9", "1", "2", OTHER_VERSIONS]) == ["", "9", "1", OTHER_VERSIONS, OTHER_VERSIONS]


def test_a_version_that_nobody_sends_any_more_gives_up_its_place():
    versions = book(2)
    assert fold(versions, ["1", "2"], [0, 5]) == ["1", "2"]
    assert fold(versions, ["3"], [HOUR]) == [OTHER_VERSIONS]
    assert fold(versions, ["3"], [HOUR + 1]) == ["3"]
    assert fold(versions, ["1"], [HOUR + 5]) == [OTHER_VERSIONS]
    assert fold(versions, ["1"], [HOUR + 6]) == ["1"]  # that of version 2


def test_what_was_known_before_keeps_its_places_the_newest_first():
    versions = book(2)
    versions.know([("churn", "old", 1), ("churn", "new", 9), ("churn", "mid", 5), ("churn", "", 99)])
    assert fold(versions, ["new", "mid", "old"], [9, 9, 9]) == ["new", "mid", OTHER_VERSIONS]


def test_an_outcome_of_a_version_that_may_have_been_folded_counts_for_whichever_scored_the_id():
    versions = book(1, frozenset({("churn", "9")}))
    assert list(versions.fold_outcomes("churn", ["1", "2"])) == [
        "1",
        "2",
    ]  # nothing was folded: every version is its own
    fold(versions, ["1", "2"])
    assert list(versions.fold_outcomes("churn", ["1", "2", "9", ""])) == ["1", "", "9", ""]
    later = book(1)
    later.know([("churn", "1", 5), ("churn", OTHER_VERSIONS, 5)])
    assert list(later.fold_outcomes("churn", ["1", "2"])) == ["1", ""]


events = st.lists(st.tuples(st.sampled_from(["", "1", "2", "3", "4", "5"]), st.integers(0, 4 * HOUR)), max_size=40)


@given(events, st.lists(st.integers(1, 40), max_size=6))
def test_where_blocks_are_cut_changes_nothing_and_no_more_than_the_limit_are_told_apart(made, cuts):
    whole, parts = book(), book()
    names, times = [name for name, _ in made], [time for _, time in made]
    at_once = fold(whole, names, times) if made else []
    one_by_one: list[str] = []
    edges = sorted({0, len(made), *(cut for cut in cuts if cut < len(made))})
    for start, end in itertools.pairwise(edges):
        one_by_one += fold(parts, names[start:end], times[start:end])
    assert one_by_one == at_once
    assert all(new in (old, OTHER_VERSIONS) for old, new in zip(names, at_once, strict=True))
    assert len(whole._seen.get("churn", {})) <= 3
