"""Alerts on their way to people, what people do about them, and the steps of retraining requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _alert()
    _turn()
    _telling()
    _people()
    _retraining()


def _alert() -> None:
    """What is there was told by the program before this one."""
    for name in ("stale", "pending", "newest"):
        op.add_column("alert", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE alert SET newest = true WHERE seq IN (SELECT max(seq) FROM alert GROUP BY id)")
    # What fires is told once more: a group that has never heard of it could not tell its end.
    op.execute("UPDATE alert SET pending = true WHERE newest AND status = 'firing'")
    op.create_index(
        "ix_alert_firing",
        "alert",
        ["seq"],
        sqlite_where=sa.text("newest = 1 AND status = 'firing'"),
        postgresql_where=sa.text("newest AND status = 'firing'"),
    )
    op.create_index(
        "ix_alert_pending",
        "alert",
        ["seq"],
        sqlite_where=sa.text("pending = 1"),
        postgresql_where=sa.text("pending"),
    )


def _turn() -> None:
    op.create_table(
        "turn", sa.Column("name", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("name", name="pk_turn")
    )
    op.bulk_insert(sa.table("turn", sa.column("name", sa.Text)), [{"name": "telling"}, {"name": "retraining"}])


def _telling() -> None:
    op.create_table(
        "alert_group",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("look_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_alert_group"),
    )
    op.create_table(
        "alert_desk",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("look_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_alert_desk"),
    )
    op.create_table(
        "alert_told",
        sa.Column("alert", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert", "receiver", name="pk_alert_told"),
    )
    op.create_index("ix_alert_told_receiver_outcome", "alert_told", ["receiver", "outcome"])
    op.create_table(
        "page",
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incident", "model", name="pk_page"),
    )
    op.create_table(
        "post",
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("ts", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("receiver", "incident", name="pk_post"),
    )


def _people() -> None:
    op.create_table(
        "silence",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_silence"),
    )
    op.create_table(
        "acknowledgement",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("alert", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_acknowledgement"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_acknowledgement_alert_seq", "acknowledgement", ["alert", "seq"])
    op.create_table(
        "act",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_act"),
        sqlite_autoincrement=True,
    )


def _retraining() -> None:
    op.create_table(
        "retraining_step",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_retraining_step"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_retraining_step_request_seq", "retraining_step", ["request", "seq"])
    op.create_table(
        "retraining_pause",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_retraining_pause"),
    )
