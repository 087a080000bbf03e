"""``pacs-guard ledger``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from pacs_guard.cli import output
from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.output import print_json
from pacs_guard.cli.wiring import open_stores
from pacs_guard.errors import SpoolError

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.cli.wiring import Stores

_COLUMNS = (
    "received",
    "delivered",
    "proved",
    "proving",
    "unproved",
    "unasked",
    "held",
    "waiting",
    "failed",
    "missing",
    "duplicates",
    "refused",
)


def show_ledger(config: Path | None, *, deep: bool, json: bool) -> int:
    """Print where every acknowledged instance is.

    Returns
    -------
    int
        0 if it adds up and every undelivered instance's bytes are there, else 1.
    """
    stores = open_stores(settings_from(config))
    problems = _lost_files(stores, deep=deep)
    lines = stores.reports.ledger()
    given_up, unproved = stores.reports.given_up(), stores.reports.unproved()
    adds_up = not problems and all(line.adds_up for line in lines)
    if json:
        print_json(
            {
                "adds_up": adds_up,
                "sources": [asdict(line) | {"adds_up": line.adds_up} for line in lines],
                "given_up": given_up,
                "unproved": unproved,
                "problems": problems,
            }
        )
        return 0 if adds_up else 1
    console = output.console()
    table = Table("source", *_COLUMNS, "")
    for line in lines:
        values = asdict(line)
        table.add_row(line.source, *(str(values[name]) for name in _COLUMNS), "" if line.adds_up else "DOES NOT ADD UP")
    console.print(table)
    for what, items in (("given up", given_up), ("unproved", unproved)):
        for item in items:
            where = f"study {item['study_id']} instance {item['sop_uid']} to {item['destination']}"
            console.print(f"{what}: {where}: {item['error']}", highlight=False, markup=False)
    for problem in problems:
        console.print(problem, highlight=False, markup=False)
    console.print("it adds up" if adds_up else "IT DOES NOT ADD UP")
    return 0 if adds_up else 1


def _lost_files(stores: Stores, *, deep: bool) -> list[str]:
    """Look for the bytes of every instance that should still be in the spool."""
    spool = stores.spool()
    problems = []
    for instance in stores.upkeep.undelivered():
        try:
            if deep:
                spool.verify(instance)
            else:
                spool.open(instance).close()
        except SpoolError as error:
            problems.append(str(error))
    return problems
