"""Reading the settings from a TOML file and the environment, and saying what is wrong with them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pacs_guard.config.settings import Settings
from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_SECRET = {"database_url", "key_password", "metrics_password", "password", "token"}


def load_settings(path: Path | None) -> Settings:
    """Read the settings from a TOML file and the environment.

    Parameters
    ----------
    path : Path or None
        The file; None for the environment alone.

    Raises
    ------
    ConfigurationError
        With one line for every problem: the key, what was given, what was expected.
    """
    content = _read(path) if path is not None else {}
    try:
        return Settings(**content)
    except ValidationError as error:
        raise ConfigurationError([line for problem in error.errors() for line in _lines(problem)]) from error
    except ValueError as error:  # an environment variable that is no JSON where a list is expected
        raise ConfigurationError([f"environment: {error}"]) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: is not TOML: {error}"]) from error


def _lines(problem: Any) -> list[str]:
    """Return one line for each problem; a validator may have found several."""
    if problem["type"] == "too_short" and problem["input"]:
        return []  # it became empty by errors that are reported themselves
    return [_line({**problem, "msg": message}) for message in problem["msg"].split("\n")]


def _line(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "settings"
    expected = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {expected}" if problem["loc"] else expected
    expected = expected[:1].lower() + expected[1:]
    if problem["type"] == "missing":
        return f"{key}: {expected}"
    if problem["type"] == "extra_forbidden":
        return f"{key}: there is no such setting"
    if problem["loc"] and problem["loc"][-1] in _SECRET:
        return f"{key}: {expected}"
    return f"{key}: {problem['input']!r} was given; {expected}"
