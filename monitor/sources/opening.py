"""From a configured source to a running one. Each kind's client is imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from monitor.config.types import Config, FileSource, KafkaSource, SourceConfig
from monitor.errors import TransientError, UserError
from monitor.ports import Source


def open_source(name: str, source: SourceConfig, config: Config, *, follow: bool = True) -> Source:
    """Raises UserError where the source cannot be used as it is configured, also for a broker that does not answer at start-up.

    `follow` False: files end where they end now.
    """
    if isinstance(source, FileSource):
        from monitor.sources.file import FileSource as Files

        read_table = _table_reader(source, config) if source.format == "table" else None
        return Files(source.paths, name, read_table=read_table, follow=follow)
    if isinstance(source, KafkaSource):
        return _kafka(name, source)
    raise UserError(
        f"sources.{name}: a memory source lives inside one process (the demo and tests use it; choose kafka or file)"
    )


def never_grows(source: SourceConfig | None, path: str) -> bool:
    """Whether what the source reads there is whole from the beginning: a table, or a compressed file. Plain files are followed."""
    return isinstance(source, FileSource) and (source.format == "table" or Path(path).suffix == ".gz")


def _table_reader(source: FileSource, config: Config) -> Callable[[Path], Iterable[Sequence[bytes]]]:
    from monitor.tables.events import table_events

    assert source.model is not None
    model = config.models[source.model]
    return lambda path: table_events(str(path), model, columns=source.columns)


def _kafka(name: str, source: KafkaSource) -> Source:
    from monitor.sources.kafka import KafkaSecurity, KafkaSettings
    from monitor.sources.kafka import KafkaSource as Consumer

    security = source.security
    settings = KafkaSettings(
        bootstrap_servers=source.bootstrap_servers,
        group_id=source.group_id,
        topics=tuple(source.topics),
        start=source.start,
        session_timeout_ms=source.session_timeout_ms,
        keys=source.tombstone is not None,
        security=KafkaSecurity(
            protocol=security.protocol,
            mechanism=security.mechanism,
            username=security.username,
            password=security.password.reveal() if security.password is not None else None,
            ca_file=security.ca_file,
        ),
    )
    try:
        return Consumer(settings, name)
    except TransientError as error:
        raise UserError(
            f"sources.{name}: {error} (is sources.{name}.kafka.bootstrap_servers right, and the broker up?)"
        ) from error
