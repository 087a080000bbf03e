"""Statements that the supported databases spell differently, and statements that are compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Table
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
    """A statement compiled once, for places where that costs more than its execution.

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

    def execute(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        """Execute it with a value for each of its variables."""
        named = self._fixed | values
        if self._order is None:
            return connection.exec_driver_sql(self._text, named)
        return connection.exec_driver_sql(self._text, tuple([named[name] for name in self._order]))
