"""``pacs-guard backup``: the queue, the instances, the evidence and retrained models, while the node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.wiring import CLOCK, open_stores, prepare_folder
from pacs_guard.errors import PacsGuardError
from pacs_guard.queue.backup import copy_database
from pacs_guard.queue.database import Database
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.spool.backup import copy_changed_segments, copy_new_files, remove_others
from pacs_guard.spool.records import place_of
from pacs_guard.spool.store import StoredFiles

if TYPE_CHECKING:
    from pathlib import Path

_FOLDERS = ("spool/instances", "spool/refused", "evidence", "models", "proposals")
_DATABASE = "queue.sqlite"


def back_up(config: Path | None, target: Path) -> int:
    """Bring the copy of a data folder in `target` up to date.

    The database first: what is received later has bytes without a row, which are taken in again or set aside (see
    `pacs_guard.receive.recovery`); the other order would make rows without bytes.

    Returns
    -------
    int
        0 if every instance that the copied database knows is in the copy, else 1.

    Raises
    ------
    PacsGuardError
        If `target` is the data folder itself or lies in it, or something cannot be copied.
    """
    stores = open_stores(settings_from(config))
    data = stores.settings.node.data_dir
    if target.resolve().is_relative_to(data.resolve()):
        raise PacsGuardError(f"{target} lies in the data folder {data}; give a folder on another disk")
    prepare_folder(target)
    in_sqlite = copy_database(stores.database, target / _DATABASE)
    copied = sum(copy_new_files(data / folder, target / folder) for folder in _FOLDERS)
    copied += copy_changed_segments(data / "spool/segments", target / "spool/segments")
    database = Database(f"sqlite:///{target / _DATABASE}") if in_sqlite else stores.database
    expected = {path: size for _, path, size in Upkeep(database, CLOCK).expected_files()}
    needed = {f"spool/{place_of(path).file}" for path in expected}
    removed = remove_others(data, target, {_DATABASE, f"{_DATABASE}-wal", f"{_DATABASE}-shm", *needed})
    database.close()
    copies = StoredFiles(target / "spool")
    missing = [path for path, size in expected.items() if copies.size(path) < size]
    for path in missing:
        typer.echo(f"missing or cut short: spool/{path}")
    typer.echo(f"{copied} files copied, {removed} removed, {len(expected)} instances in {target}")
    if not in_sqlite:
        typer.echo("the queue is in PostgreSQL: copy it with pg_dump BEFORE this command")
    return 1 if missing else 0
