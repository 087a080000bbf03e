"""``model retrain``: hand labelled studies to a training process of low priority, and announce what it proposes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from datetime import UTC, datetime
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import structlog
import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.model import bundle_in_force
from pacs_guard.cli.reviewed import write_labelled
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.errors import PacsGuardError, RetrainingError
from pacs_guard.ops.background import run_in_background
from pacs_guard.ops.proposals import latest_proposals, proposal_file
from pacs_guard.ops.roles import role_lock
from pacs_guard.queue.reviewed import decisions_since, presumed_clean, reviewed_studies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import RetrainingSettings, Settings
    from pacs_guard.detect.bundle import Bundle

TOO_FEW = "too few"
_LOG = structlog.get_logger(__name__)
_TRAINING = "training"
_HOUR, _DAY = 3600.0, 86400.0


def retrain_model(config: Path | None, name: str | None, *, data: Path | None) -> int:
    """Retrain one detector, or all of ``retraining.detectors``; return 1 if for one of them nothing was trained."""
    stores = open_stores(settings_from(config))
    status = 0
    for one in [name] if name else stores.settings.retraining.detectors:
        proposal = run_retraining(stores, one, data=data)
        typer.echo(proposal_file(stores.settings.proposals_dir, one, proposal["version"], ".txt").read_text("utf-8"))
        status |= proposal["outcome"] == TOO_FEW
        if proposal["outcome"] != TOO_FEW:
            typer.echo(f"to put it in force: pacs-guard model promote {one} {proposal['version']} --by … --reason …")
    return status


def run_retraining(stores: Stores, name: str, *, data: Path | None = None, stop: Event | None = None) -> dict[str, Any]:
    """Train a challenger of a detector and return what is proposed; nothing is put in force.

    Parameters
    ----------
    stores : Stores
    name : str
        Of the detector's bundle.
    data : Path, optional
        Base to train on, instead of ``retraining.data``.
    stop : threading.Event, optional
        Ends the training when set.

    Raises
    ------
    RetrainingError
        If training is not installed, fails, or is ended early.
    """
    if importlib.util.find_spec(_TRAINING) is None:
        raise RetrainingError("the training package is not installed here: pip install 'pacs-guard[training]'")
    settings = stores.settings
    champion = bundle_in_force(stores, name)
    folder = settings.node.data_dir / "retraining"
    with role_lock(settings.node.data_dir / "run", "retraining", wait_seconds=0.0):
        version = _new_version(settings, champion)
        proposal = proposal_file(settings.proposals_dir, name, version)
        for made in (folder, proposal.parent, settings.models_dir / name):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        reviewed, log = folder / "reviewed", folder / f"{name}-{version}.log"
        try:
            _export(stores, reviewed)
            command = _command(settings.retraining, champion, version, reviewed, settings.models_dir, proposal)
            command += _base(data or settings.retraining.data)
            _LOG.info("training starts", detector=name, version=version, log=str(log))
            _train(command, log, settings.retraining, stop)
        finally:
            shutil.rmtree(reviewed, ignore_errors=True)  # copies of patients' images
    proposed: dict[str, Any] = json.loads(proposal.read_text(encoding="utf-8"))
    stores.models.announce_proposal(name, version, f"{proposed['outcome']}: {proposed['why']}")
    return proposed


def _export(stores: Stores, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    passed = presumed_clean(stores.database, limit=stores.settings.retraining.presumed_clean)
    write_labelled(chain(reviewed_studies(stores.database, stores.review), passed), stores.spool(), to)


def _command(
    settings: RetrainingSettings, champion: Bundle, version: str, reviewed: Path, models: Path, proposal: Path
) -> list[str]:
    return [
        *(sys.executable, "-m", _TRAINING, "retrain", str(champion.path)),
        *("--reviewed", str(reviewed)),
        *("--out", str(models / champion.name / version)),
        *("--version", version),
        *("--proposal", str(proposal)),
        *("--least", str(settings.least_held_back)),
        *("--networks", str(settings.networks)),
    ]


def _base(data: Path | None) -> list[str]:
    return ["--data", str(data)] if data is not None else []


def _train(command: list[str], log: Path, settings: RetrainingSettings, stop: Event | None) -> None:
    status = run_in_background(command, log, nice=settings.nice, limit_seconds=settings.max_hours * _HOUR, stop=stop)
    if status:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit status {status}"
        hint = ": pip install 'pacs-guard[training]'" if "ModuleNotFoundError" in why else ""
        raise RetrainingError(f"training failed: {why}{hint} (see {log})")


def _new_version(settings: Settings, champion: Bundle) -> str:
    stem = f"{champion.version.split('+')[0]}+retrained.{datetime.now(UTC):%Y%m%d}"
    taken = {path.name for path in (settings.models_dir / champion.name).glob("*")}
    taken |= {path.stem.removeprefix(f"{champion.name}-") for path in settings.proposals_dir.glob("*.json")}
    return next(version for number in count(1) if (version := f"{stem}.{number}") not in taken)


def retraining_chore(stores: Stores, stop: Event) -> Callable[[], None]:
    """Return what retrains by schedule: when it is time, and people decided about enough studies since."""

    def retrain() -> None:
        settings = stores.settings.retraining
        for name in settings.detectors:
            last = latest_proposals(stores.settings.proposals_dir).get(name)
            if last is not None and CLOCK() - last.at < settings.every_days * _DAY:
                continue
            if decisions_since(stores.database, last.at if last else 0.0) < settings.least_new_labels:
                continue
            try:
                run_retraining(stores, name, stop=stop)
            except PacsGuardError as error:
                _LOG.error("retraining failed; it is tried again", detector=name, error=str(error))

    return retrain


def outcome_of(settings: Settings, bundle: Bundle) -> str | None:
    """Return what a version's proposal came to, in a few words; None where there is none."""
    try:
        text = proposal_file(settings.proposals_dir, bundle.name, bundle.version).read_text(encoding="utf-8")
        proposal: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return None
    return f"{proposal.get('outcome')}: {proposal.get('why')}"
