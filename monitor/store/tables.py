"""The tables, as the newest migration leaves them (a test compares the two).

Times are BigInteger ms UTC. Columns bear the names of the record fields they fill. Locks are taken in this order everywhere:
model_state, source_partition, counter, pane, state, join_layout, outcome_join, performance_pane, performance_state, turn, outbox,
retraining, alert, the rest; within a table in key order. Of `turn` a closer takes `retraining` at most, telling and people `telling`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _int_key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _serial(name: str) -> Column[int]:
    # Only an INTEGER PRIMARY KEY counts up by itself in SQLite.
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _bool(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _flag(name: str) -> Column[bool]:
    """False where nothing is said: of a column that came later."""
    return Column(name, Boolean, nullable=False, server_default=false())


def _blob(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


counter = Table("counter", metadata, _key("name"), _int("value"))
REFERENCE_GENERATION = "reference_generation"

source_partition = Table(
    "source_partition",
    metadata,
    _key("source_group"),
    _key("topic"),
    _int_key("partition"),
    _text("owner", null=True),
    _int("epoch"),
    _int("next_offset", null=True),
    _int("newest_ms", null=True),
    _int("newest_read_ms", null=True),
    _int("caught_up_ms", null=True),
    _bool("outcomes_seen"),
    _text("halted", null=True),
    _int("renewed_at_ms"),
)

model_clock = Table(
    "model_clock",
    metadata,
    _key("source_group"),
    _key("topic"),
    _int_key("partition"),
    _key("model"),
    _int("newest_ms"),
    _int("read_ms"),
)

model_state = Table(
    "model_state",
    metadata,
    _key("model"),
    _int("frontier_ms", null=True),
    _int("first_pane_ms", null=True),
    _int("final_before_ms", null=True),  # panes that appear below this are final at birth
)

pane = Table(
    "pane",
    metadata,
    _key("model"),
    _int_key("start_ms"),
    _text("status"),  # open | final
    _bool("dirty"),
    _int("late_rows"),
    _int("checkpoints"),  # that touched it; 1 tells the one that made it
    _int("written_at_ms"),
    Index(None, "model", "start_ms", sqlite_where=text("status = 'open'"), postgresql_where=text("status = 'open'")),
)
OPEN, FINAL = "open", "final"
IS_OPEN = pane.c.status == literal_column("'open'")  # a bound parameter would not let the planner use the partial index

state = Table(
    "state",
    metadata,
    _key("model"),
    _int_key("start_ms"),
    _key("version"),
    _key("reference"),
    _key("writer"),
    _int("rows"),
    _blob("profile"),
)

windows = Table(
    "windows",
    metadata,
    _serial("decided"),
    _text("id"),
    _text("model"),
    _text("version"),
    _text("monitor"),
    _text("segment", null=True),
    _int("start_ms"),
    _int("end_ms"),
    _text("state"),
    _text("status"),
    _int("revision"),
    _bool("newest"),
    _int("rows"),
    _text("digest"),
    _text("reference"),
    _bool("inherited"),
    _blob("findings"),
    _text("marks"),
    _int("run"),
    _bool("withdrawn"),
    _int("recorded_at_ms"),
    UniqueConstraint("id", "revision"),
    Index(None, "model", "start_ms"),
    Index(None, "model", "version", "monitor", "end_ms"),
    sqlite_autoincrement=True,
)

# The distinct (model, version, monitor) of `windows`, so that the newest window of each is found without reading them all.
track = Table("track", metadata, _key("model"), _key("version"), _key("monitor"))

alert = Table(
    "alert",
    metadata,
    _serial("seq"),
    _text("id"),
    _text("fingerprint"),
    _text("incident"),
    _text("model"),
    _text("version"),
    _text("segment", null=True),
    _text("monitor"),
    _text("subject"),
    _text("check"),
    _text("severity"),
    _text("status"),
    _bool("corrected"),
    _int("at_ms"),
    _int("starts_at_ms"),
    _int("ends_at_ms", null=True),
    _text("window"),
    _text("reason"),
    _text("text"),
    _int("recorded_at_ms"),
    _flag("stale"),
    _flag("pending"),  # nobody has been told yet: the next turn of telling takes it
    _flag("newest"),  # of the transitions of its id
    Index(None, "id", "seq"),
    Index(None, "model", "fingerprint"),
    Index(
        "ix_alert_firing",
        "seq",
        sqlite_where=text("newest = 1 AND status = 'firing'"),
        postgresql_where=text("newest AND status = 'firing'"),
    ),
    Index("ix_alert_pending", "seq", sqlite_where=text("pending = 1"), postgresql_where=text("pending")),
    sqlite_autoincrement=True,
)
IS_FIRING = alert.c.newest & (alert.c.status == literal_column("'firing'"))  # as its index has it

alert_state = Table("alert_state", metadata, _key("fingerprint"), _text("model"), _text("body"), Index(None, "model"))

# Whoever has locked a row here has its turn, over all workers; the rows never change.
turn = Table("turn", metadata, _key("name"))
TELLING, RETRAINING = "telling", "retraining"

# What telling keeps from one turn to the next: groups, and in alert_desk by name what is not of one group.
alert_group = Table("alert_group", metadata, _key("key"), _text("body"), _int("look_ms", null=True))
alert_desk = Table("alert_desk", metadata, _key("name"), _text("body"), _int("look_ms", null=True))
LINKS, STORMS = "links", "storms"

# What became of an alert at a receiver; the newest record takes the place of older ones.
alert_told = Table(
    "alert_told", metadata, _key("alert"), _key("receiver"), _text("outcome"), _text("detail"), _int("at_ms"),
    Index(None, "receiver", "outcome"),
)  # fmt: skip

page = Table("page", metadata, _key("incident"), _key("model"), _int("at_ms"))

# Where a receiver has its first message of an incident.
post = Table("post", metadata, _key("receiver"), _key("incident"), _text("channel"), _text("ts"), _int("at_ms"))

silence = Table("silence", metadata, _key("id"), _text("body"), _int("ends_ms"))

acknowledgement = Table(
    "acknowledgement",
    metadata,
    _serial("seq"),
    _text("alert"),
    _text("who"),
    _int("at_ms"),
    _text("severity"),
    _text("verdict", null=True),
    _text("comment"),
    Index(None, "alert", "seq"),
    sqlite_autoincrement=True,
)

act = Table(
    "act", metadata, _serial("seq"), _int("at_ms"), _text("who"), _text("act"), _text("subject"), _text("detail"),
    sqlite_autoincrement=True,
)  # fmt: skip

outbox = Table(
    "outbox",
    metadata,
    _serial("seq"),
    _text("id"),
    _text("kind"),
    _text("receiver"),
    _text("ordering_key"),
    _blob("body"),
    _int("created_at_ms"),
    _int("next_attempt_at_ms"),
    _int("expires_at_ms"),
    _int("attempts"),
    _text("status"),
    _text("last_error", null=True),
    _text("lease_owner", null=True),
    _int("leased_until_ms"),
    UniqueConstraint("id"),
    Index(None, "status", "receiver", "ordering_key", "seq"),
    sqlite_autoincrement=True,
)

retraining = Table(
    "retraining",
    metadata,
    _key("id"),
    _text("model"),
    _text("version"),
    _text("target"),
    _text("status"),
    _text("mode"),
    _text("reason"),
    _int("at_ms"),
    _int("recorded_at_ms"),
    _text("detail"),
    Index(None, "model"),
)

retraining_step = Table(
    "retraining_step", metadata, _serial("seq"), _text("request"), _text("status"), _text("told"), _int("at_ms"),
    Index(None, "request", "seq"), sqlite_autoincrement=True,
)  # fmt: skip

# The kill switch: whose retraining is paused; model "" is all of them.
retraining_pause = Table("retraining_pause", metadata, _key("model"), _text("who"), _int("at_ms"), _text("why"))

reference = Table(
    "reference",
    metadata,
    _serial("seq"),
    _text("hash"),
    _text("model"),
    _text("version"),
    _int("effective_from_ms"),
    _blob("payload"),
    _text("source_path"),
    _text("source_sha256"),
    _text("settings"),
    _int("rows"),
    _text("warnings"),
    _int("recorded_at_ms"),
    Index(None, "model", "version"),
    sqlite_autoincrement=True,
)

quarantine = Table(
    "quarantine",
    metadata,
    _serial("seq"),
    _text("source"),
    _text("topic"),
    _int("partition"),
    _int("offset"),
    _text("reason"),
    _text("detail"),
    _int("recorded_at_ms"),
    Index(None, "recorded_at_ms"),
    sqlite_autoincrement=True,
)

gap = Table(
    "gap",
    metadata,
    _serial("seq"),
    _text("source"),
    _text("topic"),
    _int("partition"),
    _int("from_offset"),
    _int("to_offset"),
    _text("reason"),
    _int("recorded_at_ms"),
    sqlite_autoincrement=True,
)

unconfigured = Table("unconfigured", metadata, _key("source_group"), _key("model"), _int("records"))

# Small numbers for what prediction records belong to; (model, "", "") stands for the model itself.
join_layout = Table(
    "join_layout", metadata, _serial("code"), _text("model"), _text("version"), _text("reference"),
    UniqueConstraint("model", "version", "reference"),
)  # fmt: skip

# PostgreSQL: a row for each (model, prediction id), by its hash. Empty on SQLite, where rows in random places cost ten times the writing.
outcome_join = Table(
    "outcome_join",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("model", Integer, nullable=False),  # a code of join_layout
    _blob("predictions", null=True),
    _blob("outcomes", null=True),
    Column("had", SmallInteger, nullable=False),  # before the last statement: 0 no row, + 1 predictions, + 2 outcomes
    _int("expires_ms"),
    postgresql_with={"fillfactor": 85},
)

# SQLite: the same as a log. What a (model, prediction id) holds is the sum of its rows here, which outcome_run finds. Empty on PostgreSQL.
outcome_log = Table(
    "outcome_log",
    metadata,
    _serial("seq"),
    _blob("key"),
    Column("model", Integer, nullable=False),
    _blob("predictions", null=True),
    _blob("outcomes", null=True),
    _int("expires_ms"),
)
outcome_run = Table(
    "outcome_run",
    metadata,
    _serial("run"),
    _int("rows"),
    _int("first_seq"),
    _blob("heads"),  # u32[rows], rising: the first four bytes of the keys
    _blob("places"),  # u32[rows]: their seq - first_seq
    sqlite_autoincrement=True,
)

outcome_clock = Table(
    "outcome_clock",
    metadata,
    _key("source_group"),
    _key("topic"),
    _int_key("partition"),
    _key("model"),
    _int("newest_ms"),
    _int("read_ms"),
)

performance_pane = Table(
    "performance_pane",
    metadata,
    _key("model"),
    _key("kind"),  # pane (of the prediction) | arrival (of the outcome)
    _int_key("start_ms"),
    _text("status"),  # open | final (one row a profile; may be opened again) | pruned (forgotten: takes nothing more)
    _bool("dirty"),
    _int("written_at_ms"),
    Index(None, "model", "kind", "start_ms", sqlite_where=text("dirty = 1"), postgresql_where=text("dirty")),
)
PRUNED = "pruned"

performance_state = Table(
    "performance_state",
    metadata,
    _key("model"),
    _key("kind"),
    _int_key("start_ms"),
    _key("version"),
    _key("reference"),
    _key("segment"),
    _key("writer"),
    _int("rows"),
    _blob("profile"),
)

# The state of a concept detector after the arrival pane that starts then.
detector_state = Table(
    "detector_state",
    metadata,
    _key("model"),
    _key("version"),
    _key("segment"),
    _key("detector"),
    _int_key("start_ms"),
    _text("body"),
)
