from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.errors import UserError
from monitor.ports import Halted, PartitionId
from monitor.sources.file import FileSource

A = PartitionId("a.jsonl", 0)


_OPENED: list[FileSource] = []


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


def opened(folder: Path, offset: int = 0, partition: PartitionId = A, **options: object) -> FileSource:
    source = FileSource([partition.topic], "f", base_dir=folder, **options)  # type: ignore[arg-type]
    _OPENED.append(source)
    source.assign([partition])
    source.seek(partition, offset)
    source.resume(partition)
    return source


def records(source: FileSource, polls: int = 3) -> list[tuple[int, bytes | None]]:
    return [pair for _ in range(polls) for c in source.poll(100, 0.0) for pair in zip(c.offsets, c.values, strict=True)]


def test_blank_lines_are_skipped_but_counted_and_carriage_returns_go(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a":1}\r\n\n  \n{"a":2}\n')
    assert records(opened(tmp_path)) == [(0, b'{"a":1}'), (3, b'{"a":2}')]
    assert records(opened(tmp_path, 2)) == [(3, b'{"a":2}')]


def test_a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * 5_000_000 + b"\nsmall\n" + b"y" * 3000 + b"\n")
    got = records(opened(tmp_path, max_line_bytes=2000))
    assert got == [(0, b"x" * 2001), (1, b"small"), (2, b"y" * 2001)]


def test_a_last_line_without_newline_waits_while_the_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'one\n{"tw')
    source = opened(tmp_path, settle_seconds=60.0)
    assert records(source) == [(0, b"one")]
    assert not source.caught_up(A)
    with path.open("ab") as out:
        out.write(b'o":2}\n')
    assert records(source) == [(1, b'{"two":2}')]


def test_a_last_line_is_whole_once_the_file_is_quiet_and_what_follows_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo")
    source = opened(tmp_path, settle_seconds=0.0)
    assert records(source) == [(0, b"one"), (1, b"two")]
    assert source.caught_up(A)
    with path.open("ab") as out:
        out.write(b"-more\nthree\n")
    assert records(source) == [(2, b"three")]
    assert records(opened(tmp_path, 2)) == [(2, b"three")]  # the same after a restart


def test_a_file_that_became_shorter_halts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo\n")
    source = opened(tmp_path)
    records(source)
    path.write_bytes(b"x\n")
    assert records(source) == []
    (event,) = source.events()
    assert isinstance(event, Halted)
    assert (event.partition, event.offset) == (A, 2)


def test_a_stored_offset_beyond_the_file_halts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"one\n")
    source = opened(tmp_path, 5)
    (event,) = source.events()
    assert isinstance(event, Halted)
    assert "replaced" in event.reason


def test_a_broken_gzip_file_halts_after_its_good_lines_and_the_others_go_on(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d\n" % i for i in range(200_000)))
    (tmp_path / "bad.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a.jsonl").write_bytes(b"one\n")
    source = FileSource(["bad.gz", "a.jsonl"], "f", base_dir=tmp_path)
    _OPENED.append(source)
    bad = PartitionId("bad.gz", 0)
    for partition in (bad, A):
        source.assign([partition])
        source.seek(partition, 0)
        source.resume(partition)
    chunks = [c for _ in range(100) for c in source.poll(10_000, 0.0)]
    assert [c.values for c in chunks if c.partition == A] == [[b"one"]]
    read = [o for c in chunks if c.partition == bad for o in c.offsets]
    (event,) = source.events()
    assert isinstance(event, Halted)
    assert read == list(range(event.offset))


def test_the_preferred_file_is_read_next(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(b"%d\n" % i for i in range(20)))
    parts = [PartitionId(f"{name}.jsonl", 0) for name in "abc"]
    source = FileSource(["*.jsonl"], "f", base_dir=tmp_path)
    _OPENED.append(source)
    source.assign(parts)
    for p in parts:
        source.seek(p, 0)
        source.resume(p)
    for wanted in (parts[2], parts[0], parts[1], parts[2]):
        source.prefer([wanted])
        assert [c.partition for c in source.poll(5, 0.0)] == [wanted]


def test_a_table_counts_its_events(tmp_path: Path) -> None:
    def table(path: Path) -> Iterator[list[bytes]]:
        yield [b"e%d" % i for i in range(5)]
        yield []
        yield [b"e%d" % i for i in range(5, 8)]

    (tmp_path / "t.parquet").write_bytes(b"")
    partition = PartitionId("t.parquet", 0)
    source = opened(tmp_path, 3, partition, read_table=table)
    assert records(source) == [(i, b"e%d" % i) for i in range(3, 8)]
    assert source.caught_up(partition)
    assert source.end_offsets([partition]) == {partition: 8}


def test_what_cannot_be_read_is_told_by_its_path(tmp_path: Path) -> None:
    for pattern in ("no.jsonl", "*.nothing"):
        with pytest.raises(UserError, match=pattern.replace("*", r"\*")):
            FileSource([pattern], "f", base_dir=tmp_path)
