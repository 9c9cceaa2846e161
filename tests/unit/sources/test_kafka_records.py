"""The record path against kafka-python's own, and what of it we rely on."""

from __future__ import annotations

import inspect
import random
import struct
import time
import tracemalloc
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaConsumer
from kafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from kafka.consumer.fetcher import CompletedFetch, Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.coordinator.base import BaseCoordinator
from kafka.errors import CorruptRecordError, TopicAuthorizationFailedError
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.structs import TopicPartition

from monitor.sources.kafka_batches import Unpacked, unpack
from monitor.sources.kafka_bounds import BatchTooLargeError, bound_legacy_formats, decode
from monitor.sources.kafka_records import TURN_RECORDS, BatchFetcher, BatchRecords

TP = TopicPartition("t", 0)
Rows = list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]


def batch_bytes(
    rows: Rows,
    codec: int = 0,
    base: int = 0,
    *,
    producer: int = -1,
    start_ms: int = 1_700_000_000_000,
    control: bool = False,
) -> bytes:
    transactional = producer >= 0
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=transactional, producer_id=producer,
        producer_epoch=0 if transactional else -1, base_sequence=0 if transactional else -1, batch_size=1 << 30,
    )  # fmt: skip
    for i, (key, value, headers) in enumerate(rows):
        assert builder.append(i, start_ms + 7 * i, key, value, headers) is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    if control:
        attributes = (
            struct.unpack_from(">h", data, DefaultRecordBatch.ATTRIBUTES_OFFSET)[0] | DefaultRecordBatch.CONTROL_MASK
        )
        struct.pack_into(">h", data, DefaultRecordBatch.ATTRIBUTES_OFFSET, attributes)
    return bytes(data)


def plain(*values: bytes | None) -> Rows:
    return [(None, value, []) for value in values]


def marker(base: int, producer: int, commit: bool) -> bytes:
    return batch_bytes(
        [(struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0), [])], base=base, producer=producer, control=True
    )


def opened(data: bytes, offset: int = 0, kind: Any = BatchRecords, **options: Any) -> Any:
    return kind(offset, TP, MemoryRecords(data), isolation_level=IsolationLevel.READ_COMMITTED, **options)


def drained(part: BatchRecords, n: int = 1_000_000) -> list[Unpacked]:
    taken = []
    while part:
        taken += part.take(n)
    return taken


@settings(max_examples=150, deadline=None)
@given(
    batches=st.lists(
        st.lists(
            st.tuples(
                st.none() | st.binary(max_size=300),
                st.none() | st.binary(max_size=20_000),
                st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=200)), max_size=3),
            ),
            min_size=1, max_size=80,
        ),
        min_size=1, max_size=3,
    ),
    codec=st.sampled_from([0, 1, 2, 3, 4]), offset=st.integers(0, 100), n=st.integers(1, 50),
)  # fmt: skip
def test_it_reads_what_the_stock_client_reads(batches: list[Rows], codec: int, offset: int, n: int) -> None:
    data, base = b"", 0
    for rows in batches:
        data += batch_bytes(rows, codec, base)
        base += len(rows)
    stock = opened(data, offset, Fetcher.PartitionRecords).take(1_000_000)
    ours = drained(opened(data, offset), n)
    assert [(r.offset, r.value, r.timestamp, r.key) for r in stock] == [
        row for u in ours for row in zip(u.offsets, u.values, u.timestamps_ms, u.keys, strict=True)
    ]
    assert all(len(u.offsets) <= n for u in ours)


def test_a_damaged_body_is_corrupt_or_still_whole_never_anything_else() -> None:
    rng = random.Random(7)
    body = batch_bytes([(b"k", b"v" * size, [("h", b"x")]) for size in (0, 1, 63, 64, 700, 9000)])[61:]
    outcomes = set()
    for _ in range(20_000):
        damaged = bytearray(body)
        damaged[rng.choice([rng.randrange(len(body)), rng.randrange(80)])] = rng.randrange(256)
        try:
            offsets, *_rest = unpack(bytes(damaged[: rng.choice([len(body), rng.randrange(len(body) + 1)])]), 6, 0)
            outcomes.add(len(offsets))
        except CorruptRecordError:
            outcomes.add(-1)
    assert outcomes == {-1, 6}


def test_a_bad_checksum_stops_after_the_good_batches_with_the_position_before_the_bad_one() -> None:
    bad = bytearray(batch_bytes(plain(b"c", b"d"), base=2))
    bad[-3] ^= 1
    part = opened(batch_bytes(plain(b"a", b"b")) + bytes(bad))
    (taken,) = part.take(100)
    assert (taken.values, part.next_fetch_offset) == ([b"a", b"b"], 2)
    with pytest.raises(CorruptRecordError, match="offset 2"):
        part.take(100)
    assert part.next_fetch_offset == 2


class _Aborted:
    def __init__(self, producer_id: int, first_offset: int) -> None:
        self.producer_id, self.first_offset = producer_id, first_offset


def test_aborted_transactions_and_markers_are_stepped_over() -> None:
    data = batch_bytes(plain(b"a"), base=0, producer=5) + batch_bytes(plain(b"x", b"y"), base=1, producer=6)
    data += (
        marker(3, 6, commit=False)
        + batch_bytes(plain(b"b"), base=4, producer=6)
        + marker(5, 6, commit=True)
        + marker(6, 5, commit=True)
    )
    part = opened(data, aborted_transactions=[_Aborted(6, 1)], check_crcs=False)
    (taken,) = drained(part)
    assert (taken.offsets, taken.values, part.next_fetch_offset) == ([0, 4], [b"a", b"b"], 7)


def test_old_message_formats_go_through_the_stock_reader() -> None:
    for magic in (0, 1):
        for codec in (0, 1, 2) if magic == 0 else (0, 1, 2, 3):
            builder = MemoryRecordsBuilder(magic=magic, compression_type=codec, batch_size=1 << 20)
            for i in range(5):
                builder.append(timestamp=1000 + i, key=b"k", value=b"v%d" % i)
            builder.close()
            (taken,) = drained(opened(bytes(builder.buffer()), 2))
            assert (taken.offsets, taken.values) == ([2, 3, 4], [b"v2", b"v3", b"v4"])
            assert taken.timestamps_ms == ([-1] * 3 if magic == 0 else [1002, 1003, 1004])


@pytest.mark.parametrize(("codec", "encode"), [(1, gzip_encode), (2, snappy_encode), (3, lz4_encode), (4, zstd_encode)])
def test_a_bomb_is_met_with_the_limit_not_with_memory(codec: int, encode: Any) -> None:
    bomb = bytes(encode(b"x" * 50_000_000))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(BatchTooLargeError, match="1,000,000"):
        decode(codec, bomb, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert time.monotonic() - began < 1.0
    assert decode(codec, bytes(encode(b"y" * 1_000_000)), 1_000_000) == b"y" * 1_000_000


def test_an_old_format_bomb_is_bounded_too() -> None:
    builder = MemoryRecordsBuilder(magic=1, compression_type=1, batch_size=1 << 26)
    builder.append(timestamp=1, key=None, value=b"x" * 3_000_000)
    builder.close()
    bound_legacy_formats(1_000_000)
    try:
        with pytest.raises(BatchTooLargeError):
            opened(bytes(builder.buffer())).take(1)
    finally:
        bound_legacy_formats()


def test_an_error_of_one_partition_comes_after_the_records_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock fetcher has moved on behind what it hands out, so an error in a later turn must not take the records of an earlier one along."""
    good, bad = TP, TopicPartition("t", 1)
    rows = 3 * TURN_RECORDS
    fetcher = BatchFetcher.__new__(BatchFetcher)
    subscriptions = SubscriptionState()
    subscriptions.assign_from_user([good, bad])
    for partition in (good, bad):
        subscriptions.seek(partition, 0)
    whole = opened(batch_bytes(plain(*[b"%d" % i for i in range(rows)])))
    vars(fetcher).update(
        _subscriptions=subscriptions, _completed_fetches=deque([CompletedFetch(bad, 0, 12, None, None)]), _next_partition_records=None,
        _paused_completed_fetches={}, _paused_partition_records={good: whole}, _next_in_line_exception_metadata=None, _postponed=None,
        _expected={}, covered_from={}, failures=deque(),
    )  # fmt: skip
    refusal = TopicAuthorizationFailedError("t")

    def refuse(_completed: object) -> None:
        raise refusal

    monkeypatch.setattr(fetcher, "_parse_fetched_data", refuse)
    taken, _ = fetcher.fetched_records(rows)
    read = [value for unpacked in taken[good] for value in unpacked.values]
    assert 0 < len(read) < rows
    with pytest.raises(TopicAuthorizationFailedError):
        fetcher.fetched_records(rows)
    rest, _ = fetcher.fetched_records(rows)
    assert read + [value for unpacked in rest[good] for value in unpacked.values] == [b"%d" % i for i in range(rows)]
    assert fetcher.fetched_records(rows) == ({}, False)


def test_kafka_python_still_has_what_we_rely_on() -> None:
    """A new version that fails here needs a look at monitor/sources/kafka*.py before the pin in pyproject.toml moves."""
    assert list(inspect.signature(Fetcher._append).parameters) == [
        "self",
        "drained",
        "part",
        "max_records",
        "update_offsets",
    ]
    assert list(inspect.signature(Fetcher._parse_fetched_data).parameters) == ["self", "completed_fetch"]
    assert list(inspect.signature(Fetcher._handle_fetch_response).parameters) == [
        "self",
        "node_id",
        "fetch_offsets",
        "send_time",
        "response",
    ]
    assert list(inspect.signature(Fetcher.fetched_records).parameters) == ["self", "max_records", "update_offsets"]
    turns = inspect.getsource(Fetcher.fetched_records)  # what is parked comes back before new data is looked at
    assert turns.index("self._paused_partition_records.pop(tp)") < turns.index("self._completed_fetches.popleft()")
    assert "_paused_partition_records" in inspect.getsource(Fetcher._fetchable_partitions)
    assert "self.PartitionRecords(" in inspect.getsource(Fetcher._parse_fetched_data)
    records = Fetcher.PartitionRecords
    assert list(inspect.signature(records._unpack_records).parameters) == [
        "self",
        "tp",
        "records",
        "key_deserializer",
        "value_deserializer",
    ]
    for name in (
        "_consume_aborted_transactions_up_to",
        "_contains_abort_marker",
        "_is_batch_aborted",
        "_maybe_raise_next_inline_exception",
    ):
        assert callable(getattr(records, name))
    assert DefaultRecordBatch.HEADER_STRUCT.size == 61
    assert "_buffer" in DefaultRecordBatch.__slots__
    source = inspect.getsource(KafkaConsumer)
    for text in (
        "self._fetcher.fetch_records(",
        "self._fetcher = Fetcher(",
        "self.config['kafka_client'](",
        "self._coordinator.poll(",
    ):
        assert text in source
    assert "transport" in inspect.getsource(KafkaConnectionManager._build_transport)
    assert "self._sock_recv()" in inspect.getsource(KafkaTCPTransport._read_from_sock)
    assert issubclass(KafkaSSLTransport, KafkaTCPTransport)
    assert "while self.need_rejoin()" in inspect.getsource(BaseCoordinator.join_group_async)
    assert "self.rejoining = True" in inspect.getsource(BaseCoordinator.join_group_async)
    assert "self._join_task is None or self._join_task.is_done" in inspect.getsource(BaseCoordinator.join_group_async)
    assert "await self.join_group_async(" in inspect.getsource(BaseCoordinator.ensure_active_group_async)
