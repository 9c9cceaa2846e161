"""What a user sees when the database is not as it should be, and how its schema comes about."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from monitor.errors import TransientError, UserError
from monitor.store import BusyError, Store, engine, migrations
from monitor.store.tables import metadata
from parts.stores import Worker, alert, key, profile, window


def refused(url: str, **more) -> str:
    with pytest.raises(UserError) as raised:
        Store.open(url, **more)
    (line,) = str(raised.value).splitlines()
    return line


def execute(url: str, *statements: str) -> None:
    database = sa.create_engine(url)
    with database.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    database.dispose()


def test_the_migrations_make_exactly_the_tables(store):
    with store._db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_every_revision_is_listed():
    script = ScriptDirectory(str(sys.modules["monitor.store.migrations"].__path__[0]))
    assert [r.revision for r in script.walk_revisions()][::-1] == list(migrations.REVISIONS)


def test_an_empty_database_gets_the_schema_once(store_url):
    assert "is empty" in refused(store_url, create=False)
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(Store.open, [store_url] * 4))
    put = Worker(stores[0]).checkpoint({key(0): profile(1)})
    assert put.new_panes == 1
    for store in stores:
        assert [pane.open for pane in store.panes()] == [1]
        store.close()
    Store.upgrade(store_url)
    Store.open(store_url, create=False).close()


def test_upgrade_from_empty(store_url):
    Store.upgrade(store_url)
    Store.open(store_url, create=False).close()


def test_alerts_of_the_schema_before_are_kept_and_those_that_fire_are_told_once_more(store_url):
    """Of each the newest transition is found. What is over was told by the program that put it; who hears of an end must know the beginning."""
    database = sa.create_engine(store_url)
    with database.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        command.upgrade(config, "0002")
        old = sa.Table("alert", sa.MetaData(), autoload_with=connection)
        rows = [alert("a"), alert("b"), alert("a", severity="critical"), alert("b", status="resolved"), alert("c")]
        names = [column.name for column in old.columns if column.name != "seq"]
        connection.execute(sa.insert(old), [{name: getattr(row, name) for name in names} for row in rows])
    database.dispose()
    Store.upgrade(store_url)
    store = Store.open(store_url)
    assert [(a.seq, a.id, a.severity, a.status) for a in store.alerts()] == [
        (3, "a", "critical", "firing"),
        (4, "b", "warning", "resolved"),
        (5, "c", "warning", "firing"),
    ]
    assert [a.seq for a in store.firing_alerts()] == [3, 5]
    assert {a.seq: (a.stale, a.pending) for a in store.alerts(history=True)} == {
        1: (False, False), 2: (False, False), 3: (False, True), 4: (False, False), 5: (False, True),
    }  # fmt: skip
    with store.closing("churn") as tx:
        tx.put_alert(alert("a", status="resolved", pending=True))
    with store.telling() as tx:
        assert [a.seq for a in tx.arrivals()] == [3, 5, 6]
    assert [a.seq for a in store.firing_alerts()] == [5]
    store.close()


def test_a_newer_schema_is_refused(store, store_url):
    execute(store_url, "UPDATE alembic_version SET version_num = '9999'")
    assert "newer than this program" in refused(store_url)
    with pytest.raises(UserError, match="newer"):
        Store.upgrade(store_url)


def test_an_older_schema_is_migrated_on_sqlite_and_named_on_postgresql(store, store_url, monkeypatch):
    execute(store_url, "UPDATE alembic_version SET version_num = '0000'")
    monkeypatch.setattr("monitor.store.schema.REVISIONS", ("0000", *migrations.REVISIONS))
    upgraded = []
    monkeypatch.setattr("monitor.store.schema.upgrade", upgraded.append)
    if store_url.startswith("sqlite"):
        Store.open(store_url).close()
        assert upgraded
    else:
        assert "driftline db upgrade" in refused(store_url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("driftline.db", "not a database URL"),
        ("mysql://root@localhost/x", "mysql is not supported"),
        ("sqlite://", "needs a file"),
        ("postgresql://me:secret@127.0.0.1:1/x", "me:***@127.0.0.1:1/x: out of reach"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ],
)
def test_bad_addresses_take_one_line(url, words):
    line = refused(url)
    assert words in line
    assert "secret" not in line


def test_a_read_only_file_takes_one_line(tmp_path):
    Store.open(f"sqlite:///{tmp_path}/x.db").close()
    assert "is read-only" in refused(f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true")


def test_a_file_that_is_no_database_takes_one_line(tmp_path):
    (tmp_path / "x.db").write_text("id,income\n" * 500)
    assert "is not an SQLite database" in refused(f"sqlite:///{tmp_path}/x.db")


@pytest.mark.integration
def test_a_read_only_server_and_a_missing_database_take_one_line(postgres_url):
    Store.open(postgres_url).close()
    assert "is read-only" in refused(postgres_url + "?options=-c%20default_transaction_read_only%3Don")
    assert "does not exist" in refused(postgres_url + "x")
    plain = postgres_url.replace("+psycopg", "")
    Store.open(plain).close()


def test_a_missing_driver_names_the_extra():
    code = "import sys; sys.modules['psycopg'] = None\nfrom monitor.store import Store\nStore.open('postgresql://u@localhost/x')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: store: PostgreSQL needs its driver (pip install 'driftline[postgres]')" in run.stderr


def test_a_busy_sqlite_file_is_transient(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    store = Store.open(url, busy_timeout_ms=50)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError):
        Worker(store)
    with pytest.raises(BusyError):
        Store.open(url, busy_timeout_ms=50)
    assert store.panes() == []  # readers do not wait
    other.close()
    Worker(store)
    store.close()


def test_sqlite_is_set_up_as_promised(tmp_path):
    for durable, synchronous in [(True, 2), (False, 0)]:
        store = Store.open(f"sqlite:///{tmp_path}/{durable}.db", durable=durable)
        with store._db.write() as connection:
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            ]
        assert found == ["wal", synchronous, engine.BUSY_TIMEOUT_MS]
        store.close()


@pytest.mark.integration
def test_postgresql_is_set_up_as_promised(postgres_url):
    store = Store.open(postgres_url)
    names = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_isolation"]
    with store._db.write() as connection:
        found = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
        assert found == ["5s", "10s", "15s", "read committed"]
        connection.exec_driver_sql("SET LOCAL statement_timeout = 50")
        with pytest.raises(TransientError), store._db._translated():
            connection.exec_driver_sql("SELECT pg_sleep(5)")
        connection.rollback()
    store.close()


@pytest.mark.integration
def test_a_lost_connection_is_transient_and_the_next_call_works(postgres_url):
    store = Store.open(postgres_url)
    store.panes()
    execute(
        postgres_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )
    with pytest.raises(TransientError):
        store.panes()
    assert store.panes() == []
    store.close()


def test_a_bug_keeps_its_traceback(store):
    with pytest.raises(sa.exc.IntegrityError), store.closing("churn") as tx:
        tx.put_window(window(state=None))
