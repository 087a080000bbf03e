"""Statements that the supported databases spell differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """Return an INSERT into `table` that does nothing where a unique key is taken."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def insert_or_add(connection: Connection, table: Table, **values: Any) -> Any:
    """Return an INSERT into `table` that adds the values of columns outside the key where the row exists."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    key = {column.name for column in table.primary_key}
    statement = dialect.insert(table).values(**values)
    return statement.on_conflict_do_update(
        index_elements=sorted(key),
        set_={name: table.c[name] + value for name, value in values.items() if name not in key},
    )
