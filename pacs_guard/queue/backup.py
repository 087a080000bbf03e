"""A copy of the queue while it is in use."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from pacs_guard.errors import QueueError

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.queue.database import Database


def copy_database(database: Database, target: Path) -> bool:
    """Copy an SQLite database consistently to `target`, replacing an older copy only when the new one is whole.

    Returns
    -------
    bool
        False for another kind of database, which has tools of its own.

    Raises
    ------
    QueueError
        If it cannot be copied, or the copy is damaged.
    """
    if database.engine.dialect.name != "sqlite":
        return False
    temporary = target.with_name(f"{target.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"file:{database.engine.url.database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(temporary)) as copy,
        ):
            source.backup(copy, pages=1024, sleep=0.01)
            (found,) = copy.execute("PRAGMA quick_check").fetchone()
        if found != "ok":
            raise QueueError(f"the copy of the database is damaged: {found}")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise QueueError(f"the database cannot be copied to {target}: {error}") from error
    return True
