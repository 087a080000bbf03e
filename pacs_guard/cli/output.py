"""Printing for people and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console

_FILE_WIDTH = 200


def console() -> Console:
    """Return a console that is as wide as the terminal, and wide enough where the output goes to a file."""
    found = Console()
    return found if found.is_terminal else Console(width=_FILE_WIDTH)


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
