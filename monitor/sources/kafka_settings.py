"""How to reach a Kafka broker: the settings of the source, and what the client is told because of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from monitor.errors import UserError
from monitor.sources.kafka_bounds import MAX_BATCH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """How to reach a broker that is not open. SASL needs `mechanism`, `username` and `password`; files are PEM."""

    protocol: str = "PLAINTEXT"  # PLAINTEXT | SSL | SASL_SSL
    mechanism: str | None = None  # PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None

    def __repr__(self) -> str:
        return f"KafkaSecurity(protocol={self.protocol!r}, mechanism={self.mechanism!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """`start` is "earliest", "latest" or a time in ms UTC, for partitions the store does not know. `keys`: hand out record keys too."""

    bootstrap_servers: tuple[str, ...]
    group_id: str
    topics: tuple[str, ...]
    start: str | int = "earliest"
    session_timeout_ms: int = 10_000
    connect_timeout_ms: int = 10_000
    security: KafkaSecurity = KafkaSecurity()
    keys: bool = False
    max_batch_bytes: int = MAX_BATCH_BYTES
    max_fetch_bytes: int = (
        16 * 1024 * 1024
    )  # what one answer of one broker may hold; it is the bound on what waits here


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What KafkaConsumer is made with. Raises UserError where a password would cross the network in the clear, or a setting is missing."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": "driftline",
        "group_id": settings.group_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": max(1, min(3_000, settings.session_timeout_ms // 3)),
        "bootstrap_timeout_ms": settings.connect_timeout_ms,
        "metadata_max_age_ms": 60_000,
        "reconnect_backoff_max_ms": 2_000,
        "fetch_max_bytes": settings.max_fetch_bytes,
        "metrics_enabled": False,
    }
    return options | _security_options(settings.security)


def _security_options(security: KafkaSecurity) -> dict[str, Any]:
    """Raises UserError where a password would cross the network in the clear, or a setting is missing."""
    protocol = security.protocol
    if protocol == "SASL_PLAINTEXT":
        raise UserError("security.protocol: SASL_PLAINTEXT sends the password in the clear (use SASL_SSL)")
    if protocol not in ("PLAINTEXT", "SSL", "SASL_SSL"):
        raise UserError(f"security.protocol: {protocol} is not known (use PLAINTEXT, SSL or SASL_SSL)")
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol != "PLAINTEXT":
        options |= {"ssl_cafile": security.ca_file, "ssl_certfile": security.certificate_file}
        options |= {"ssl_keyfile": security.key_file, "ssl_password": security.key_password}
        for path in (security.ca_file, security.certificate_file, security.key_file):
            _require_readable(path)
    if protocol == "SASL_SSL":
        if security.mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise UserError(
                f"security.mechanism: {security.mechanism} is not known (use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512)"
            )
        if security.username is None or security.password is None:
            raise UserError("security: SASL_SSL needs `username` and `password`")
        options |= {"sasl_mechanism": security.mechanism}
        options |= {"sasl_plain_username": security.username, "sasl_plain_password": security.password}
    return options


def _require_readable(path: str | None) -> None:
    if path is not None:
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise UserError(f"security: {path}: {error.strerror}") from error
