"""``pacs-guard config``, and where the settings come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pacs_guard.config import load_settings
from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from pacs_guard.config import Settings

_DEFAULT_FILES = (Path("pacs-guard.toml"), Path("/etc/pacs-guard/pacs-guard.toml"))


def settings_from(config: Path | None) -> Settings:
    """Read the settings from `config`, or from the first default place that has a file.

    Raises
    ------
    ConfigurationError
        If there is none, or it cannot be used.
    """
    found = config or next((file for file in _DEFAULT_FILES if file.exists()), None)
    if found is None:
        places = " or ".join(str(file) for file in _DEFAULT_FILES)
        raise ConfigurationError([f"no configuration: give --config FILE, or put one at {places}"])
    return load_settings(found)


def check_config(config: Path | None) -> None:
    """Say whether the settings can be used."""
    settings = settings_from(config)
    typer.echo(
        f"ok: {settings.node.ae_title} listens on {settings.receive.host}:{settings.receive.port}, "
        f"{len(settings.sources)} source(s), {len(settings.destinations)} destination(s), "
        f"detectors {', '.join(settings.detect.detectors) or 'none'}"
    )


def show_config(config: Path | None) -> None:
    """Print every setting in force."""
    typer.echo(json.dumps(settings_from(config).model_dump(mode="json"), indent=2))
