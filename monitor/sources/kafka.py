"""Kafka through kafka-python: a group member that only moves records; offsets live in the store.

Nothing of the client's is trusted with our guarantees: auto-commit is off, commits are a courtesy, a rebalance only queues events, and
an unknown offset never moves by itself. The read path is monitor/sources/kafka_records.py.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import kafka.record.util
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as ke
from kafka.structs import OffsetAndMetadata

from monitor.errors import TransientError, UserError
from monitor.ports import Assigned, Halted, PartitionId, RecordChunk, Revoked, SourceEvent, Truncated
from monitor.sources.kafka_bounds import bound_legacy_formats
from monitor.sources.kafka_records import (
    REFUSED,
    UNTRUSTED,
    BatchFetcher,
    Failure,
    LargeReadClient,
    finish_started_joins,
)
from monitor.sources.kafka_settings import KafkaSecurity, KafkaSettings, client_options

__all__ = ["KafkaSecurity", "KafkaSettings", "KafkaSource"]

_ANSWER_TIMEOUT_MS = 10_000
_CLOSE_TIMEOUT_MS = 5_000
_FRESH_SECONDS = 5.0  # an answer older than this proves nothing about the end of a partition
_ATTEMPTS = 3  # a checksum error may be a bad cable: fetched again before the partition halts
_MAX_RECREATIONS = 10
_RECREATION_WINDOW_SECONDS = 600.0

_MAYBE_PASSING = (ke.CorruptRecordError, ke.UnknownError, ke.OffsetOutOfRangeError)


class KafkaSource:
    """One member of a consumer group. See monitor.ports.Source.

    The constructor connects: TransientError when no broker answers within `connect_timeout_ms`, UserError when one refuses us or a topic does not exist.
    While brokers are away after that, `poll` returns nothing and `caught_up` is False; the client reconnects by itself.
    """

    leased = False

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self.name = name
        self._settings = settings
        _require_fast_checksums()
        self._options = client_options(settings)
        bound_legacy_formats(settings.max_batch_bytes)
        logging.getLogger("kafka").addHandler(
            logging.NullHandler()
        )  # otherwise its warnings reach stderr where nobody set up logging
        self._events: deque[SourceEvent] = deque()
        self._active: dict[TopicPartition, dict[Any, int]] = {}  # resumed -> answers so far of each node at that moment
        self._halted: set[TopicPartition] = set()
        self._attempts: dict[tuple[TopicPartition, int], int] = {}
        self._recreations: deque[float] = deque(maxlen=_MAX_RECREATIONS)
        self._consumer: Any = None
        self._fetcher: BatchFetcher
        self._open()

    # --- reading

    def poll(self, max_records: int, timeout_seconds: float) -> list[RecordChunk]:
        """See the port. Raises TransientError when the consumer was lost and could not be made anew."""
        if self._consumer is None:
            self._open()
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout_seconds * 1000), max_records=max(1, max_records))
        except ke.LogTruncationError as error:
            for tp in error.divergent_offsets:
                self._halt(
                    tp,
                    self._position(tp) or 0,
                    "its log was cut back behind what we have read (unclean leader election)",
                )
            polled = {}
        except REFUSED as error:
            self._refused(error)
        except ke.RetriableError as error:
            raise TransientError(f"source {self.name}: Kafka at {self._address}: {_text(error)}") from error
        except ke.KafkaError as error:  # the coordinator will not have this member any more
            self._lose(error)
            polled = {}
        self._settle_failures()
        keys = self._settings.keys
        return [
            RecordChunk(
                partition=PartitionId(*tp),
                offsets=taken.offsets,
                values=taken.values,
                timestamps_ms=taken.timestamps_ms if min(taken.timestamps_ms) >= 0 else None,
                keys=taken.keys if keys else None,
            )
            for tp, batches in polled.items()
            for taken in batches
        ]

    def events(self) -> list[SourceEvent]:
        """See the port."""
        drained: list[SourceEvent] = []
        while self._events:  # the client's I/O thread may append meanwhile
            event = self._events.popleft()
            if isinstance(event, Assigned | Revoked):
                for tp in map(_tp, event.partitions):
                    self._active.pop(tp, None)
                    self._halted.discard(tp)
            drained.append(event)
        return drained

    def caught_up(self, partition: PartitionId) -> bool:
        """See the port. Two answers of the leader since `resume`, the last one not older than 5 s, and nothing left of what it told."""
        tp = _tp(partition)
        asked, end, position = self._active.get(tp), self._fetcher.ends.get(tp), self._position(tp)
        if asked is None or end is None or position is None or self._consumer is None:
            return False
        node = self._consumer._cluster.leader_for_partition(tp)
        answered = self._fetcher.answered.get(node)
        if answered is None or time.monotonic() - answered > _FRESH_SECONDS:
            return False
        # the first answer after `resume` may be to a question asked before it
        return position >= end and self._fetcher.answers[node] >= asked.get(node, 0) + 2

    def position(self, partition: PartitionId) -> int | None:
        """The next offset to be handed out, past markers and aborted records; None when it is not ours."""
        return self._position(_tp(partition))

    def explained_hole(self, partition: PartitionId, from_offset: int, to_offset: int) -> bool:
        """True when the broker's own batches, read without a break, show that [from_offset, to_offset) holds no more records than we gave.

        Transaction markers, aborted transactions and compaction make such holes. False means the client has jumped: records may be lost.
        """
        tp = _tp(partition)
        start, position = self._fetcher.covered_from.get(tp), self._position(tp)
        return start is not None and position is not None and start <= from_offset and to_offset <= position

    # --- steering

    def seek(self, partition: PartitionId, offset: int) -> None:
        """Go on at `offset`, also behind a halt. Nothing happens for a partition that is no longer ours."""
        tp = _tp(partition)
        with self._tolerating_loss():
            self._consumer.seek(tp, offset)
            self._fetcher.forget(tp)
            self._halted.discard(tp)

    def resume(self, partition: PartitionId) -> None:
        """Start handing out; a halted partition stays halted until it is sought."""
        tp = _tp(partition)
        if tp in self._halted:
            return
        with self._tolerating_loss():
            self._consumer.resume(tp)
            self._active.setdefault(tp, dict(self._fetcher.answers))

    def pause(self, partition: PartitionId) -> None:
        """Stop handing out; the position stays."""
        tp = _tp(partition)
        self._active.pop(tp, None)
        with self._tolerating_loss():
            self._consumer.pause(tp)

    def courtesy_commit(self, offsets: Mapping[PartitionId, int]) -> None:
        """See the port. Only for partitions that are ours; not waited for."""
        with contextlib.suppress(Exception):
            ours = self._consumer.assignment()
            wanted = {tp: OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items() if (tp := _tp(p)) in ours}
            if wanted:
                self._consumer.commit_async(wanted, callback=lambda _offsets, _response: None)

    def close(self) -> None:
        """See the port. At most 5 s."""
        consumer, self._consumer = self._consumer, None
        self._active.clear()
        if consumer is not None:
            with contextlib.suppress(Exception):
                consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)

    # --- asking

    def partitions(self) -> Mapping[str, int]:
        """See the port. Metadata is at most a minute old."""
        if self._consumer is None:
            return {}
        cluster = self._consumer._cluster
        return {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in self._settings.topics}

    def start_offset(self, partition: PartitionId) -> int:
        """See the port. A start time after the last record means the end."""
        tp, start = _tp(partition), self._settings.start
        with self._asking():
            if start == "earliest":
                return int(self._consumer.beginning_offsets([tp])[tp])
            if isinstance(start, int):
                found = self._consumer.offsets_for_times({tp: start}, timeout_ms=_ANSWER_TIMEOUT_MS)[tp]
                if found is not None:
                    return int(found.offset)
            return int(self._consumer.end_offsets([tp], timeout_ms=_ANSWER_TIMEOUT_MS)[tp])

    def end_offsets(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
        """See the port: the last stable offset. Raises TransientError when a leader does not answer within 10 s."""
        if not partitions:
            return {}
        with self._asking():
            found = self._consumer.end_offsets([_tp(p) for p in partitions], timeout_ms=_ANSWER_TIMEOUT_MS)
        return {p: int(found[_tp(p)]) for p in partitions}

    # --- inside

    def _open(self) -> None:
        clients: list[LargeReadClient] = []

        def new_client(**configs: Any) -> LargeReadClient:
            clients.append(LargeReadClient(**configs))
            return clients[-1]

        try:
            consumer = KafkaConsumer(kafka_client=new_client, **self._options)
        except (ke.KafkaError, OSError) as error:
            for client in clients:  # the failed constructor leaves its thread and sockets behind
                client.close()
            if isinstance(error, REFUSED):
                self._refused(error)
            self._unreachable(error.__cause__ or error)
        try:
            self._fetcher = BatchFetcher(
                consumer._client, consumer._subscription, limit_bytes=self._settings.max_batch_bytes, **consumer.config
            )
            consumer._fetcher = self._fetcher
            finish_started_joins(consumer._coordinator)
            self._update_metadata(consumer, consumer._cluster.set_topics(self._settings.topics))
            self._require_topics(consumer._cluster)
            consumer.subscribe(list(self._settings.topics), listener=_Listener(consumer, self._fetcher, self._events))
            # once more: the group's leader compares its assignment with the metadata since `subscribe`, and would deal again at once
            self._update_metadata(consumer, consumer._cluster.request_update())
        except BaseException:
            consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)
            raise
        self._consumer = consumer

    def _update_metadata(self, consumer: Any, update: Any) -> None:
        try:
            with contextlib.suppress(
                ke.BrokerResponseError
            ):  # a single unknown topic fails the update: told by its name below
                consumer._net.run(consumer._manager.wait_for, update, _ANSWER_TIMEOUT_MS)
        except ke.KafkaError as error:
            self._unreachable(error)

    def _require_topics(self, cluster: Any) -> None:
        for topic in self._settings.topics:
            where = f"topic {topic} on Kafka at {self._address}"
            if topic in cluster.unauthorized_topics:
                raise UserError(f"source {self.name}: {where}: not authorised (grant the user Describe and Read on it)")
            if cluster.partitions_for_topic(topic) is None:
                raise UserError(f"source {self.name}: {where} does not exist (create it, or mend `topics`)")

    def _settle_failures(self) -> None:
        while self._fetcher.failures:
            failure = self._fetcher.failures.popleft()
            if self._position(failure.partition) != failure.offset:
                continue  # a rebalance came between
            key = (failure.partition, failure.offset)
            if isinstance(failure.error, _MAYBE_PASSING):
                self._attempts[key] = self._attempts.get(key, 0) + 1
                deleted = isinstance(failure.error, ke.OffsetOutOfRangeError) and self._skip_deleted(failure)
                if deleted or self._attempts[key] < _ATTEMPTS:
                    if failure.partition in self._active:
                        with self._tolerating_loss():
                            self._consumer.resume(failure.partition)
                    continue
            self._attempts = {k: n for k, n in self._attempts.items() if k[0] != failure.partition}
            self._halt(failure.partition, failure.offset, _text(failure.error))

    def _skip_deleted(self, failure: Failure) -> bool:
        """Retention was faster than we: go on at the log's start. Not when the offset lies beyond the end: then the log is another one."""
        tp, wanted, _ = failure
        try:
            start = int(self._consumer.beginning_offsets([tp])[tp])
        except ke.KafkaError:
            return True  # asked again with the next fetch
        if wanted >= start:
            return False
        with self._tolerating_loss():
            self._consumer.seek(tp, start)
            self._fetcher.forget(tp)
            self._events.append(Truncated(PartitionId(*tp), wanted, start))
        return True

    def _halt(self, tp: TopicPartition, offset: int, reason: str) -> None:
        self.pause(PartitionId(*tp))
        self._halted.add(tp)
        self._events.append(Halted(PartitionId(*tp), offset, reason))

    def _lose(self, error: Exception) -> None:
        """Drop the consumer; the next `poll` makes a new one. Raises TransientError when that happens too often."""
        now = time.monotonic()
        ours = frozenset(PartitionId(*tp) for tp in self._consumer.assignment())
        self.close()
        self._events.clear()
        self._events.append(Revoked(ours))
        often = len(self._recreations) == _MAX_RECREATIONS and now - self._recreations[0] < _RECREATION_WINDOW_SECONDS
        self._recreations.append(now)
        if often:
            raise TransientError(
                f"source {self.name}: Kafka at {self._address} refuses the consumer again and again: {_text(error)}"
            ) from error

    def _position(self, tp: TopicPartition) -> int | None:
        state = self._consumer._subscription.assignment.get(tp) if self._consumer is not None else None
        return int(state.position.offset) if state is not None and state.position is not None else None

    def _tolerating_loss(self) -> contextlib.AbstractContextManager[None]:
        """A rebalance may have taken the partition a moment ago (that is told by `events`), or the whole consumer is being made anew."""
        return (
            contextlib.suppress(KeyError, ValueError)
            if self._consumer is not None
            else contextlib.suppress(AttributeError)
        )

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        if self._consumer is None:
            raise TransientError(f"source {self.name}: not connected to Kafka at {self._address}")
        try:
            yield
        except REFUSED as error:
            self._refused(error)
        except ke.KafkaError as error:
            raise TransientError(
                f"source {self.name}: Kafka at {self._address} does not answer: {_text(error)}"
            ) from error

    @property
    def _address(self) -> str:
        return ",".join(self._settings.bootstrap_servers)

    def _unreachable(self, error: BaseException) -> NoReturn:
        if UNTRUSTED in str(error):
            raise UserError(
                f"source {self.name}: the certificate of Kafka at {self._address} is not trusted: {_text(error)} (set `ca_file`)"
            ) from error
        raise TransientError(
            f"source {self.name}: no Kafka broker reachable at {self._address}: {_text(error)}"
        ) from error

    def _refused(self, error: Exception) -> NoReturn:
        fix = next((text for kind, text in _FIXES if isinstance(error, kind)), "mend the source's settings")
        raise UserError(f"source {self.name}: Kafka at {self._address} refuses us: {_text(error)} ({fix})") from error


_FIXES: tuple[tuple[type[Exception], str], ...] = (
    (ke.SaslAuthenticationFailedError, "check `security.username` and `security.password`"),
    (ke.UnsupportedSaslMechanismError, "set `security.mechanism` to one that the broker has"),
    (ke.GroupAuthorizationFailedError, "grant the user Read on the group"),
    (ke.TopicAuthorizationFailedError, "grant the user Describe and Read on the topics"),
    (ke.InvalidSessionTimeoutError, "set `session_timeout` within the broker's group.min/max.session.timeout.ms"),
    (ke.InconsistentGroupProtocolError, "set `group_id` to one that no other program uses"),
)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the client's I/O thread: queues what happened and does nothing else. An exception here would lose offsets silently."""

    def __init__(self, consumer: Any, fetcher: BatchFetcher, events: deque[SourceEvent]) -> None:
        self._subscription, self._fetcher, self._events = consumer._subscription, fetcher, events

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        for tp in assigned:
            self._subscription.pause(tp)
            self._subscription.seek(
                tp, 0
            )  # any position will do while it is paused; without one the client asks for the group's own
            self._fetcher.forget(tp)
        if assigned:
            self._events.append(Assigned(frozenset(PartitionId(*tp) for tp in assigned)))

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            self._events.append(Revoked(frozenset(PartitionId(*tp) for tp in revoked)))


def _require_fast_checksums() -> None:
    if kafka.record.util.crc32c_c is None:
        raise UserError(
            "the Python package crc32c is missing: reading Kafka would be 14 times slower (pip install crc32c)"
        )


def _tp(partition: PartitionId) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {text}" if text and type(error).__name__ not in text else text or type(error).__name__
    )
