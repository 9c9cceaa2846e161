"""What every source owes the loop: nothing before it is asked for, everything once and in order, honest ends.

One suite for all of them; what only Kafka has is in tests/integration/test_kafka_source.py.
"""

from __future__ import annotations

import gzip
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from monitor.ports import Assigned, Halted, PartitionId, RecordChunk, Source
from monitor.sources.file import FileSource
from monitor.sources.memory import MemoryLog, MemorySource

COUNT = 250


class Rig(Protocol):
    """Two partitions of COUNT records each, `b"<partition>-<i>"`, a way to add one, and sources of one group on them."""

    partitions: list[PartitionId]
    has_groups: bool

    def add(self, partition: PartitionId, value: bytes) -> None: ...

    def source(self, group: str) -> Source: ...


def _value(partition: int, i: int) -> bytes:
    return b'{"p":%d,"i":%d}' % (partition, i)


class MemoryRig:
    has_groups = True

    def __init__(self) -> None:
        self._log = MemoryLog({"events": 2})
        self.partitions = [PartitionId("events", i) for i in range(2)]
        for i in range(2 * COUNT):
            self._log.append("events", _value(i % 2, i // 2), partition=i % 2, timestamp_ms=i)

    def add(self, partition: PartitionId, value: bytes) -> None:
        self._log.append(partition.topic, value, partition=partition.partition)

    def source(self, group: str) -> Source:
        return MemorySource(self._log, group, ["events"], "memory")


class FileRig:
    has_groups = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for p in range(2):
            (folder / f"{p}.jsonl").write_bytes(b"".join(_value(p, i) + b"\n" for i in range(COUNT)))
        self.partitions = [PartitionId(f"{p}.jsonl", 0) for p in range(2)]

    def add(self, partition: PartitionId, value: bytes) -> None:
        with (self._folder / partition.topic).open("ab") as out:
            out.write(value + b"\n")

    def source(self, group: str) -> Source:
        source = FileSource(["*.jsonl"], "file", base_dir=self._folder)
        source.assign(self.partitions)
        return source


class KafkaRig:
    has_groups = True

    def __init__(self, broker: Any) -> None:
        from kafka import KafkaProducer

        self._broker, topic = broker, "contract-" + uuid.uuid4().hex[:8]
        broker.create_topic(topic, 2)
        self.partitions = [PartitionId(topic, i) for i in range(2)]
        self._producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=5)
        for i in range(2 * COUNT):
            self._producer.send(topic, _value(i % 2, i // 2), partition=i % 2)
        self._producer.flush()

    def add(self, partition: PartitionId, value: bytes) -> None:
        self._producer.send(partition.topic, value, partition=partition.partition)
        self._producer.flush()

    def source(self, group: str) -> Source:
        from monitor.sources.kafka import KafkaSettings, KafkaSource

        topics = (self.partitions[0].topic,)
        return KafkaSource(
            KafkaSettings(bootstrap_servers=(self._broker.address,), group_id=group, topics=topics), "kafka"
        )

    def close(self) -> None:
        self._producer.close()


@pytest.fixture(params=["memory", "file", pytest.param("kafka", marks=pytest.mark.integration)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "memory":
        yield MemoryRig()
    elif request.param == "file":
        yield FileRig(tmp_path)
    else:
        kafka = KafkaRig(request.getfixturevalue("broker"))
        yield kafka
        kafka.close()


@pytest.fixture
def source(rig: Rig) -> Iterator[Source]:
    source = rig.source("one")
    until(source, lambda: not rig.has_groups or owned(source) == set(rig.partitions))
    yield source
    source.close()


_OWNED: weakref.WeakKeyDictionary[Source, set[PartitionId]] = weakref.WeakKeyDictionary()


def owned(source: Source) -> set[PartitionId]:
    """What the source's events so far say is ours."""
    held = _OWNED.setdefault(source, set())
    for event in source.events():
        if isinstance(event, Assigned):
            held |= event.partitions
        elif not isinstance(event, Halted):
            held -= getattr(event, "partitions", frozenset())
    return held


def until(
    source: Source, done: Callable[[], bool], max_records: int = 1000, seconds: float = 15.0
) -> list[RecordChunk]:
    chunks: list[RecordChunk] = []
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "took too long"
        chunks += source.poll(max_records, 0.1)
    return chunks


def begin(source: Source, partition: PartitionId, offset: int | None = None) -> None:
    source.seek(partition, source.start_offset(partition) if offset is None else offset)
    source.resume(partition)


def read(source: Source, count: int, max_records: int = 1000) -> dict[PartitionId, list[tuple[int, bytes | None]]]:
    got: dict[PartitionId, list[tuple[int, bytes | None]]] = {}
    end = time.monotonic() + 15
    while sum(map(len, got.values())) < count:
        assert time.monotonic() < end, f"only {sum(map(len, got.values()))} of {count} records came"
        for chunk in source.poll(max_records, 0.2):
            assert len(chunk.offsets) == len(chunk.values) > 0
            got.setdefault(chunk.partition, []).extend(zip(chunk.offsets, chunk.values, strict=True))
    return got


def everything(rig: Rig) -> dict[PartitionId, list[tuple[int, bytes | None]]]:
    return {p: [(i, _value(n, i)) for i in range(COUNT)] for n, p in enumerate(rig.partitions)}


def test_nothing_is_handed_out_before_it_is_sought_and_resumed(rig: Rig, source: Source) -> None:
    assert [source.poll(100, 0.05) for _ in range(5)] == [[]] * 5
    assert not any(source.caught_up(p) for p in rig.partitions)


def test_everything_comes_once_in_order_whatever_the_size_of_a_poll(rig: Rig, source: Source) -> None:
    for partition in rig.partitions:
        begin(source, partition)
    assert read(source, 2 * COUNT, max_records=37) == everything(rig)
    assert source.poll(100, 0.1) == []


def test_a_poll_is_bounded(rig: Rig, source: Source) -> None:
    for partition in rig.partitions:
        begin(source, partition)
    sizes = [sum(len(c.offsets) for c in source.poll(40, 0.2)) for _ in range(20)]
    assert max(sizes) <= 80
    assert sum(sizes) == 2 * COUNT or min(sizes) > 0


def test_seek_starts_at_the_offset_and_may_go_back(rig: Rig, source: Source) -> None:
    first = rig.partitions[0]
    begin(source, first, 200)
    assert read(source, 50)[first][0] == (200, _value(0, 200))
    source.seek(first, 17)
    assert read(source, COUNT - 17)[first] == everything(rig)[first][17:]


def test_pause_stops_and_resume_goes_on_without_loss_or_copy(rig: Rig, source: Source) -> None:
    first = rig.partitions[0]
    begin(source, first)
    got = read(source, 30, max_records=30)[first]
    source.pause(first)
    assert [source.poll(100, 0.05) for _ in range(3)] == [[]] * 3
    assert not source.caught_up(first)
    source.resume(first)
    got += read(source, COUNT - len(got))[first]
    assert got == everything(rig)[first]


def test_ends_are_told_and_caught_up_means_all_was_handed_out(rig: Rig, source: Source) -> None:
    assert source.end_offsets(rig.partitions) == dict.fromkeys(rig.partitions, COUNT)
    assert source.partitions() == {p.topic: sum(q.topic == p.topic for q in rig.partitions) for p in rig.partitions}
    first = rig.partitions[0]
    begin(source, first)
    read(source, 30, max_records=30)
    assert not source.caught_up(first)
    read(source, COUNT - 30)
    until(source, lambda: source.caught_up(first))
    assert not source.caught_up(rig.partitions[1])


def test_what_is_added_later_comes_too(rig: Rig, source: Source) -> None:
    first = rig.partitions[0]
    begin(source, first)
    read(source, COUNT)
    until(source, lambda: source.caught_up(first))
    rig.add(first, b'{"new":1}')
    assert read(source, 1)[first] == [(COUNT, b'{"new":1}')]
    assert source.end_offsets([first]) == {first: COUNT + 1}


def test_steering_what_is_not_ours_does_nothing(rig: Rig, source: Source) -> None:
    stranger = PartitionId("nobody", 7)
    source.seek(stranger, 3)
    source.resume(stranger)
    source.pause(stranger)
    assert not source.caught_up(stranger)


def test_a_courtesy_commit_never_raises_and_close_may_be_called_twice(rig: Rig) -> None:
    source = rig.source("polite")
    source.courtesy_commit({rig.partitions[0]: 5, PartitionId("nobody", 0): 1})
    source.close()
    source.close()
    source.courtesy_commit({rig.partitions[0]: 6})


def test_two_members_of_a_group_share_and_the_other_takes_over(rig: Rig) -> None:
    if not rig.has_groups:
        pytest.xfail("files are shared by leases in the store")
    a, b = rig.source("pair"), rig.source("pair")
    everyone = set(rig.partitions)

    def shared() -> bool:
        b.poll(1, 0.05)
        return owned(a) | owned(b) == everyone and len(owned(a)) == len(owned(b)) == 1

    until(a, shared)
    b.close()
    until(a, lambda: owned(a) == everyone)
    for partition in rig.partitions:
        begin(a, partition)
    assert read(a, 2 * COUNT) == everything(rig)
    a.close()


def test_a_gzip_file_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(_value(0, i) + b"\n" for i in range(COUNT))))
    source, partition = FileSource(["*.gz"], "file", base_dir=tmp_path), PartitionId("a.jsonl.gz", 0)
    source.assign([partition])
    begin(source, partition)
    assert read(source, COUNT)[partition] == [(i, _value(0, i)) for i in range(COUNT)]
    assert source.poll(10, 0.0) == []
    assert source.caught_up(partition)
    source.close()
