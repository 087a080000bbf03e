"""``pacs-guard config``, and where the settings come from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pacs_guard.config import load_settings
from pacs_guard.errors import ConfigurationError
from pacs_guard.tls.inventory import check_certificates, warnings

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
    """Say whether the settings can be used, and what certificate has to be renewed.

    Raises
    ------
    ConfigurationError
        If they cannot, or a certificate or key that they name.
    """
    settings = settings_from(config)
    check_certificates(settings)
    for warning in warnings(settings, time.time()):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(
        f"ok: {settings.node.ae_title} listens on {settings.receive.host}:{_ports(settings)}, "
        f"{len(settings.sources)} source(s), {len(settings.destinations)} destination(s), "
        f"detectors {', '.join(settings.detect.detectors) or 'none'}"
    )


def _ports(settings: Settings) -> str:
    tls = settings.receive.tls
    return " and ".join(
        f"{one} (TLS)" if tls is not None and one == tls.port else str(one) for one in settings.receive.ports
    )


def show_config(config: Path | None) -> None:
    """Print every setting in force."""
    typer.echo(json.dumps(settings_from(config).model_dump(mode="json"), indent=2))
