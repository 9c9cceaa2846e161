"""10,000 malformed records of every class among 100,000 good ones, through a real broker: good results as without them, each bad one accounted for.

DRIFTLINE_GOOD (100,000) is how many good ones; a tenth of it is bad. DRIFTLINE_SEED (1) makes another case. What it took is printed.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.parts.broker import Broker
from tests.parts.census import MODEL, census, stamp
from tests.parts.program import Ended, Key, Room, judged, kafka

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3600)]

GOOD = int(os.environ.get("DRIFTLINE_GOOD", "100000"))
SEED = int(os.environ.get("DRIFTLINE_SEED", "1"))
PARTITIONS = 6
# What may be resident at most, whatever comes, and how much of it may be due to the bad records.
PEAK_MIB, PEAK_OF_BAD_MIB = 768, 256  # a third is libraries; the rest is what the client fetched and a checkpoint holds
TOO_LARGE = 20  # each is more than 256 KiB

Make = Callable[[random.Random, bytes], bytes]


def changed(**fields: Any) -> Make:
    return lambda rng, good: json.dumps(json.loads(good) | fields).encode()


def without(field: str) -> Make:
    return lambda rng, good: json.dumps(
        {name: value for name, value in json.loads(good).items() if name != field}
    ).encode()


def predicting(**fields: Any) -> Make:
    return lambda rng, good: json.dumps(json.loads(good) | {"prediction": {"label": 1, "score": 0.5} | fields}).encode()


def just(*values: bytes) -> Make:
    return lambda rng, good: rng.choice(values)


def named(raw: bytes) -> Make:
    """A good event whose id holds these bytes."""
    return lambda rng, good: good.replace(b'"id":"', b'"id":"' + raw, 1)


def nested(opening: str, closing: str) -> Make:
    return lambda rng, good: (opening * (depth := rng.randrange(17, 5000)) + "1" + closing * depth).encode()


def ahead(seconds: float) -> Make:
    return lambda rng, good: json.dumps(json.loads(good) | {"ts": stamp(int((time.time() + seconds) * 1000))}).encode()


# Written from DESIGN 4.2 and docs/reliability.md, not from the codec: the reason is known from how a record was made.
CLASSES: dict[str, list[Make]] = {
    "bad_json": [
        just(b"{", b"", b"  ", b"{]", b"nul", b"{'type':'prediction'}", b"\x00", b"\x1f\x0b garbage"),
        lambda rng, good: good[: rng.randrange(1, len(good))],
        lambda rng, good: good + good,
        lambda rng, good: good + b"x",
        lambda rng, good: good.replace(b'"id":', b'"id":,', 1),
        lambda rng, good: good.replace(b'"AGEP":', b'"AGEP":0', 1).replace(b'"AGEP":0', b'"AGEP":01', 1),
        named(b"\x00"),  # a raw control character has no place in a JSON text
        named(b"\n"),
        named(b"\\x"),
    ],
    "bad_encoding": [
        lambda rng, good: b"\xef\xbb\xbf" + good,
        lambda rng, good: good.decode().encode("utf-16"),
        named(b"\xff"),
        named(b"caf\xe9"),
        named(b"\xed\xa0\x80"),
        named(b"\\u0000"),
        named(b"\\ud800"),
        lambda rng, good: good.replace(b'"version":"', b'"version":"\\udfff', 1),
    ],
    "too_deep": [nested("[", "]"), nested('{"a":', "}"), just(b"[" * 5000, b'{"a":' * 2000)],
    "schema_violation": [
        just(b"null", b"[]", b"42", b'"x"', b"true", b"1e999", b"{}", b'{"type":"prediction"}'),
        *map(without, ("type", "model", "id", "ts", "prediction")),
        *(changed(type=value) for value in ("predictoin", None, 1, ["prediction"])),
        *(changed(model=value) for value in (None, "", 7, {"a": 1}, "m" * 257)),
        *(changed(id=value) for value in (None, "", 7, ["a"], "x" * 300)),
        changed(version=7),
        changed(features=[1, 2]),
        changed(features="x"),
        changed(features=None),
        changed(segment=["EU"]),
        changed(weight=-1),
        changed(weight="heavy"),
        *(changed(prediction=value) for value in (7, None, "yes", [])),
        *(predicting(score=value) for value in ("high", 1.5, -0.1, True, float("nan"), 10**400)),
        predicting(label=["a"]),
        predicting(label=float("inf")),
        predicting(value="x"),
        predicting(scores=[0.5]),
    ],
    "bad_timestamp": [
        *(changed(ts=value) for value in ("yesterday", "", None, True, {}, ["2026-01-01T00:00:00Z"])),
        *(changed(ts=value) for value in ("1970-01-01T00:00:00Z", "1999-12-31T23:59:59.999Z", -1, 0, 1_767_225_600)),
        *(changed(ts=value) for value in ("2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z")),
        *(changed(ts=value) for value in ("2026-01-01", 1.5, 10**17, 10**400)),
    ],
    "future_timestamp": [
        ahead(3600),
        ahead(20 * 365 * 86400),
        changed(ts=4_102_444_800_000),
        changed(ts="9999-12-31T23:59:59Z"),
    ],
}


def too_large(rng: random.Random, good: bytes) -> bytes:
    return good[:-1] + b',"note":"' + b"x" * (256 * 1024) + b'"}'


def malformed(count: int, good: list[bytes], rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """(reason, record), every maker of every class in turn."""
    makers = [(reason, make) for reason, all_of_it in CLASSES.items() for make in all_of_it]
    turns = [("too_large", too_large)] * TOO_LARGE + list(islice(cycle(makers), count - TOO_LARGE))
    rng.shuffle(turns)
    return ((reason, make(rng, rng.choice(good))) for reason, make in turns)


@dataclass(frozen=True)
class World:
    good: list[bytes]
    plain: dict[Key, Any]  # of the good ones alone, by the same way
    undisturbed: Ended
    model: dict[str, Any]


@pytest.fixture(scope="module")
def world(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> World:
    rows = census(GOOD)
    good = [line for _, line in islice(cycle(rows.lines()), GOOD)]
    folder = tmp_path_factory.mktemp("good")
    broker.create_topic("good", PARTITIONS)
    send(broker, "good", [("", line) for line in good], random.Random(SEED))
    room = Room(folder, {MODEL: rows.model()}, kafka(broker, "good"))
    ended = room.catch_up(900)
    (folder / "events.jsonl").write_bytes(b"\n".join(good) + b"\n")
    plain = room.results()
    assert plain == judged(room.run("replay", "events.jsonl", "--json", seconds=900).stdout)
    return World(good, plain, ended, rows.model())


def send(
    broker: Broker, topic: str, records: list[tuple[str, bytes]], rng: random.Random
) -> dict[tuple[int, int], str]:
    """Produce in this order, each to a partition drawn; returns the reason of every bad one by (partition, offset)."""
    producer = KafkaProducer(
        bootstrap_servers=broker.address, linger_ms=20, compression_type="lz4", max_request_size=1 << 20
    )
    placed: dict[tuple[int, int], str] = {}
    next_offset: Counter[int] = Counter()
    for reason, value in records:
        partition = rng.randrange(PARTITIONS)
        producer.send(topic, value, partition=partition)
        if reason:
            placed[partition, next_offset[partition]] = reason
        next_offset[partition] += 1
    producer.flush()
    producer.close()
    return placed


def mixed(good: list[bytes], bad: list[tuple[str, bytes]], rng: random.Random) -> list[tuple[str, bytes]]:
    """All records in one order, the bad ones at places drawn among the good."""
    places = set(rng.sample(range(len(good) + len(bad)), len(bad)))
    goods, bads = iter(good), iter(bad)
    return [next(bads) if place in places else ("", next(goods)) for place in range(len(good) + len(bad))]


def test_bad_records_change_nothing_and_are_all_accounted_for(world: World, broker: Broker, tmp_path: Path):
    rng = random.Random(SEED)
    bad = list(malformed(GOOD // 10, world.good, rng))
    records = mixed(world.good, bad, rng)
    broker.create_topic("mixed", PARTITIONS)
    placed = send(broker, "mixed", records, rng)
    room = Room(tmp_path, {MODEL: world.model}, kafka(broker, "mixed"))
    ended = room.catch_up(900)

    assert room.stored() == len(records)
    assert "Traceback" not in ended.stderr
    assert room.results() == world.plain

    listed = [json.loads(line) for line in room.run("quarantine", "list", "--json").stdout.splitlines()]
    found = {(row["partition"], row["offset"]): row["reason"] for row in listed}
    assert len(listed) == len(found) == len(bad)
    wrong = Counter((found.get(place), reason) for place, reason in placed.items() if found.get(place) != reason)
    assert (wrong, found.keys() - placed.keys()) == (Counter(), set())
    assert ended.peak_mib <= min(PEAK_MIB, world.undisturbed.peak_mib + PEAK_OF_BAD_MIB)

    print(
        f"\n{len(bad):,} bad among {GOOD:,} good: {len(world.plain)} windows identical, {dict(Counter(found.values()))}"
    )
    print(
        f"{ended.seconds:.1f} s, peak {ended.peak_mib:.0f} MiB; without them {world.undisturbed.seconds:.1f} s, {world.undisturbed.peak_mib:.0f} MiB"
    )
