"""Transactions, SQLite's settings, migrations and errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pacs_guard.errors import QueueError, QueueUnavailableError, SchemaVersionError
from pacs_guard.queue import database as database_module
from pacs_guard.queue import schema
from pacs_guard.queue.database import Database
from pacs_guard.queue.outbox import Outbox
from pacs_guard.queue.schema import tallies


def insert(connection, source="ct"):
    connection.execute(sa.insert(tallies).values(source=source, outcome="stored", instances=1, bytes=1))


def count(database):
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(tallies)).scalar_one()


def test_every_sqlite_connection_is_durable(sqlite_template):
    database = Database(f"sqlite:///{sqlite_template}")
    connections = [database.engine.connect() for _ in range(3)]  # three at once are three connections
    for connection in connections:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}
        connection.close()
    database.close()


def test_block_that_ends_is_committed_and_block_that_raises_is_not(database):
    with database.write() as connection:
        insert(connection)
    with pytest.raises(RuntimeError, match="half-way"), database.write() as connection:  # noqa: PT012
        insert(connection, "other")
        raise RuntimeError("half-way")
    assert count(database) == 1


def test_one_look_sees_one_state_while_others_write(database):
    with database.read() as connection:
        query = sa.select(sa.func.count()).select_from(tallies)
        assert connection.execute(query).scalar_one() == 0
        with database.write() as writer:
            insert(writer)
        assert connection.execute(query).scalar_one() == 0
    assert count(database) == 1


def test_refused_row_is_a_queue_error_and_leaves_the_database_usable(database):
    with database.write() as connection:
        insert(connection)
    with pytest.raises(QueueError, match="refused a row") as caught, database.write() as connection:
        insert(connection)
    assert not isinstance(caught.value, QueueUnavailableError)
    assert count(database) == 1


def test_database_locked_by_another_is_unavailable(sqlite_template, tmp_path, monkeypatch):
    path = tmp_path / "queue.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_SECONDS", 0.05)
    database = Database(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(QueueUnavailableError, match="locked"), database.write() as connection:
        insert(connection)
    assert count(database) == 0  # readers go on
    other.execute("ROLLBACK")
    with database.write() as connection:
        insert(connection)
    assert count(database) == 1
    other.close()
    database.close()


def test_threads_do_not_add_up_their_waits_for_a_writer(sqlite_template, monkeypatch):
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_SECONDS", 0.05)
    database = Database(f"sqlite:///{sqlite_template}")
    failures = []

    def write():
        try:
            with database.write():
                pass
        except QueueUnavailableError as error:
            failures.append(str(error))

    with database.write():
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=5)
    assert failures == ["the database did not answer: no turn to write in 0.05 s"] * 4
    database.close()


@pytest.mark.parametrize(
    ("url", "clue"),
    [
        ("nonsense", "unreadable URL"),
        ("oracle9://host/db", "oracle9"),
        ("sqlite://", "expected sqlite:///FILE"),
        ("sqlite:///:memory:", "expected sqlite:///FILE"),
    ],
)
def test_url_that_cannot_be_used_says_so(url, clue):
    with pytest.raises(QueueUnavailableError, match=clue):
        Database(url)


def test_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(QueueUnavailableError, match=r"queue\.sqlite cannot be used"):
        Database(f"sqlite:///{tmp_path / 'file' / 'queue.sqlite'}")


def test_file_that_is_no_database_says_so(tmp_path):
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"this is no database" * 100)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(QueueError, match="not a database"):
        database.prepare()
    database.close()


def test_unreachable_postgresql_says_so_without_its_password():
    pytest.importorskip("psycopg", reason="the postgresql extra is not installed")
    database = Database("postgresql+psycopg://node:secret@127.0.0.1:1/queue?connect_timeout=2")
    with pytest.raises(QueueUnavailableError) as caught:
        database.prepare()
    assert "did not answer" in str(caught.value)
    assert "secret" not in str(caught.value)
    database.close()


def test_fresh_database_is_made_with_its_folder_and_preparing_again_changes_nothing(sqlite_url):
    database = Database(sqlite_url)
    assert database.revision() is None
    database.prepare()
    database.prepare()
    assert database.revision() == schema.REVISION
    database.close()


def test_migrations_and_model_agree(database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_newest_migration_is_the_one_the_schema_names():
    folder = database_module.Path(database_module.__file__).with_name("migrations")
    assert ScriptDirectory(str(folder)).get_current_head() == schema.REVISION


def test_database_of_a_newer_release_is_refused_and_left_as_it_is(database):
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        SchemaVersionError, match=f"schema 9999, this release knows {schema.REVISION}: it was made by a newer release"
    ):
        database.prepare()
    assert database.revision() == "9999"


PREPARE = "import sys; from pacs_guard.queue.database import Database; Database(sys.argv[1]).prepare()"


def test_processes_that_start_together_prepare_one_database(sqlite_url):
    prepare_together(sqlite_url)


def test_processes_that_start_together_prepare_one_postgresql_database(postgresql_server):
    engine = sa.create_engine(postgresql_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE fresh")
    prepare_together(postgresql_server.set(database="fresh").render_as_string(hide_password=False))


def prepare_together(url):
    processes = [
        subprocess.Popen([sys.executable, "-c", PREPARE, url], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    failures = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, failures
    database = Database(url)
    assert database.revision() == schema.REVISION
    database.close()


OLD_ROWS = (
    """INSERT INTO studies (id, study_uid, state, kinds, standing_hold, bypassed, received_count, revision, attempts,
       created_at, opened_at, last_instance_at) VALUES (7, '1.2.3', 'held', '', 1, 0, 1, 1, 0, 1.0, 1.0, 1.0)""",
    "INSERT INTO actions (study_id, action, who, reason, at) VALUES (7, 'release', 'Dr. A', 'why', 2.0)",
    """INSERT INTO notifications (id, study_id, event, payload, attempts, not_before, created_at, given_up)
       VALUES (3, 7, 'study_quarantined', '{"study": 7}', 0, 0.0, 1.0, 0)""",
)


def test_rows_of_an_older_release_are_there_after_the_upgrade(sqlite_url):
    database = Database(sqlite_url)
    with database.write() as connection:
        command.upgrade(database_module._alembic_config(connection), "0001")
        for statement in OLD_ROWS:
            connection.exec_driver_sql(statement)
    database.prepare()
    assert database.revision() == schema.REVISION
    [waiting] = Outbox(database, lambda: 5.0).due()
    assert (waiting.id, waiting.payload, waiting.study_uid) == (3, {"study": 7}, "1.2.3")
    with pytest.raises(QueueError, match="recorded for good"), database.write() as connection:
        connection.exec_driver_sql("DELETE FROM actions")
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
    database.close()
