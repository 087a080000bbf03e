"""``bypass``: a person has a source's studies forwarded unjudged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from pacs_guard.cli import output
from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.output import moment, print_json
from pacs_guard.cli.wiring import open_stores
from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def switch_bypass(config: Path | None, source: str, *, on: bool, who: str, reason: str) -> None:
    """Turn the switch of a source."""
    empty = [name for name, value in (("--by", who), ("--reason", reason)) if not value.strip()]
    if empty:
        raise ConfigurationError([f"{name}: nothing was given; it is recorded for good" for name in empty])
    stores = open_stores(settings_from(config))
    known = [one.name for one in stores.settings.sources]
    if on and source not in known:  # one that is gone from the settings can still be switched off
        raise ConfigurationError([f"--source: {source!r} was given; expected one of {', '.join(known)}"])
    stores.bypasses.switch(source, on=on, who=who, reason=reason)
    what = "are forwarded unjudged, and assessed afterwards" if on else "wait for their verdict again"
    typer.echo(f"studies of {source} {what}")


def list_bypasses(config: Path | None, *, json: bool) -> None:
    """Print every turn of the switches, in order."""
    stores = open_stores(settings_from(config))
    turns = stores.bypasses.history()
    if json:
        print_json(turns)
        return
    table = Table("when", "source", "switched", "by", "reason")
    for turn in turns:
        table.add_row(moment(turn.at), turn.source, "on" if turn.switched_on else "off", turn.who, turn.reason)
    output.console().print(table)
