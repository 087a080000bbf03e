"""``pacs-guard model``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from pacs_guard.cli import output
from pacs_guard.cli.output import print_json
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable

_RULES = "integrity"


def list_models(*, json: bool) -> None:
    """Print the detectors that come with the node."""
    from pacs_guard.detect.bundle import list_bundles, load_bundle
    from pacs_guard.detect.registry import load_detector

    found = [{"name": _RULES, "version": load_detector(_RULES).version, "folder": "rules, without a bundle"}]
    for folder in list_bundles():
        bundle = load_bundle(folder)
        found.append({"name": bundle.name, "version": bundle.version, "folder": str(folder)})
    if json:
        print_json(found)
        return
    table = Table("name", "version", "folder")
    for one in found:
        table.add_row(one["name"], one["version"], one["folder"])
    output.console().print(table)


def show_model(name: str, *, json: bool) -> None:
    """Print what a bundle says of itself."""
    from pacs_guard.detect.bundle import load_bundle

    bundle = load_bundle(_folder(name))
    if json:
        print_json(bundle.manifest)
    else:
        typer.echo(bundle.read("MODEL_CARD.md").decode("utf-8"))


def verify_model(name: str) -> None:
    """Check a bundle's files and load its detector."""
    from pacs_guard.detect.bundle import load_bundle
    from pacs_guard.detect.registry import load_detector

    folder = _folder(name)
    bundle = load_bundle(folder)
    detector = load_detector(folder)
    typer.echo(f"ok: {detector.name} {detector.version}, {len(bundle.manifest['files'])} files as listed, {folder}")


def detector_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each detector without loading its model."""
    from pacs_guard.detect.bundle import load_bundle
    from pacs_guard.detect.registry import load_detector

    versions = {}
    for name in names:
        if name == _RULES:
            versions[name] = load_detector(name).version
        else:
            bundle = load_bundle(_folder(name))
            versions[bundle.name] = bundle.version
    return versions


def _folder(name: str) -> Path:
    from pacs_guard.detect.bundle import MANIFEST, find_bundle

    if name == _RULES:
        raise BundleError(f"{_RULES} is a set of rules and has no bundle")
    return Path(name) if (Path(name) / MANIFEST).is_file() else find_bundle(name)
