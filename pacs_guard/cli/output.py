"""Printing for people and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from pacs_guard.domain.text import printable

if TYPE_CHECKING:
    from rich.text import Text

_FILE_WIDTH = 200


class _PlainConsole(Console):
    """Prints text as it is: what data sets and peers wrote neither commands the terminal nor is taken for markup."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return `text` for printing; the library calls this for every piece."""
        return super().render_str(printable(text, keep="\n", longest=len(text)), **options | {"markup": False})


def console() -> Console:
    """Return a console that is as wide as the terminal, and wide enough where the output goes to a file."""
    found = _PlainConsole()
    return found if found.is_terminal else _PlainConsole(width=_FILE_WIDTH)


def print_json(value: Any) -> None:
    """Print `value`, dataclasses included, as JSON."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def moment(seconds: float | None) -> str:
    """Return a time for people."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def number(value: float | None) -> str:
    """Return a number for people, empty for None."""
    return "" if value is None else f"{value:.3g}"
