"""``quarantine export``, ``studies export`` and ``studies collect``: instances as DICOM files outside the spool."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.domain.labels import Label
from pacs_guard.errors import ConfigurationError, SpoolError
from pacs_guard.queue.reviewed import instances_of, presumed_clean, reviewed_studies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.reviewed import ReviewedStudy
    from pacs_guard.spool.store import StoredFiles

LABELS = "labels.json"
FORMAT = 1


def export_reviewed(config: Path | None, to: Path) -> None:
    """Copy the instances of every reviewed study into a folder, with what was decided in ``labels.json``.

    Raises
    ------
    ConfigurationError
        If the folder is not empty.
    """
    _require_empty(to)
    stores = open_stores(settings_from(config))
    studies = write_labelled(reviewed_studies(stores.database, stores.review), stores.spool(), to)
    counts = [sum(one["label"] == label for one in studies) for label in ("clean", "tampered")]
    typer.echo(f"{counts[0]} false alarms and {counts[1]} confirmed studies written to {to}; they show patients")


def write_labelled(studies: Iterable[ReviewedStudy], spool: StoredFiles, to: Path) -> list[dict[str, Any]]:
    """Copy studies into a folder with their labels, and return these."""
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for study in studies:
        label = write_study(study, spool, to)
        if label["instances"]:
            written.append(label)
        if study.gone:
            typer.echo(f"study {study.id}: {study.gone} instances were deleted after their retention", err=True)
    whole = {"format": FORMAT, "exported_at": _moment(CLOCK()), "studies": written}
    (to / LABELS).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return written


def collect_clean(config: Path | None, to: Path, *, source: str | None, limit: int | None) -> None:
    """Copy what passed, was suspected in shadow mode, or was cleared by a person, into a folder for each patient.

    What is there already stays, so that a folder grows beyond what the spool keeps.
    """
    stores = open_stores(settings_from(config))
    spool, count, before = stores.spool(), 0, {one.name for one in to.glob("*/study-*")}
    reviewed = (one for one in reviewed_studies(stores.database, stores.review) if one.label is Label.CLEAN)
    passed = presumed_clean(stores.database, source=source, suspected=True, limit=limit)
    for study in chain(reviewed, passed):
        mine = source is None or any(one.source == source for one in study.instances)
        if not study.instances or not mine or f"study-{study.id}" in before:
            continue
        with spool.content(study.instances[0]) as content:
            folder = to / patient_folder(content, study.instances[0].key.study_uid)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        count += bool(write_study(study, spool, folder)["instances"])
    patients = len({one.parent for one in to.glob("*/study-*")})
    typer.echo(f"{count} studies added to {to}, which holds {patients} now; they show patients")


def export_study(config: Path | None, study: str, to: Path) -> None:
    """Copy the instances of one study, as they came in, into a folder.

    Raises
    ------
    ConfigurationError
        If the folder is not empty.
    SpoolError
        If something of the study cannot be read; all else was copied then.
    """
    _require_empty(to)
    stores = open_stores(settings_from(config))
    study_id = stores.review.find(study)
    instances, gone = instances_of(stores.database, study_id)
    copied = len(list(copy_instances(study_id, instances, stores.spool(), to)))
    typer.echo(f"{copied} instances of study {study_id} written to {to}; they show a patient")
    if lost := len(instances) - copied:
        raise SpoolError(f"{lost} instances of study {study_id} could not be read")
    if gone:
        typer.echo(f"{gone} instances of study {study_id} were deleted after their retention", err=True)


def _require_empty(to: Path) -> None:
    if to.exists() and any(to.iterdir()):
        raise ConfigurationError([f"--to: {to} is not empty; give a new folder, so that nothing is mixed"])


def patient_folder(content: BinaryIO, study_uid: str) -> str:
    """Return a name that a patient's studies share and that does not tell who it is."""
    import hashlib

    from pydicom import dcmread

    ds = dcmread(content, stop_before_pixels=True, force=True, specific_tags=["PatientID", "IssuerOfPatientID"])
    who = f"{ds.get('IssuerOfPatientID') or ''}\0{ds.get('PatientID') or study_uid}"
    return hashlib.sha256(who.encode()).hexdigest()[:16]


def write_study(study: ReviewedStudy, spool: StoredFiles, to: Path) -> dict[str, Any]:
    """Copy one study's instances as received, each verified, and return its label.

    The label holds no identifier that the instances do not hold; `by` is the person who decided.
    """
    folder = to / f"study-{study.id}"
    copied = [
        {"file": f"{folder.name}/{file.name}", "sop_uid": instance.key.sop_uid, "sha256": instance.key.sha256}
        for file, instance in copy_instances(study.id, study.instances, spool, folder)
    ]
    kept = {one["sop_uid"] for one in copied}
    return {
        "folder": folder.name,
        "label": str(study.label),
        "action": study.action,
        "by": study.who,
        "reason": study.reason,
        "at": _moment(study.at),
        "places": [one for one in study.places if one["sop_uid"] in kept],
        "found": [one for one in study.found if one["sop_uid"] in kept],
        "instances": copied,
    }


def copy_instances(
    study_id: int, instances: Sequence[StoredInstance], spool: StoredFiles, folder: Path
) -> Iterator[tuple[Path, StoredInstance]]:
    """Copy instances as received into DICOM files of a folder, each verified; what cannot be read is left out."""
    for number, instance in enumerate(instances, start=1):
        file = folder / f"{number:05d}.dcm"
        try:
            spool.verify(instance)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with spool.content(instance) as content, file.open("wb") as copy:
                shutil.copyfileobj(content, copy)
        except (SpoolError, OSError) as error:
            typer.echo(f"study {study_id}: {error}; it is left out", err=True)
        else:
            yield file, instance


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
