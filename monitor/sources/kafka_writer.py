"""Writing to a topic: only the demo does it, so that a user can watch it in a real broker."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from monitor.errors import UserError


class TopicWriter:
    """Creates the topic and appends to its partitions. Raises UserError where the broker does not answer or refuses."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        self._topic = topic
        try:
            admin: Any = KafkaAdminClient(bootstrap_servers=[address], request_timeout_ms=10_000)
            admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])
            admin.close()
            self._producer: Any = KafkaProducer(bootstrap_servers=[address], compression_type="lz4", linger_ms=20)
        except KafkaError as error:
            raise UserError(f"--kafka {address}: {type(error).__name__}: {error} (is the broker up?)") from error

    def send(self, value: bytes, partition: int) -> None:
        self._producer.send(self._topic, value=value, partition=partition)

    def flush(self) -> None:
        """Return when the broker has everything that was sent."""
        self._producer.flush(timeout=60)

    def close(self) -> None:
        self._producer.close()
