"""The connection to the database: transactions, SQLite's settings, migrations, and errors translated."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from pacs_guard.errors import CommitUnknownError, QueueError, QueueUnavailableError, SchemaVersionError
from pacs_guard.queue import schema
from pacs_guard.queue.statements import driver_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

_BUSY_TIMEOUT_SECONDS = 30.0
_MIGRATION_LOCK = 0x50414353  # any number that no other application on the server uses


class Database:
    """One database, shared by all threads of a process.

    Parameters
    ----------
    url : str
        An SQLAlchemy URL; ``sqlite:///FILE`` or ``postgresql+psycopg://…``.

    Raises
    ------
    QueueUnavailableError
        If the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self.engine = _create_engine(url)
        except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
            raise QueueUnavailableError(f"database {_hide_password(url)} cannot be used: {error}") from error
        # SQLite has one writer at a time; waiting here is fairer and faster than its busy handler's sleeps
        self._turn = _WriterTurn() if self.engine.dialect.name == "sqlite" else None
        self._kept: dict[bool, Connection] = {}
        # several statements of one look must see one state, as they do in SQLite
        self._reading: dict[str, Any] = {"read_only": True}
        if self.engine.dialect.name == "postgresql":
            self._reading |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction that is committed when the block ends, and rolled back if it raises.

        Parameters
        ----------
        durable : bool
            False if the commit need not survive a power failure by itself, but only with the next durable one, of
            whatever process; SQLite does not sync it then. PostgreSQL, which may lose power alone, does.

        Raises
        ------
        QueueUnavailableError
            If the database is locked, unreachable or unwritable; nothing was written then.
        CommitUnknownError
            If it stopped answering while it was committing.
        QueueError
            If it refuses a statement for another reason.
        """
        committing = False
        try:
            with _translated(), self._transaction(durable) as connection:
                yield connection
                committing = True
        except QueueUnavailableError as error:
            if committing:
                raise CommitUnknownError(str(error)) from error.__cause__
            raise

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[Connection]:
        """Begin a transaction; whoever has SQLite's turn uses the connection that is kept for that."""
        if self._turn is None:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._turn:
            kept = self._kept.pop(durable, None) or self._connected(durable)
            try:
                with kept.begin():
                    yield kept
            except BaseException:
                kept.close()  # whatever state it is in
                raise
            self._kept[durable] = kept

    def _connected(self, durable: bool) -> Connection:
        connection = self.engine.connect().execution_options(durable=durable)
        text = f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}"
        try:
            # a journal in WAL mode stays consistent either way (sqlite.org/wal.html, "Performance Considerations")
            with driver_cursor(connection, text, ()) as cursor:
                cursor.execute(text)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only look at one consistent state; takes no writer's turn.

        Raises
        ------
        QueueUnavailableError
            If the database is unreachable.
        """
        with _translated(), self.engine.connect().execution_options(**self._reading) as connection:
            yield connection

    def prepare(self) -> None:
        """Create the tables, or bring an older database up to date.

        Raises
        ------
        SchemaVersionError
            If a newer release made the database.
        """
        found = self.revision()
        if found == schema.REVISION:
            return
        from alembic import command  # noqa: PLC0415  # slow to import, and seldom needed
        from alembic.util.exc import CommandError  # noqa: PLC0415

        try:
            with self.write() as connection:
                if connection.dialect.name == "postgresql":  # roles that start together upgrade one after another
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                command.upgrade(_alembic_config(connection), "head")
        except CommandError as error:
            raise SchemaVersionError(
                f"the database is at schema {found}, this release knows {schema.REVISION}: "
                "it was made by a newer release; start that one, or restore the backup made before the upgrade"
            ) from error

    def revision(self) -> str | None:
        """Return the schema revision of the database, None if it is empty."""
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def close(self) -> None:
        """Close every connection."""
        kept, self._kept = self._kept, {}
        for connection in kept.values():
            connection.close()
        self.engine.dispose()


class _WriterTurn:
    """A lock that is waited for no longer than the database itself, so that many threads do not add up their waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=_BUSY_TIMEOUT_SECONDS):
            raise QueueUnavailableError(f"the database did not answer: no turn to write in {_BUSY_TIMEOUT_SECONDS:g} s")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _create_engine(url: str) -> Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=20, max_overflow=80)
    if parsed.database in {None, "", ":memory:"}:
        raise ValueError("it has no file; expected sqlite:///FILE, as several processes share it")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        parsed, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS}, pool_size=20, max_overflow=80, pool_timeout=60
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # this module begins transactions itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # a writer that begins as a reader can be refused half-way; one that takes its turn at once cannot
    read_only = connection.get_execution_options().get("read_only", False)
    text = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    with driver_cursor(connection, text, ()) as cursor:
        cursor.execute(text)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise QueueError(f"the database refused a row: {error.orig}") from error
    except (OperationalError, InterfaceError, sa.exc.TimeoutError) as error:
        raise QueueUnavailableError(f"the database did not answer: {getattr(error, 'orig', error)}") from error
    except DBAPIError as error:
        raise QueueError(f"the database refused a statement: {error.orig}") from error


def _alembic_config(connection: Connection) -> Any:
    from alembic.config import Config  # noqa: PLC0415  # slow to import, and seldom needed

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config


def _hide_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "(unreadable URL)"
