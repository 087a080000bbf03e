"""``quarantine export``: what people decided, as labelled data to train from."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError, SpoolError
from pacs_guard.queue.reviewed import RELEASE, reviewed_studies

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.queue.reviewed import ReviewedStudy
    from pacs_guard.spool.store import StoredFiles

LABELS = "labels.json"
FORMAT = 1
_PLACES = (FindingKind.FB, FindingKind.FM)


def export_reviewed(config: Path | None, to: Path) -> None:
    """Copy the instances of every reviewed study into a folder, with what was decided in ``labels.json``.

    Raises
    ------
    ConfigurationError
        If the folder is not empty.
    """
    if to.exists() and any(to.iterdir()):
        raise ConfigurationError([f"--to: {to} is not empty; give a new folder, so that nothing is mixed"])
    stores = open_stores(settings_from(config))
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    spool, studies = stores.spool(), []
    for study in reviewed_studies(stores.database, stores.review):
        label = write_study(study, spool, to)
        if label["instances"]:
            studies.append(label)
        if study.gone:
            typer.echo(f"study {study.id}: {study.gone} instances were deleted after their retention", err=True)
    whole = {"format": FORMAT, "exported_at": _moment(CLOCK()), "studies": studies}
    (to / LABELS).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    counts = [sum(one["label"] == label for one in studies) for label in ("clean", "tampered")]
    typer.echo(f"{counts[0]} false alarms and {counts[1]} confirmed studies written to {to}; they show patients")


def write_study(study: ReviewedStudy, spool: StoredFiles, to: Path) -> dict[str, Any]:
    """Copy one study's instances as received, each verified, and return its label.

    The label holds no identifier that the instances do not hold; `by` is the person who decided.
    """
    folder = to / f"study-{study.id}"
    copied = []
    for number, instance in enumerate(study.instances, start=1):
        file = folder / f"{number:05d}.dcm"
        try:
            spool.verify(instance)
            folder.mkdir(exist_ok=True)
            shutil.copyfile(spool.absolute(instance), file)
        except (SpoolError, OSError) as error:
            typer.echo(f"study {study.id}: {error}; it is left out", err=True)
            continue
        key = instance.key
        copied.append({"file": f"{folder.name}/{file.name}", "sop_uid": key.sop_uid, "sha256": key.sha256})
    released = study.action == RELEASE
    kept = {one["sop_uid"] for one in copied}
    places = [
        {"kind": one["kind"], "sop_uid": one["sop_uid"], "x": one["x"], "y": one["y"], "detector": one["detector"]}
        for one in study.findings
        if one["kind"] in _PLACES and one["sop_uid"] in kept and one["x"] is not None
    ]
    return {
        "folder": folder.name,
        "label": "clean" if released else "tampered",
        "action": study.action,
        "by": study.who,
        "reason": study.reason,
        "at": _moment(study.at),
        "places": [] if released else places,
        "instances": copied,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
