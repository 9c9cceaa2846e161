"""Batches of Kafka records to lists of values.

kafka-python spends 7-9 us of CPU on each record (seven varint calls, a record object, a 13-field tuple). Here a batch of format 2 is walked
once with the varints inlined.
"""

from __future__ import annotations

from itertools import islice
from operator import ge
from typing import Any, NamedTuple

from kafka.errors import CorruptRecordError

from monitor.sources.kafka_bounds import decode

_HEADER_BYTES = 61


class Unpacked(NamedTuple):
    """The records of one batch, or of several in a row. `next_offset` is one past the batch, markers and compacted records included."""

    offsets: list[int]
    values: list[bytes | None]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    next_offset: int


def unpack_batch(batch: Any, limit_bytes: int) -> Unpacked:
    """One batch of format 2 (kafka.record.default_records.DefaultRecordBatch, CRC already checked)."""
    body = bytes(memoryview(batch._buffer)[_HEADER_BYTES:])
    codec = batch.compression_type
    data = decode(codec, body, limit_bytes) if codec else body
    offsets, deltas, values, keys = unpack(data, batch.records_count, batch.base_offset)
    if offsets and (offsets[-1] > batch.last_offset or any(map(ge, offsets, islice(offsets, 1, None)))):
        raise CorruptRecordError(f"the offsets of the batch at {batch.base_offset} do not rise")
    if batch.timestamp_type == batch.LOG_APPEND_TIME:
        times = [batch.max_timestamp] * len(offsets)
    else:
        first = batch.first_timestamp
        times = [first + delta for delta in deltas]
    return Unpacked(offsets, values, times, keys, batch.next_offset)


def unpack_legacy(batch: Any) -> Unpacked:
    """Formats 0 and 1, through the client's own reader (its decoders are bounded by kafka_bounds.bound_legacy_formats)."""
    records = list(batch)
    if not all(record.validate_crc() for record in records):
        raise CorruptRecordError("a record of an old message format fails its checksum")
    offsets = [record.offset for record in records]
    times = [-1 if record.timestamp is None else record.timestamp for record in records]
    after = offsets[-1] + 1 if offsets else batch.next_offset
    return Unpacked(offsets, [r.value for r in records], times, [r.key for r in records], after)


def unpack(  # noqa: C901, PLR0912, PLR0915  (one flat loop: calls would cost more than its work)
    data: bytes, count: int, first_offset: int
) -> tuple[list[int], list[int], list[bytes | None], list[bytes | None]]:
    """Offsets, timestamp deltas, values and keys of the `count` records in `data`, the decompressed body of a format-2 batch.

    Record headers are stepped over, not read: nothing here needs them, and a broken header name cannot stop a partition.
    Raises CorruptRecordError when the records do not fill `data` exactly.
    """
    offsets: list[int] = []
    deltas: list[int] = []
    values: list[bytes | None] = []
    keys: list[bytes | None] = []
    pos = 0
    try:
        for _ in range(count):
            # zigzag varints, the usual one and two bytes inline: a call costs more than the rest of the record
            raw = data[pos]
            pos += 1
            if raw > 127:
                more = data[pos]
                if more < 128:
                    raw += (more << 7) - 128
                    pos += 1
                else:
                    raw, pos = _varint(data, pos - 1)
            end = pos + (raw >> 1)
            raw = data[pos + 1]  # after the attributes
            pos += 2
            if raw > 127:
                more = data[pos]
                if more < 128:
                    raw += (more << 7) - 128
                    pos += 1
                else:
                    raw, pos = _varint(data, pos - 1)
            deltas.append((raw >> 1) ^ -(raw & 1))
            raw = data[pos]
            pos += 1
            if raw > 127:
                more = data[pos]
                if more < 128:
                    raw += (more << 7) - 128
                    pos += 1
                else:
                    raw, pos = _varint(data, pos - 1)
            offsets.append(first_offset + (raw >> 1))
            raw = data[pos]
            pos += 1
            if raw == 1:
                keys.append(None)
            else:
                if raw > 127:
                    raw, pos = _varint(data, pos - 1)
                stop = pos + (raw >> 1)
                keys.append(data[pos:stop])
                pos = stop
            raw = data[pos]
            pos += 1
            if raw == 1:
                values.append(None)
                stop = pos
            else:
                if raw > 127:
                    more = data[pos]
                    if more < 128:
                        raw += (more << 7) - 128
                        pos += 1
                    else:
                        raw, pos = _varint(data, pos - 1)
                stop = pos + (raw >> 1)
                values.append(data[pos:stop])
            if stop >= end:  # at least the number of headers follows
                raise CorruptRecordError(
                    f"record {len(offsets) - 1} of the batch at offset {first_offset} overruns its length"
                )
            pos = end
    except IndexError:
        pos = -1
    if pos != len(data):
        raise CorruptRecordError(f"the batch at offset {first_offset} does not hold the {count} records it claims")
    return offsets, deltas, values, keys


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    raw = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        raw |= (byte & 0x7F) << shift
        if byte < 128:
            return raw, pos
        shift += 7
        if shift > 63:
            raise CorruptRecordError("a number in the batch is longer than 64 bits")
