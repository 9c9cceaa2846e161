"""Continuity of a partition: what of a chunk follows on what was read, and which offsets are missing on the way. Pure."""

from __future__ import annotations

from itertools import pairwise

from monitor.ports import RecordChunk

Hole = tuple[int, int]  # [start, end) of the missing offsets


def follow_on(chunk: RecordChunk, next_offset: int) -> tuple[RecordChunk, list[Hole]]:
    """The records at `next_offset` or later (a client may deliver twice), and the holes before and among them."""
    if chunk.offsets and chunk.offsets[0] < next_offset:
        skip = sum(offset < next_offset for offset in chunk.offsets)
        chunk = RecordChunk(
            partition=chunk.partition,
            offsets=chunk.offsets[skip:],
            values=chunk.values[skip:],
            timestamps_ms=chunk.timestamps_ms[skip:] if chunk.timestamps_ms is not None else None,
            keys=chunk.keys[skip:] if chunk.keys is not None else None,
        )
    if not chunk.offsets:
        return chunk, []
    first, last = chunk.offsets[0], chunk.offsets[-1]
    holes = [(next_offset, first)] if first > next_offset else []
    if last - first + 1 != len(chunk.values):
        holes += [(before + 1, after) for before, after in pairwise(chunk.offsets) if after != before + 1]
    return chunk, holes
