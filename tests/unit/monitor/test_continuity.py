"""What follows on what was read, held against a plain walk over the offsets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.continuity import follow_on
from monitor.ports import PartitionId, RecordChunk

P = PartitionId("topic", 0)


def chunk(offsets: list[int]) -> RecordChunk:
    return RecordChunk(partition=P, offsets=offsets, values=[b"%d" % o for o in offsets], timestamps_ms=offsets)


def test_a_chunk_that_follows_on_is_left_as_it_is():
    whole = chunk([5, 6, 7])
    assert follow_on(whole, 5) == (whole, [])


def test_what_was_read_before_is_left_out():
    rest, holes = follow_on(chunk([3, 4, 5, 6]), 5)
    assert (rest.offsets, rest.values, rest.timestamps_ms, holes) == ([5, 6], [b"5", b"6"], [5, 6], [])


def test_holes_before_and_within_are_named():
    assert follow_on(chunk([7, 8, 11]), 5)[1] == [(5, 7), (9, 11)]


def test_nothing_new_is_no_hole():
    assert follow_on(chunk([1, 2]), 9)[1] == []


@given(st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_kept_and_missing_offsets_are_all_there_are(offsets: set[int], start: int):
    rest, holes = follow_on(chunk(sorted(offsets)), start)
    assert list(rest.offsets) == [o for o in sorted(offsets) if o >= start]
    missing = [o for begin, end in holes for o in range(begin, end)]
    reached = max(rest.offsets, default=start - 1)
    assert missing == [o for o in range(start, reached + 1) if o not in offsets]
