"""What only Kafka has, against a real broker. The port itself is tested in tests/contract/test_sources.py."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from monitor.errors import TransientError, UserError
from monitor.ports import Assigned, Halted, PartitionId, RecordChunk, Revoked, SourceEvent, Truncated
from monitor.sources.kafka import KafkaSecurity, KafkaSettings, KafkaSource
from tests.parts.broker import PASSWORD, USERNAME, Broker

pytestmark = pytest.mark.integration


class Member:
    """The least that a worker does: claims what it is assigned, from the offset it remembers."""

    def __init__(self, broker: Broker, topic: str, group: str | None = None, **options: Any) -> None:
        settings = KafkaSettings(
            bootstrap_servers=(broker.address,),
            group_id=group or uuid.uuid4().hex,
            topics=(topic,),
            session_timeout_ms=3000,
        )
        self.source = KafkaSource(dataclasses.replace(settings, **options), "live")
        self.owned: set[PartitionId] = set()
        self.events: list[SourceEvent] = []
        self.got: dict[PartitionId, list[tuple[int, bytes | None]]] = {}
        self.chunks: list[RecordChunk] = []

    def step(self, timeout_seconds: float = 0.1) -> None:
        chunks = self.source.poll(1000, timeout_seconds)
        for event in self.source.events():
            self.events.append(event)
            if isinstance(event, Revoked):
                self.owned -= event.partitions
                chunks = [chunk for chunk in chunks if chunk.partition not in event.partitions]
            if isinstance(event, Assigned):
                self.owned |= event.partitions
                for partition in event.partitions:
                    read = self.got.get(partition)
                    self.source.seek(partition, read[-1][0] + 1 if read else self.source.start_offset(partition))
                    self.source.resume(partition)
        self.chunks += chunks
        for chunk in chunks:
            self.got.setdefault(chunk.partition, []).extend(zip(chunk.offsets, chunk.values, strict=True))

    def until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, (self.owned, self.events, {p: len(r) for p, r in self.got.items()})
            self.step()

    def count(self) -> int:
        return sum(map(len, self.got.values()))

    def values(self, partition: PartitionId) -> list[bytes | None]:
        return [value for _, value in self.got.get(partition, [])]

    def halts(self) -> list[Halted]:
        return [event for event in self.events if isinstance(event, Halted)]


@pytest.fixture
def members(broker: Broker) -> Iterator[Callable[..., Member]]:
    made: list[Member] = []

    def make(topic: str, **options: Any) -> Member:
        made.append(Member(broker, topic, **options))
        return made[-1]

    yield make
    for member in made:
        member.source.close()


def topic_of(broker: Broker, partitions: int = 1, **configs: str) -> str:
    name = "t-" + uuid.uuid4().hex[:8]
    broker.create_topic(name, partitions, **configs)
    return name


def send(broker: Broker, topic: str, values: list[bytes | None], partition: int = 0, **options: Any) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, **options)
    for value in values:
        producer.send(topic, value, key=b"k", partition=partition)
    producer.flush()
    producer.close()


_THIRD = """
import sys
sys.path.insert(0, sys.argv[4])
from monitor.sources.kafka import KafkaSettings, KafkaSource
source = KafkaSource(KafkaSettings(bootstrap_servers=(sys.argv[1],), group_id=sys.argv[2], topics=(sys.argv[3],), session_timeout_ms=3000), "third")
while True:
    source.poll(10, 0.1)
    for event in source.events():
        if type(event).__name__ == "Assigned":
            print(len(event.partitions), flush=True)
"""


def test_a_third_member_gets_its_share_and_after_kill_9_it_returns(
    broker: Broker, members: Callable[..., Member]
) -> None:
    topic, group = topic_of(broker, 6), uuid.uuid4().hex
    a, b = members(topic, group=group), members(topic, group=group)

    def until(done: Callable[[], bool]) -> None:
        a.until(lambda: b.step() or done())

    until(lambda: len(a.owned) == len(b.owned) == 3)
    assert len(a.owned | b.owned) == 6
    here = Path(__file__).resolve().parents[2]
    third = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _THIRD, broker.address, group, topic, str(here)], stdout=subprocess.PIPE
    )
    try:
        until(lambda: len(a.owned) == len(b.owned) == 2)
        assert third.stdout is not None
        assert third.stdout.readline() in (b"2\n", b"3\n")
    finally:
        third.kill()
        third.communicate()
    began = time.monotonic()
    until(lambda: len(a.owned) == len(b.owned) == 3 and len(a.owned | b.owned) == 6)
    assert time.monotonic() - began < 15
    for p in range(6):
        send(broker, topic, [b"%d" % p], p)
    until(lambda: a.count() + b.count() == 6)


def test_partitions_that_are_added_reach_the_group(broker: Broker, members: Callable[..., Member]) -> None:
    """The leader joins again because the metadata changed: the case in which kafka-python forgets its join (finish_started_joins)."""
    topic = topic_of(broker, 1)
    member = members(topic)
    member.until(lambda: len(member.owned) == 1)
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_partitions({topic: 3})
    admin.close()
    cluster = member.source._consumer._cluster
    time.sleep(0.3)
    cluster.request_update()  # otherwise within a minute
    end = time.monotonic() + 20
    while len(member.owned) < 3:
        assert time.monotonic() < end, member.events
        member.step(0.002)  # so short that a join outlasts it
    assert member.source.partitions() == {topic: 3}
    send(broker, topic, [b"new"], 2)
    member.until(lambda: member.values(PartitionId(topic, 2)) == [b"new"])


def test_partitions_take_turns_so_that_none_runs_ahead(broker: Broker, members: Callable[..., Member]) -> None:
    topic, count = topic_of(broker, 4), 3000
    for number in range(4):
        send(broker, topic, [b"%d" % i for i in range(count)], partition=number)
    member = members(topic)
    spreads = []
    while member.count() < 4 * count:
        member.step()
        read = [len(member.got.get(PartitionId(topic, number), [])) for number in range(4)]
        spreads.append(max(read) - min(read))
    assert max(spreads) <= 1000  # a poll's worth; one partition after the other would reach 3,000
    assert all(member.values(PartitionId(topic, n)) == [b"%d" % i for i in range(count)] for n in range(4))


def test_only_committed_transactions_are_read_and_their_holes_explained(
    broker: Broker, members: Callable[..., Member]
) -> None:
    topic = topic_of(broker)
    partition = PartitionId(topic, 0)
    producer = KafkaProducer(bootstrap_servers=broker.address, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    for word, commit in ((b"a", True), (b"x", False), (b"b", True), (b"y", False)):
        producer.begin_transaction()
        for i in range(10):
            producer.send(topic, word + b"%d" % i)
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    member = members(topic)
    member.until(lambda: member.count() >= 20 and member.source.caught_up(partition))
    assert member.values(partition) == [word + b"%d" % i for word in (b"a", b"b") for i in range(10)]
    assert member.source.position(partition) == 44 == member.source.end_offsets([partition])[partition]
    assert member.source.explained_hole(partition, 10, 22)
    assert not member.source.explained_hole(partition, 10, 45)
    producer.begin_transaction()
    producer.send(topic, b"open")
    producer.flush()
    for _ in range(8):
        member.step()
    assert member.count() == 20
    assert member.source.end_offsets([partition])[partition] == 44  # the last stable offset
    assert member.source.caught_up(partition)
    producer.commit_transaction()
    producer.close()
    member.until(lambda: member.values(partition)[-1:] == [b"open"])


def test_transactions_of_kafkas_own_producer(broker: Broker, members: Callable[..., Member]) -> None:
    topic = topic_of(broker, 2)
    words = [
        "--topic",
        topic,
        "--num-records",
        5000,
        "--record-size",
        100,
        "--throughput",
        20000,
        "--transactional-id",
        uuid.uuid4().hex,
    ]
    words += ["--transaction-duration-ms", 30, "--bootstrap-server", broker.address]
    broker.java("org.apache.kafka.tools.ProducerPerformance", *words)
    member = members(topic)
    parts = [PartitionId(topic, i) for i in range(2)]
    member.until(lambda: member.count() >= 5000 and all(map(member.source.caught_up, parts)))
    assert member.count() == 5000
    for partition in parts:
        offsets = [offset for offset, _ in member.got[partition]]
        assert offsets == sorted(set(offsets))
        assert offsets[-1] + 1 - len(offsets) > 0, "there were no markers: the test shows nothing"
        assert member.source.explained_hole(partition, 0, offsets[-1] + 1)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_kafkas_own_producer(broker: Broker, members: Callable[..., Member], codec: str) -> None:
    topic = topic_of(broker)
    values = [b'{"i":%d,"pad":"%s"}' % (i, b"p" * (i % 300)) for i in range(3000)]
    broker.produce(topic, [(f"k{i}", value) for i, value in enumerate(values)], codec)
    member = members(topic)
    member.until(lambda: member.count() == 3000)
    assert member.values(PartitionId(topic, 0)) == values


def test_a_bomb_halts_its_partition_while_the_others_go_on(broker: Broker, members: Callable[..., Member]) -> None:
    topic = topic_of(broker, 2)
    bad, good = PartitionId(topic, 0), PartitionId(topic, 1)
    send(broker, topic, [b"before"], 0)
    send(broker, topic, [b"x" * 3_000_000], 0, compression_type="zstd", max_request_size=10_000_000)
    send(broker, topic, [b"after"], 0)
    send(broker, topic, [b"%d" % i for i in range(100)], 1)
    member = members(topic, max_batch_bytes=1_000_000)
    member.until(lambda: bool(member.halts()) and member.count() >= 101)
    assert [(h.partition, h.offset) for h in member.halts()] == [(bad, 1)]
    assert "1,000,000 bytes" in member.halts()[0].reason
    assert (member.values(bad), len(member.values(good))) == ([b"before"], 100)
    member.source.resume(bad)  # a halt is not slept over
    send(broker, topic, [b"more"], 1)
    member.until(lambda: member.values(good)[-1] == b"more")
    assert not member.source.caught_up(bad)
    member.source.seek(bad, 2)
    member.source.resume(bad)
    member.until(lambda: member.values(bad) == [b"before", b"after"])


def test_deleted_records_are_told_and_reading_goes_on_behind_them(
    broker: Broker, members: Callable[..., Member]
) -> None:
    topic = topic_of(broker)
    partition = PartitionId(topic, 0)
    send(broker, topic, [b"%d" % i for i in range(10)])
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.delete_records({TopicPartition(topic, 0): 6})
    admin.close()
    member = members(topic)
    member.until(lambda: bool(member.owned))
    assert member.source.start_offset(partition) == 6
    member.source.seek(partition, 2)
    member.until(lambda: member.count() == 4)
    assert [e for e in member.events if isinstance(e, Truncated)] == [Truncated(partition, 2, 6)]
    assert member.values(partition) == [b"6", b"7", b"8", b"9"]


def test_an_offset_beyond_the_end_halts_for_the_topic_is_another_one(
    broker: Broker, members: Callable[..., Member]
) -> None:
    topic = topic_of(broker)
    send(broker, topic, [b"1"])
    member = members(topic)
    member.until(lambda: member.count() == 1)
    member.source.seek(PartitionId(topic, 0), 500)
    member.until(lambda: bool(member.halts()))
    assert member.halts()[0].offset == 500
    assert member.count() == 1


def test_start_policies_keys_and_null_values(broker: Broker, members: Callable[..., Member]) -> None:
    topic = topic_of(broker)
    producer = KafkaProducer(bootstrap_servers=broker.address)
    for i in range(5):
        producer.send(topic, None if i == 3 else b"%d" % i, key=b"k%d" % i, timestamp_ms=1_700_000_000_000 + i * 1000)
    producer.close()
    partition = PartitionId(topic, 0)
    for start, wanted in (("latest", 5), (1_700_000_001_500, 2), (1_800_000_000_000, 5)):
        assert members(topic, start=start).source.start_offset(partition) == wanted
    member = members(topic, keys=True, start=1_700_000_001_500)
    member.until(lambda: member.count() == 3)
    (chunk,) = member.chunks
    assert (list(chunk.offsets), chunk.values, chunk.keys) == ([2, 3, 4], [b"2", None, b"4"], [b"k2", b"k3", b"k4"])
    assert chunk.timestamps_ms == [1_700_000_002_000, 1_700_000_003_000, 1_700_000_004_000]


def secured(broker: Broker, **options: Any) -> KafkaSecurity:
    settings = {
        "protocol": "SASL_SSL",
        "mechanism": "PLAIN",
        "username": USERNAME,
        "password": PASSWORD,
        "ca_file": str(broker.ca_file),
    }
    return KafkaSecurity(**(settings | options))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_records_come_over_sasl_ssl(broker: Broker, members: Callable[..., Member], mechanism: str) -> None:
    topic = topic_of(broker)
    send(broker, topic, [b"v" * 700] * 2000)
    member = members(topic, bootstrap_servers=(broker.secure_address,), security=secured(broker, mechanism=mechanism))
    member.until(lambda: member.count() == 2000)


def test_refusals_are_one_line_with_the_place_and_the_fix(broker: Broker) -> None:
    topic = topic_of(broker)

    def refusal(kind: type[Exception], **options: Any) -> str:
        began = time.monotonic()
        with pytest.raises(kind) as caught:
            Member(broker, options.pop("topic", topic), **options)
        assert time.monotonic() - began < 5
        text = str(caught.value)
        assert "\n" not in text
        assert PASSWORD not in text
        return text

    secure = {"bootstrap_servers": (broker.secure_address,)}
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        text = refusal(UserError, security=secured(broker, mechanism=mechanism, password="wrong"), **secure)
        assert broker.secure_address in text
        assert "security.password" in text
    text = refusal(UserError, security=secured(broker, ca_file=None), **secure)
    assert "ca_file" in text
    assert "nowhere" in refusal(UserError, security=secured(broker, ca_file="/nowhere/ca.pem"), **secure)
    assert "SASL_SSL" in refusal(UserError, security=secured(broker, protocol="SASL_PLAINTEXT"))
    text = refusal(UserError, topic="no-such-topic")
    assert "no-such-topic" in text
    assert broker.address in text
    assert "127.0.0.1:1" in refusal(TransientError, bootstrap_servers=("127.0.0.1:1",), connect_timeout_ms=2000)
    assert PASSWORD not in repr(secured(broker))


def test_an_unknown_topic_is_not_created(broker: Broker) -> None:
    name = "misspelt-" + uuid.uuid4().hex[:6]
    with pytest.raises(UserError):
        Member(broker, name)
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    assert name not in admin.list_topics()
    admin.close()


def test_after_kill_9_of_the_broker_reading_goes_on(broker: Broker, members: Callable[..., Member]) -> None:
    topic = topic_of(broker)
    partition = PartitionId(topic, 0)
    send(broker, topic, [b"1", b"2"], acks="all")
    member = members(topic)
    member.until(lambda: member.count() == 2 and member.source.caught_up(partition))
    broker.kill()
    try:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            member.step()
        assert not member.source.caught_up(partition)  # a dead broker must not move anybody's clock
    finally:
        broker.start()
    send(broker, topic, [b"3"], acks="all")
    member.until(lambda: member.count() >= 3, seconds=40)
    assert member.got[partition] == [(0, b"1"), (1, b"2"), (2, b"3")]
    member.until(lambda: member.source.caught_up(partition))
