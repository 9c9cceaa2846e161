"""Files as partitions: JSON lines (plain or gzip) and tables. A plain file that grows is followed.

A file is the topic of its path as configured, with the one partition 0; an offset is a line number, or the index of a table's event.
Who reads which file is decided by leases in the store, so nothing is assigned here: `leased` says so.

The last line of a plain file counts as a record once the file has not grown for `settle_seconds`, newline or not. What is appended to
such a line after it was handed out is dropped with it: a line is one offset for ever.
"""

from __future__ import annotations

import glob
import gzip
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import IO, Protocol, cast

from monitor.errors import DriftlineError, UserError
from monitor.ports import Halted, PartitionId, RecordChunk, SourceEvent

_BLOCK_BYTES = 1024 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024


class FileSource:
    """See monitor.ports.Source. `paths` may hold patterns (`*`, `**`); relative ones start at `base_dir`.

    `read_table` turns one file into its events, in the file's order, and makes this a source of tables (monitor.tables.load.table_events).
    Lines longer than `max_line_bytes` are handed out cut to one byte more than that, which the codec refuses as too large.
    With `follow` False a file ends where it ends now: its last line needs no newline and no waiting.
    """

    leased = True

    def __init__(
        self,
        paths: Sequence[str],
        name: str,
        *,
        base_dir: Path = Path(),
        read_table: Callable[[Path], Iterable[Sequence[bytes]]] | None = None,
        follow: bool = True,
        settle_seconds: float = 1.0,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.name = name
        self._patterns, self._base, self._read_table = tuple(paths), base_dir, read_table
        self._follow, self._settle_seconds, self._max_line_bytes = follow, settle_seconds, max_line_bytes
        self._readers: dict[PartitionId, _Reader | None] = {}  # what is ours; None before the first seek
        self._flowing: dict[PartitionId, None] = {}
        self._order: dict[PartitionId, int] = {}
        self._ends: dict[
            PartitionId, tuple[tuple[int, int], int]
        ] = {}  # (size, mtime) -> lines: counting reads the whole file
        self._events: deque[SourceEvent] = deque()
        for pattern in self._patterns:
            found = self._matches(pattern)
            if not found and not glob.has_magic(pattern):
                raise UserError(f"source {name}: no such file: {self._base / pattern}")
            for path in found:
                if not os.access(self._base / path, os.R_OK) or (self._base / path).is_dir():
                    raise UserError(f"source {name}: cannot be read: {self._base / path}")
        if not self.partitions():
            raise UserError(f"source {name}: no file matches {', '.join(self._patterns)}")

    # --- whose files

    def partitions(self) -> Mapping[str, int]:
        """Every file that is there now, and those that are ours."""
        found = {path: 1 for pattern in self._patterns for path in self._matches(pattern)}
        return found | {partition.topic: 1 for partition in self._readers}

    def assign(self, partitions: Iterable[PartitionId]) -> None:
        """These are ours by lease; paused until sought and resumed. Idempotent."""
        for partition in partitions:
            self._readers.setdefault(partition, None)

    def unassign(self, partitions: Iterable[PartitionId]) -> None:
        """These are no longer ours; their files are closed."""
        for partition in partitions:
            self._flowing.pop(partition, None)
            reader = self._readers.pop(partition, None)
            if reader is not None:
                reader.close()

    def prefer(self, partitions: Sequence[PartitionId]) -> None:
        """Read these first, in this order (the lowest watermark first); `poll` takes from one file at a time."""
        self._order = {partition: i for i, partition in enumerate(partitions)}

    # --- reading

    def poll(self, max_records: int, timeout_seconds: float) -> list[RecordChunk]:
        """See the port: records of the most preferred file that has any."""
        until = time.monotonic() + timeout_seconds
        while True:
            for partition in sorted(self._flowing, key=lambda p: self._order.get(p, len(self._order))):
                chunk = self._read(partition, max_records)
                if chunk is not None:
                    return [chunk]
            left = until - time.monotonic()
            if left <= 0 or self._events:
                return []
            time.sleep(min(left, 0.1))

    def events(self) -> list[SourceEvent]:
        """See the port: only Halted."""
        drained = list(self._events)
        self._events.clear()
        return drained

    def caught_up(self, partition: PartitionId) -> bool:
        """See the port: True when the last read met the end of the file and nothing waits behind it."""
        reader = self._readers.get(partition)
        return partition in self._flowing and reader is not None and reader.at_end

    def position(self, partition: PartitionId) -> int | None:
        """The next offset to be handed out; None when it is not ours or was never sought."""
        reader = self._readers.get(partition)
        return reader.position if reader is not None else None

    def explained_hole(self, _partition: PartitionId, _from_offset: int, _to_offset: int) -> bool:
        """Always True: blank lines are not records, and nothing else is left out."""
        return True

    # --- steering

    def seek(self, partition: PartitionId, offset: int) -> None:
        """See the port. Reads the file up to there: a line number says nothing about bytes."""
        if partition not in self._readers:
            return
        old = self._readers[partition]
        if old is not None:
            old.close()
        try:
            reader = self._open(partition)
            self._readers[partition] = reader
            reader.skip_to(offset)
        except _UNREADABLE as error:
            self._halt(partition, offset, error)

    def resume(self, partition: PartitionId) -> None:
        """See the port."""
        if self._readers.get(partition) is not None:
            self._flowing[partition] = None

    def pause(self, partition: PartitionId) -> None:
        """See the port."""
        self._flowing.pop(partition, None)

    def start_offset(self, partition: PartitionId) -> int:
        """A file begins at its beginning."""
        return 0

    def end_offsets(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
        """See the port. Reads files that have changed since they were last counted; UserError for one that cannot be read."""
        return {partition: self._end(partition) for partition in partitions}

    def courtesy_commit(self, offsets: Mapping[PartitionId, int]) -> None:
        """Nobody to tell."""

    def close(self) -> None:
        """See the port."""
        self.unassign(list(self._readers))

    # --- inside

    def _matches(self, pattern: str) -> list[str]:
        if not glob.has_magic(pattern):
            return [pattern] if (self._base / pattern).exists() else []
        found = glob.glob(pattern, root_dir=self._base, recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
        return sorted(path for path in found if not (self._base / path).is_dir())

    def _open(self, partition: PartitionId, *, follow: bool | None = None) -> _Reader:
        path = self._base / partition.topic
        if self._read_table is not None:
            return _TableReader(self._read_table(path))
        if path.suffix == ".gz":
            return _LineReader(cast("IO[bytes]", gzip.open(path, "rb")), None, self._max_line_bytes)
        settle = self._settle_seconds if (self._follow if follow is None else follow) else 0.0
        return _LineReader(path.open("rb"), settle, self._max_line_bytes)

    def _read(self, partition: PartitionId, max_records: int) -> RecordChunk | None:
        reader = self._readers[partition]
        assert reader is not None, "only what was sought is resumed"
        try:
            offsets, values = reader.read(max_records)
        except _UNREADABLE as error:
            self._halt(partition, reader.position, error)
            return None
        return RecordChunk(partition=partition, offsets=offsets, values=values) if offsets else None

    def _halt(self, partition: PartitionId, offset: int, error: Exception) -> None:
        self._flowing.pop(partition, None)
        reader, self._readers[partition] = self._readers[partition], None
        if reader is not None:
            reader.close()
        self._events.append(Halted(partition, offset, " ".join(str(error).split()) or type(error).__name__))

    def _end(self, partition: PartitionId) -> int:
        path = self._base / partition.topic
        try:
            status = path.stat()
            version = (status.st_size, status.st_mtime_ns)
            known = self._ends.get(partition)
            if known is None or known[0] != version:
                reader = self._open(partition, follow=False)
                try:
                    while reader.read(10_000)[0]:
                        pass
                    known = self._ends[partition] = (version, reader.position)
                finally:
                    reader.close()
        except _UNREADABLE as error:
            raise UserError(f"source {self.name}: {path}: {error}") from error
        return known[1]


_ENDS_IN_CR = methodcaller("endswith", b"\r")
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, DriftlineError)


class _Reader(Protocol):
    position: int
    at_end: bool

    def read(self, max_records: int) -> tuple[list[int], list[bytes | None]]:
        """Offsets and values of the next records; both empty at the end."""

    def skip_to(self, offset: int) -> None: ...

    def close(self) -> None: ...


class _LineReader:
    """The lines of one open file, a block at a time. `settle_seconds` None: the file does not grow."""

    def __init__(self, file: IO[bytes], settle_seconds: float | None, max_line_bytes: int) -> None:
        self._file, self._settle_seconds, self._max = file, settle_seconds, max_line_bytes
        self.position = 0  # number of the next line
        self.at_end = False
        self._lines: list[bytes] = []  # whole lines waiting, the next one last
        self._partial = b""
        self._quiet_since: float | None = None
        self._handed_out_partial = False
        self._bytes_read = 0

    def read(self, max_records: int) -> tuple[list[int], list[bytes | None]]:
        offsets: list[int] = []
        values: list[bytes | None] = []
        while len(offsets) < max_records and (self._lines or self._fill()):
            lines = self._lines[len(offsets) - max_records :][::-1]
            del self._lines[-len(lines) :]
            if self._all_plain(lines):
                offsets += range(self.position, self.position + len(lines))
                values += lines
            else:
                for place, line in enumerate(lines, start=self.position):
                    if line and not line.isspace():
                        offsets.append(place)
                        values.append(line[: self._max + 1].rstrip(b"\r"))
            self.position += len(lines)
        if offsets:
            self.at_end = self.at_end and not self._lines
        return offsets, values

    def _all_plain(self, lines: list[bytes]) -> bool:
        """Whether each of them is a record as it stands: to ask once for all costs a tenth of a look at each."""
        odd = not all(lines) or any(map(bytes.isspace, lines)) or any(map(_ENDS_IN_CR, lines))
        return not odd and max(map(len, lines)) <= self._max

    def skip_to(self, offset: int) -> None:
        """Raises ValueError when the file has fewer lines: it is not the file it was."""
        while self.position < offset and (self._lines or self._fill(at_once=True)):
            skipped = min(offset - self.position, len(self._lines))
            del self._lines[len(self._lines) - skipped :]
            self.position += skipped
        if self.position < offset:
            raise ValueError(
                f"the file has {self.position} lines, but line {offset} was to come next: it was replaced or cut"
            )

    def close(self) -> None:
        self._file.close()

    def _fill(self, at_once: bool = False) -> bool:
        """Read on until at least one line is whole; False at the end. `at_once`: a last line without newline is whole too."""
        while block := self._file.read(_BLOCK_BYTES):
            self._bytes_read += len(block)
            self._quiet_since, self.at_end = None, False
            lines = (self._partial + block).split(b"\n")
            self._partial = lines.pop()
            if len(self._partial) > self._max:  # of an endless line only its beginning is kept
                self._partial = self._partial[: self._max + 1]
            if self._handed_out_partial and lines:
                del lines[0]  # the rest of a line that was taken for whole
                self._handed_out_partial = False
            if lines:
                self._lines = lines[::-1]
                return True
        return self._end_of_file(at_once)

    def _end_of_file(self, at_once: bool) -> bool:
        if self._settle_seconds is not None and os.fstat(self._file.fileno()).st_size < self._bytes_read:
            raise ValueError("the file has become shorter: it was replaced or cut")
        if self._handed_out_partial:
            self._partial = b""
        if not self._partial:
            self.at_end = True
            return False
        now = time.monotonic()
        self._quiet_since = now if self._quiet_since is None else self._quiet_since
        if not at_once and self._settle_seconds and now - self._quiet_since < self._settle_seconds:
            return False
        self._lines, self._partial = [self._partial], b""
        self._handed_out_partial = self.at_end = True
        return True


class _TableReader:
    """The events of one table."""

    def __init__(self, blocks: Iterable[Sequence[bytes]]) -> None:
        self._blocks: Iterator[Sequence[bytes]] = iter(blocks)
        self._block: Sequence[bytes] = ()
        self.position = 0
        self.at_end = False

    def read(self, max_records: int) -> tuple[list[int], list[bytes | None]]:
        values: list[bytes | None] = []
        while len(values) < max_records and self._next_block():
            taken = self._block[: max_records - len(values)]
            values.extend(taken)
            self._block = self._block[len(taken) :]
        start, self.position = self.position, self.position + len(values)
        return list(range(start, self.position)), values

    def skip_to(self, offset: int) -> None:
        """Raises ValueError when the table has fewer events."""
        while self.position < offset:
            if not self.read(min(offset - self.position, 10_000))[0]:
                raise ValueError(
                    f"the table has {self.position} events, but event {offset} was to come next: it was replaced"
                )

    def close(self) -> None:
        self._blocks = iter(())

    def _next_block(self) -> bool:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                self.at_end = True
                return False
            self._block = block
        return True
