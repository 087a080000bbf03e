"""From an assessment's evidence folder to DICOM objects in it."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from pydicom import dcmwrite
from pydicom.uid import generate_uid

from pacs_guard.deliver.results.header import study_header
from pacs_guard.deliver.results.picture import picture
from pacs_guard.deliver.results.report import report
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import PermanentDeliveryError
from pacs_guard.spool.store import StoredFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

    from pacs_guard.queue.results import ClaimedResult

_FILE_META_END = 144  # preamble, prefix, and the group length element with its value (PS3.10 7.1)


def make_objects(result: ClaimedResult, data_dir: Path, spool_dir: Path, *, node: str) -> list[StoredInstance]:
    """Write a study's report and pictures into its evidence folder, and return them.

    Parameters
    ----------
    result : ClaimedResult
    data_dir, spool_dir : Path
        What the evidence folder and the instances' paths are relative to.
    node : str
        AE title of the node.

    Raises
    ------
    PermanentDeliveryError
        If the evidence has no findings, or nothing of the study can be read any more.
    OSError
        If a file cannot be read or written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the header
        return _make(result, data_dir, spool_dir, node)


def _make(result: ClaimedResult, data_dir: Path, spool_dir: Path, node: str) -> list[StoredInstance]:
    folder = data_dir / result.evidence
    evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
    findings = list(_findings(evidence))
    if not findings:
        raise PermanentDeliveryError(f"{folder / 'evidence.json'} names no finding")
    spool = StoredFiles(spool_dir)
    header = study_header((partial(spool.content_at, instance.path) for instance in result.instances), result.study_uid)
    made: dict[str, Dataset] = {
        "report.dcm": report(header, result.instances, findings, versions=evidence["detectors"], node=node)
    }
    sources = {instance.key.sop_uid: instance for instance in result.instances}
    series_uid = generate_uid(prefix=None)
    pictured = [finding for finding in findings if finding["picture"]]
    for number, finding in enumerate(pictured, start=1):
        path = folder / finding["folder"] / finding["picture"]
        source = sources.get(finding["sop_uid"])
        made[f"picture-{number}.dcm"] = picture(
            header, path, finding, source, series_uid=series_uid, number=number, node=node
        )
    return [_write(folder / name, dataset, result, data_dir) for name, dataset in made.items()]


def _findings(evidence: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for series in evidence["series"]:
        for finding in series["findings"]:
            yield finding | {"folder": series["folder"]}


def _write(path: Path, dataset: Dataset, result: ClaimedResult, data_dir: Path) -> StoredInstance:
    """Write an object durably, and return it as the queue knows instances."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as file:
        dcmwrite(file, dataset, enforce_file_format=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    content = path.read_bytes()
    offset = _FILE_META_END + int.from_bytes(content[_FILE_META_END - 4 : _FILE_META_END], "little")
    data_set = content[offset:]
    digest = hashlib.sha256(data_set).hexdigest()
    return StoredInstance(
        id=0,
        key=InstanceKey(result.study_uid, str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID), digest),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        path=str(path.relative_to(data_dir)),
        offset=offset,
        length=len(data_set),
    )
