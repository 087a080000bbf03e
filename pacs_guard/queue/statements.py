"""Statements that the supported databases spell differently, and statements that are compiled once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Dialect


def _insert(dialect: Dialect, table: Table) -> Any:
    return (postgresql if dialect.name == "postgresql" else sqlite).insert(table)


def insert_or_ignore(dialect: Dialect, table: Table) -> Any:
    """Return an INSERT into `table` that does nothing where a unique key is taken."""
    return _insert(dialect, table).on_conflict_do_nothing()


def insert_or_add(dialect: Dialect, table: Table, **values: Any) -> Any:
    """Return an INSERT into `table` that adds the values of columns outside the key where the row exists."""
    key = {column.name for column in table.primary_key}
    return (
        _insert(dialect, table)
        .values(**values)
        .on_conflict_do_update(
            index_elements=sorted(key),
            set_={name: table.c[name] + value for name, value in values.items() if name not in key},
        )
    )


class Prepared:
    """A statement compiled once and executed by the driver itself, where SQLAlchemy's own work would cost more.

    Parameters
    ----------
    statement : Executable
        Its variables are ``bindparam`` of plain types; anything else in it is fixed.
    dialect : Dialect
        Of the connections that will execute it.
    """

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._fixed = dict(compiled.params)
        self._order: list[str] | None = compiled.positiontup

    def execute(self, connection: Connection, **values: Any) -> list[Any]:
        """Execute it with a value for each of its variables, and return its rows."""
        parameters = self._parameters(values)
        with driver_cursor(connection, self._text, parameters) as cursor:
            cursor.execute(self._text, parameters)
            return cursor.fetchall() if cursor.description else []

    def mappings(self, connection: Connection, **values: Any) -> list[dict[str, Any]]:
        """Execute it as `execute` does, and return its rows by the names of their columns."""
        parameters = self._parameters(values)
        with driver_cursor(connection, self._text, parameters) as cursor:
            cursor.execute(self._text, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def count(self, connection: Connection, **values: Any) -> int:
        """Execute it with a value for each of its variables, and return how many rows it changed."""
        parameters = self._parameters(values)
        with driver_cursor(connection, self._text, parameters) as cursor:
            cursor.execute(self._text, parameters)
            changed: int = cursor.rowcount
            return changed

    def execute_many(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Execute it once for each of `rows`, in their order."""
        parameters = [self._parameters(row) for row in rows]
        with driver_cursor(connection, self._text, parameters) as cursor:
            cursor.executemany(self._text, parameters)

    def _parameters(self, values: dict[str, Any]) -> Any:
        named = self._fixed | values
        return named if self._order is None else tuple([named[name] for name in self._order])


class Lasting:
    """A statement for functions that are given a connection: prepared at its first use, once for each kind of database.

    Parameters
    ----------
    build : callable
        Takes a dialect and returns the statement, as `Prepared` wants it.
    """

    def __init__(self, build: Callable[[Dialect], Any]) -> None:
        self._build = build
        self._prepared: dict[str, Prepared] = {}

    def on(self, connection: Connection) -> Prepared:
        """Return it for the database of a connection."""
        dialect = connection.dialect
        prepared = self._prepared.get(dialect.name)
        if prepared is None:
            prepared = self._prepared[dialect.name] = Prepared(self._build(dialect), dialect)
        return prepared


class PreparedForMany:
    """A query with an IN list, compiled once for each length that the list has had.

    Parameters
    ----------
    query : callable
        Takes a list of ``bindparam`` and returns the query.
    dialect : Dialect
    """

    def __init__(self, query: Callable[[list[Any]], Any], dialect: Dialect) -> None:
        self._query = query
        self._dialect = dialect
        self._compiled: dict[int, Prepared] = {}

    def execute(self, connection: Connection, values: Sequence[Any]) -> list[Any]:
        """Execute it with `values` for its list, and return its rows."""
        named = {f"value_{number}": value for number, value in enumerate(values)}
        if len(named) not in self._compiled:
            variables: list[Any] = [sa.bindparam(name) for name in named]
            self._compiled[len(named)] = Prepared(self._query(variables), self._dialect)
        return self._compiled[len(named)].execute(connection, **named)


@contextmanager
def driver_cursor(connection: Connection, text: str, parameters: Any) -> Iterator[Any]:
    """Give the driver's cursor, and turn the driver's errors into those that SQLAlchemy would raise."""
    raw = connection.connection
    cursor = raw.cursor()
    dialect = connection.dialect
    base = dialect.loaded_dbapi.Error
    try:
        yield cursor
    except base as error:
        is_lost = dialect.is_disconnect(error, raw.driver_connection, cursor)
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            text, parameters, error, base, hide_parameters=True, connection_invalidated=is_lost, dialect=dialect
        ) from error
    finally:
        cursor.close()
