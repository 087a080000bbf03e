"""``pacs-guard model``: look at bundles, verify them, and say which version is in force."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from pacs_guard.cli import output
from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.output import print_json
from pacs_guard.cli.wiring import open_stores
from pacs_guard.errors import BundleError, ConfigurationError, LifecycleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import Settings
    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.domain.models import LoadedModel, ModelVersion

_RULES = "integrity"
_LOOK_SECONDS = 0.5


def list_models(config: Path | None, *, json: bool) -> None:
    """Print every version of every model, and which are in force."""
    stores = _stores_if_any(config)
    found = list(_listed(stores))
    if json:
        print_json(found)
        return
    table = Table("name", "version", "sha256", "in force", "proposal", "folder")
    for one in found:
        table.add_row(*(str(one[key] or "") for key in ("name", "version", "sha256", "in_force", "proposal", "folder")))
    output.console().print(table)
    for worker, loaded in stores.models.loaded() if stores is not None else ():
        if loaded.error is not None:
            output.console().print(
                f"{worker} judges by {loaded.name} {loaded.version}: {loaded.error}", highlight=False, markup=False
            )


def _stores_if_any(config: Path | None) -> Stores | None:
    try:
        settings = settings_from(config)
    except ConfigurationError:
        if config is not None:
            raise
        return None  # what comes with the node can be listed anywhere
    return open_stores(settings)


def _listed(stores: Stores | None) -> Iterator[dict[str, Any]]:
    from pacs_guard.cli.retraining import outcome_of
    from pacs_guard.detect.bundle import list_bundles, load_bundle
    from pacs_guard.detect.registry import load_detector

    configured = configured_bundles(stores.settings) if stores is not None else {}
    promoted = stores.models.in_force() if stores is not None else {}
    rules = "by the settings" if stores is not None and _RULES in stores.settings.detect.detectors else None
    version = load_detector(_RULES).version
    yield _row(_RULES, version, "", rules, None, "rules, without a bundle")
    folders = [*list_bundles(), *(bundle.path for bundle in configured.values())]
    if stores is not None:
        made = (file.parent for file in stores.settings.models_dir.glob("*/*/bundle.json"))
        folders += sorted(folder for folder in made if not folder.name.startswith("."))  # one is being made there
    for folder in dict.fromkeys(path.resolve() for path in folders):
        try:
            bundle = load_bundle(folder)
        except BundleError as error:
            yield _row(folder.parent.name, folder.name, "", None, f"cannot be used: {error}", str(folder))
            continue
        chosen = promoted.get(bundle.name)
        state = None
        if chosen is not None:
            state = "promoted" if chosen.sha256 == bundle.sha256 else None
        elif bundle.name in configured and configured[bundle.name].sha256 == bundle.sha256:
            state = "by the settings"
        proposal = outcome_of(stores.settings, bundle) if stores is not None else None
        yield _row(bundle.name, bundle.version, bundle.sha256[:12], state, proposal, str(folder))


def _row(
    name: str, version: str, sha256: str, in_force: str | None, proposal: str | None, folder: str
) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "sha256": sha256,
        "in_force": in_force,
        "proposal": proposal,
        "folder": folder,
    }


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


def promote_model(config: Path | None, name: str, version: str, *, who: str, reason: str, wait_seconds: float) -> None:
    """Put a version in force, once it has been verified and loaded here.

    Raises
    ------
    BundleError
        If it is not there, not intact or cannot be loaded; nothing changes then.
    """
    from pacs_guard.cli.retraining import outcome_of
    from pacs_guard.detect.models import find_version
    from pacs_guard.detect.registry import open_detector
    from pacs_guard.domain.models import ModelVersion

    _require(who=who, reason=reason)
    stores = open_stores(settings_from(config))
    configured = _configured(stores.settings, name)
    bundle = find_version(stores.settings.models_dir, configured, name, version)
    if bundle.sha256 == configured.sha256 and name not in stores.models.in_force():
        raise LifecycleError(f"{name} {version} is in force already, by the settings")
    open_detector(bundle)
    if (outcome := outcome_of(stores.settings, bundle)) is not None:
        typer.echo(f"its proposal: {outcome}")
    chosen = ModelVersion(bundle.name, bundle.version, bundle.sha256)
    before = _heard(stores, name)
    stores.models.promote(chosen, who=who, reason=reason)
    typer.echo(f"{chosen} is in force; workers take it before their next study")
    _wait(stores, name, bundle.sha256, wait_seconds, before)


def roll_back_model(config: Path | None, name: str, *, who: str, reason: str, wait_seconds: float) -> None:
    """Go back to the version that was in force before the last promotion."""
    _require(who=who, reason=reason)
    stores = open_stores(settings_from(config))
    heard = _heard(stores, name)
    now = stores.models.roll_back(name, who=who, reason=reason)
    typer.echo(f"in force: {now or f'{name} as the settings say'}; workers take it before their next study")
    _wait(stores, name, now.sha256 if now else _configured(stores.settings, name).sha256, wait_seconds, heard)


def _heard(stores: Stores, name: str) -> dict[str, LoadedModel]:
    return {worker: one for worker, one in stores.models.loaded() if one.name == name}


def _wait(stores: Stores, name: str, sha256: str, seconds: float, before: Mapping[str, LoadedModel]) -> None:
    """Say which workers took a version; one that is at a study takes it afterwards."""
    end = time.monotonic() + seconds
    said: set[str] = set()
    while True:
        heard = _heard(stores, name)
        for worker, one in heard.items():
            answered = one.sha256 == sha256 if one.error is None else one != before.get(worker)
            if worker in said or not answered:
                continue
            said.add(worker)
            typer.echo(f"{worker} judges by {one.version}" + (f", as it should not: {one.error}" if one.error else ""))
        if len(said) == len(heard) or time.monotonic() >= end:
            break
        time.sleep(_LOOK_SECONDS)
    for worker in sorted(set(heard) - said):
        typer.echo(f"{worker} is at a study and has not taken it yet")


def configured_bundles(settings: Settings) -> dict[str, Bundle]:
    """Return the bundles that the settings name and that are intact, by name."""
    from pacs_guard.detect.models import configured_bundle

    found: dict[str, Bundle] = {}
    for entry in settings.detect.detectors:
        if entry == _RULES:
            continue
        try:
            bundle = configured_bundle(entry)
        except BundleError:
            continue  # the worker says so
        found[bundle.name] = bundle
    return found


def bundle_in_force(stores: Stores, name: str) -> Bundle:
    """Return the bundle that is promoted, else the one that the settings name.

    Raises
    ------
    BundleError
        If it cannot be used.
    ConfigurationError
        If no configured detector has this name.
    """
    from pacs_guard.detect.models import find_version

    configured = _configured(stores.settings, name)
    promoted: ModelVersion | None = stores.models.in_force().get(name)
    if promoted is None:
        return configured
    return find_version(stores.settings.models_dir, configured, name, promoted.version)


def _configured(settings: Settings, name: str) -> Bundle:
    found = configured_bundles(settings)
    if name not in found:
        known = ", ".join(found) or "none"
        raise ConfigurationError(
            [f"{name!r} was given; expected a detector of detect.detectors with a bundle: {known}"]
        )
    return found[name]


def _require(*, who: str, reason: str) -> None:
    empty = [name for name, value in (("--by", who), ("--reason", reason)) if not value.strip()]
    if empty:
        raise ConfigurationError([f"{name}: nothing was given; it is recorded for good" for name in empty])


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
