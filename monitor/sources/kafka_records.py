"""kafka-python's fetch path, taken over at its narrowest point: one list of values per batch instead of one object per record.

How a batch is read is in monitor/sources/kafka_batches.py. Everything around it (sessions, leaders, aborted transactions, positions) stays the
client's; tests/unit/sources/test_kafka_records.py fails when a new kafka-python moves what is relied on here.
"""

from __future__ import annotations

import ssl
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka import errors as ke
from kafka.consumer.fetcher import Fetcher
from kafka.errors import (
    CorruptRecordError,
    KafkaConnectionError,
    KafkaTimeoutError,
    RetriableError,
    TopicAuthorizationFailedError,
)
from kafka.future import Future
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import IsolationLevel
from kafka.structs import OffsetAndMetadata, TopicPartition

from monitor.sources.kafka_batches import Unpacked, unpack_batch, unpack_legacy
from monitor.sources.kafka_bounds import MAX_BATCH_BYTES

_CHUNK_BYTES = 16 * 1024 * 1024  # batches are put together into one chunk up to here
_READ_BYTES = 1024 * 1024
TURN_RECORDS = 256  # at least, before the next partition's turn
REFUSED = (
    ke.AuthorizationError, ke.SaslAuthenticationFailedError, ke.UnsupportedSaslMechanismError, ke.IllegalSaslStateError,
    ke.InvalidGroupIdError, ke.InvalidSessionTimeoutError, ke.InconsistentGroupProtocolError, ke.InvalidTopicError,
    ke.KafkaConfigurationError,
)  # fmt: skip
"""The broker answers, and waiting will not change its mind."""
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class Failure(NamedTuple):
    """What is wrong with one partition at one offset; the client itself would throw it at whoever polls, without saying where."""

    partition: TopicPartition
    offset: int
    error: Exception


# --- one fetched partition -------------------------------------------------------------------------------------------


def _columns(out: Unpacked, batch: Unpacked) -> Iterator[tuple[list[Any], list[Any]]]:
    return zip(out[:4], batch[:4], strict=True)


class BatchRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """A fetched partition whose iterator yields batches. Which batches are aborted or markers is decided by the inherited code."""

    limit_bytes = MAX_BATCH_BYTES
    next_fetch_offset: int
    _rest: Unpacked | None = None

    def take(self, n: int | None = None) -> list[Unpacked]:
        """At most one entry, of at most n records from as many batches as it takes; [] at the end. `next_fetch_offset` follows.

        An unreadable batch raises here, but only after all before it were taken.
        """
        self._maybe_raise_next_inline_exception()
        out = Unpacked([], [], [], [], 0)
        held, room = 0, n if n is not None else 1 << 62
        while room > 0 and held < _CHUNK_BYTES and (batch := self._next_batch(bool(out.offsets))) is not None:
            start = bisect_left(batch.offsets, self.next_fetch_offset)  # a fetch may begin inside a batch
            stop = min(start + room, len(batch.offsets))
            for mine, theirs in _columns(out, batch):
                mine.extend(theirs[start:stop])
            room -= stop - start
            if stop < len(batch.offsets):
                self._rest = batch
                self.next_fetch_offset = batch.offsets[stop - 1] + 1
            else:
                self.next_fetch_offset = max(batch.next_offset, self.next_fetch_offset)
                held += sum(map(len, filter(None, batch.values)))
            self.records_read += stop - start
        return [out._replace(next_offset=self.next_fetch_offset)] if out.offsets else []

    def _next_batch(self, something_taken: bool) -> Unpacked | None:
        if self._rest is not None:
            batch, self._rest = self._rest, None
            return batch
        try:
            return next(self.record_iterator, None) if self.record_iterator is not None else None
        except Exception as error:
            if not something_taken:
                raise
            self._next_inline_exception = error
            return None

    def _maybe_skip_record(self, _record: Unpacked) -> bool:
        return False  # `take` starts at the wanted offset itself

    def _unpack_records(self, _tp: TopicPartition, records: Any, *_deserializers: object) -> Iterator[Unpacked]:
        while (batch := records.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"the batch at offset {batch.base_offset} fails its checksum")
            self.bytes_read += batch.size_in_bytes if batch.magic == 2 else 0
            if batch.magic < 2:
                yield unpack_legacy(batch)
                continue
            self.leader_epoch = batch.leader_epoch
            if self._is_invisible(batch):
                self.next_fetch_offset = max(batch.next_offset, self.next_fetch_offset)
            else:
                yield unpack_batch(batch, self.limit_bytes)
        self.drain()

    def _is_invisible(self, batch: Any) -> bool:
        """True for a transaction marker and for records of an aborted transaction."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


class BatchFetcher(Fetcher):  # type: ignore[misc]
    """Keeps what is wrong with one partition to that partition, and remembers up to where the brokers said there is something to read."""

    def __init__(self, *args: Any, limit_bytes: int = MAX_BATCH_BYTES, **configs: Any) -> None:
        super().__init__(*args, **configs)
        self.PartitionRecords: Any = type("BoundedBatchRecords", (BatchRecords,), {"limit_bytes": limit_bytes})
        self.failures: deque[Failure] = deque(maxlen=10_000)
        self.ends: dict[TopicPartition, int] = {}
        self.answers: dict[Any, int] = {}  # node -> answers so far
        self.answered: dict[Any, float] = {}  # node -> monotonic seconds of the newest answer
        self.covered_from: dict[TopicPartition, int] = {}
        self._expected: dict[TopicPartition, int] = {}
        self._turn_records = TURN_RECORDS
        self._postponed: Exception | None = None

    def fetched_records(self, max_records: int, update_offsets: bool = True) -> tuple[dict[TopicPartition, Any], bool]:
        """As the stock one, but the partitions whose data is here take turns. A partition that is read alone for thousands of records runs days
        ahead of the others, and then a block of records belongs to dozens of panes. An error waits for the next call where records were taken:
        the positions are behind them already.
        """
        if self._postponed is not None:
            postponed, self._postponed = self._postponed, None
            raise postponed
        drained: dict[TopicPartition, Any] = {}
        partial, room = True, max_records
        self._turn_records = max(TURN_RECORDS, max_records // max(1, self._waiting()))
        while room > 0 and (partial or self._waiting()):
            try:
                taken, partial = super().fetched_records(room, update_offsets)
            except Exception as error:
                if not drained:
                    raise
                self._postponed = error
                break
            for partition, batches in taken.items():
                drained.setdefault(partition, []).extend(batches)
                room -= sum(len(unpacked.offsets) for unpacked in batches)
        return drained, partial

    def _waiting(self) -> int:
        """Of how many partitions there is data here that may be handed out."""
        parked = sum(not self._subscriptions.is_paused(partition) for partition in self._paused_partition_records)
        resumed = sum(not self._subscriptions.is_paused(partition) for partition in self._paused_completed_fetches)
        return parked + resumed + len(self._completed_fetches) + bool(self._next_partition_records)

    def forget(self, partition: TopicPartition) -> None:
        """The partition is new here, or sought: nothing known about it holds."""
        for known in (self.ends, self.covered_from, self._expected):
            known.pop(partition, None)

    def _handle_fetch_response(self, node_id: Any, fetch_offsets: Any, send_time: float, response: Any) -> None:
        # On the client's I/O thread. Written at arrival, not when parsed: data that waits here must count as not yet handed out.
        for topic in response.responses:
            for data in topic.partitions:
                if data.error_code == 0:
                    stable = data.last_stable_offset
                    end = stable if stable is not None and stable >= 0 else data.high_watermark
                    self.ends[TopicPartition(topic.topic, data.partition_index)] = end
        super()._handle_fetch_response(node_id, fetch_offsets, send_time, response)
        self.answers[node_id] = self.answers.get(node_id, 0) + 1
        self.answered[node_id] = time.monotonic()

    def _parse_fetched_data(self, completed_fetch: Any) -> Any:
        try:
            return super()._parse_fetched_data(completed_fetch)
        except (TopicAuthorizationFailedError, RetriableError):
            raise
        except Exception as error:  # noqa: BLE001  (whatever a codec's library throws concerns this partition only)
            self._fail(completed_fetch.topic_partition, completed_fetch.fetched_offset, error)
            return None

    def _fail(self, partition: TopicPartition, offset: int, error: Exception) -> None:
        """The partition waits until the source has decided; otherwise one `poll` would fetch the same offset a hundred times."""
        self.failures.append(Failure(partition, offset, error))
        self._subscriptions.pause(partition)

    def _append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        """One turn of a partition. What is left of it waits where the stock client keeps the data of paused partitions."""
        taken = self._take(drained, part, min(max_records, self._turn_records))
        self._next_partition_records = None
        if part:
            self._paused_partition_records[part.topic_partition] = part
        return taken

    def _take(self, drained: Any, part: Any, max_records: int) -> int:
        partition, start = part.topic_partition, part.next_fetch_offset
        state = self._subscriptions.assignment.get(partition)
        if not part or state is None or not state.is_fetchable() or state.position.offset != start:
            if part:
                part.drain()
            return 0
        try:
            taken = part.take(max_records)
        except Exception as error:  # noqa: BLE001  (as above)
            self._fail(partition, part.next_fetch_offset, error)
            taken = []
            part.drain()
        if self._expected.get(partition) != start:
            self.covered_from[partition] = start
        self._expected[partition] = part.next_fetch_offset
        drained[partition].extend(taken) if taken else None
        state.position = OffsetAndMetadata(part.next_fetch_offset, "", part.leader_epoch)
        return sum(len(unpacked.offsets) for unpacked in taken)


# --- the group -------------------------------------------------------------------------------------------------------


def finish_started_joins(coordinator: Any) -> None:
    """Let a join that outlasts one `poll` come to its end. kafka-python 3.0.12 loses it in two ways, both seen on a real broker:

    - It asks `need_rejoin` anew in each poll. When the leader joins because the metadata changed, its own assignment makes that reason
      vanish while the answer is under way; the revoked partitions then stay unreadable for ever, without an error.
    - A join that was answered between two polls is thrown away and sent again. From the leader that is a new rebalance for everybody,
      so that two members with short polls may chase each other for ever.
    """
    need_rejoin, join = coordinator.need_rejoin, coordinator.join_group_async

    async def join_group(timeout_ms: float | None = None) -> Any:
        task = coordinator._join_task
        if coordinator.rejoining and task is not None and task.is_done:
            coordinator._join_task = _Answered(task)
        return await join(timeout_ms)

    coordinator.need_rejoin = lambda: coordinator.rejoining or need_rejoin()
    coordinator.join_group_async = join_group


class _Answered:
    """A future that is done but does not say so before it is awaited."""

    is_done = False

    def __init__(self, future: Any) -> None:
        self._future = future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)

    def __await__(self) -> Any:
        return self._future.__await__()


# --- larger reads ----------------------------------------------------------------------------------------------------


class LargeReadClient(KafkaNetClient):  # type: ignore[misc]
    """The client's network layer with sockets read 1 MiB at a time: the stock one takes 4096 bytes a call and joins them."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=_LargeReadManager(net, **configs), **configs)


class _LargeReadManager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        # 3.0.12 does not pass the consumer's own setting on to its metadata requests, so that a misspelt topic would be created
        self.cluster.config["allow_auto_create_topics"] = False
        self._refused: Any = Future()
        self._connect_error: Exception | None = None

    async def _connect(self, node: Any, conn: Any, **options: Any) -> None:
        await super()._connect(node, conn, **options)
        error = conn.init_future.exception
        self._connect_error = error or self._connect_error
        if (isinstance(error, REFUSED) or UNTRUSTED in str(error)) and not self._refused.is_done:
            self._refused.failure(error)

    async def _do_bootstrap(self, deadline: float | None) -> Any:
        """The stock one tries a wrong password until its time-out, and tells only that; here a refusal ends it at once, with its reason."""
        attempt, first = self.call_soon(super()._do_bootstrap, deadline), Future()
        for future in (attempt, self._refused):
            future.add_both(lambda _: None if first.is_done else first.success(None))
        await first
        try:
            return await (self._refused if self._refused.is_done else attempt)
        except KafkaTimeoutError as error:
            raise error from self._connect_error

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        # what TLS has decrypted already would not wake the selector again, so TLS reads until nothing is left
        transport._sock_recv = lambda: _receive(transport._sock, once=not self.ssl_enabled)
        return transport


def _receive(sock: Any, *, once: bool) -> tuple[bytes, Exception | None]:
    """What came before the end of a connection counts: a broker says why it refuses us and hangs up. (The stock transport drops it.)"""
    parts: list[bytes] = []
    error: Exception | None = None
    while error is None and not (once and parts):
        try:
            data = sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            break
        except Exception as failed:  # noqa: BLE001  (as the stock transport: the connection ends, the client goes on)
            error = KafkaConnectionError(failed)
        else:
            parts.append(data)
            if not data:
                error = KafkaConnectionError("socket disconnected")
    received = parts[0] if len(parts) == 1 else b"".join(parts)
    return received, None if received else error  # the next read meets the end again
