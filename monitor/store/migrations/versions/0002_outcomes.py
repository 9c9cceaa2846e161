"""Outcomes: the join, performance and the states of concept detectors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _join_layout()
    _outcome_join()
    _outcome_log()
    _outcome_clock()
    _performance_pane()
    _performance_state()
    _detector_state()


def _join_layout() -> None:
    op.create_table(
        "join_layout",
        sa.Column("code", SERIAL, autoincrement=True, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code", name="pk_join_layout"),
        sa.UniqueConstraint("model", "version", "reference", name="uq_join_layout_model_version_reference"),
    )


def _outcome_join() -> None:
    op.create_table(
        "outcome_join",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("predictions", sa.LargeBinary(), nullable=True),
        sa.Column("outcomes", sa.LargeBinary(), nullable=True),
        sa.Column("had", sa.SmallInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_outcome_join"),
        postgresql_with={"fillfactor": 85},
    )


def _outcome_log() -> None:
    op.create_table(
        "outcome_log",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.Integer(), nullable=False),
        sa.Column("predictions", sa.LargeBinary(), nullable=True),
        sa.Column("outcomes", sa.LargeBinary(), nullable=True),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_outcome_log"),
    )
    op.create_table(
        "outcome_run",
        sa.Column("run", SERIAL, autoincrement=True, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("heads", sa.LargeBinary(), nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_outcome_run"),
        sqlite_autoincrement=True,
    )


def _outcome_clock() -> None:
    op.create_table(
        "outcome_clock",
        sa.Column("source_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("newest_ms", sa.BigInteger(), nullable=False),
        sa.Column("read_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source_group", "topic", "partition", "model", name="pk_outcome_clock"),
    )


def _performance_pane() -> None:
    op.create_table(
        "performance_pane",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.Column("written_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "kind", "start_ms", name="pk_performance_pane"),
    )
    op.create_index(
        "ix_performance_pane_model_kind_start_ms",
        "performance_pane",
        ["model", "kind", "start_ms"],
        sqlite_where=sa.text("dirty = 1"),
        postgresql_where=sa.text("dirty"),
    )


def _performance_state() -> None:
    key = ("model", "kind", "start_ms", "version", "reference", "segment", "writer")
    op.create_table(
        "performance_state",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_performance_state"),
    )


def _detector_state() -> None:
    key = ("model", "version", "segment", "detector", "start_ms")
    op.create_table(
        "detector_state",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_detector_state"),
    )
