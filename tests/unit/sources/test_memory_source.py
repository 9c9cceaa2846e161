from __future__ import annotations

import threading

import pytest

from monitor.errors import UserError
from monitor.ports import Assigned, Halted, PartitionId, Truncated
from monitor.sources.memory import FullError, MemoryLog, MemorySource

P = PartitionId("t", 0)


def test_a_full_log_refuses_until_every_group_has_committed_past_something() -> None:
    log = MemoryLog({"t": 1}, limit_records=3)
    slow, fast = MemorySource(log, "slow", ["t"], "s"), MemorySource(log, "fast", ["t"], "s")
    for _ in range(3):
        log.append("t", b"x")
    with pytest.raises(FullError):
        log.append("t", b"x")
    fast.courtesy_commit({P: 3})
    slow.courtesy_commit({P: 1})
    assert log.append("t", b"x") == (P, 3)
    with pytest.raises(FullError):
        log.append("t", b"x", timeout_seconds=0.01)
    slow.seek(P, 0)
    slow.resume(P)
    assert [list(c.offsets) for c in slow.poll(10, 0.0)] == [[1, 2, 3]]
    assert Truncated(P, 0, 1) in slow.events()


def test_a_waiting_writer_goes_on_as_soon_as_there_is_room() -> None:
    log = MemoryLog({"t": 1}, limit_records=1)
    source = MemorySource(log, "g", ["t"], "s")
    log.append("t", b"x")
    wrote = threading.Event()
    writer = threading.Thread(target=lambda: (log.append("t", b"y", timeout_seconds=10), wrote.set()))
    writer.start()
    assert not wrote.wait(0.05)
    source.courtesy_commit({P: 1})
    assert wrote.wait(5)
    writer.join()


def test_a_key_always_goes_to_the_same_partition_and_no_key_in_turn() -> None:
    log = MemoryLog({"t": 4})
    assert len({log.append("t", b"x", key=b"k")[0] for _ in range(10)}) == 1
    assert {log.append("t", b"x")[0].partition for _ in range(4)} == {0, 1, 2, 3}


def test_an_offset_beyond_the_end_halts() -> None:
    log = MemoryLog({"t": 1})
    source = MemorySource(log, "g", ["t"], "s")
    source.seek(P, 5)
    source.resume(P)
    assert source.poll(10, 0.0) == []
    assert [type(e) for e in source.events()] == [Assigned, Halted]


def test_keys_null_values_and_start_policies() -> None:
    log = MemoryLog({"t": 1})
    for i in range(5):
        log.append("t", None if i == 2 else b"%d" % i, key=b"k%d" % i, timestamp_ms=i * 10)
    source = MemorySource(log, "g", ["t"], "s", keys=True)
    source.seek(P, 1)
    source.resume(P)
    (chunk,) = source.poll(2, 0.0)
    assert (list(chunk.offsets), chunk.values, chunk.keys, chunk.timestamps_ms) == (
        [1, 2],
        [b"1", None],
        [b"k1", b"k2"],
        [10, 20],
    )
    starts = [
        MemorySource(log, "other", ["t"], "s", start=start).start_offset(P)
        for start in ("earliest", "latest", 25, 1000)
    ]
    assert starts == [0, 5, 3, 5]
    with pytest.raises(UserError, match="nope"):
        MemorySource(log, "g", ["nope"], "s")
