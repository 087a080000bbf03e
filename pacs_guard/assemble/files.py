"""DICOM files and folders at hand to StoredInstances, without a node."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pydicom
from pydicom.filereader import read_preamble
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs_guard.assemble import header
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import DataSetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydicom import Dataset

_DICOM_SUFFIXES = {"", ".dcm", ".dicom", ".ima", ".img"}
_PREFIX = 132
_CANNOT_UNDERSTAND = 0xC000
_CHUNK = 1 << 20


def find_instances(paths: Iterable[Path]) -> tuple[list[StoredInstance], list[str]]:
    """Find the DICOM instances among files and folders, walked in order.

    Parameters
    ----------
    paths : iterable of Path
        Files, or folders with everything under them.

    Returns
    -------
    instances : list of StoredInstance
        With absolute paths, so that any root will do. Absent UIDs are made up: the same file gives the same ones, and
        files of one folder share a study and a series.
    problems : list of str
        One line for each file that should have been an instance and is none or needed made-up UIDs, and one that
        counts what plainly is something else.
    """
    instances: list[StoredInstance] = []
    problems: list[str] = []
    others: Counter[str] = Counter()
    with warnings.catch_warnings():
        # what is malformed is said in `problems` or found by a detector
        warnings.simplefilter("ignore")
        for path in _walk(paths, problems):
            try:
                instance, absent = _instance(path)
            except OSError as error:
                problems.append(f"{path}: cannot be read ({error.strerror or error})")
            except DataSetError as error:
                if path.suffix.lower() in _DICOM_SUFFIXES and path.name.upper() != "DICOMDIR":
                    problems.append(f"{path}: {error}")
                else:
                    others[path.suffix.lower() or path.name] += 1
            else:
                instances.append(instance)
                if absent:
                    problems.append(f"{path}: has no {', '.join(absent)}; made one up from its folder and content")
    if others:
        kinds = ", ".join(f"{suffix} {count}" for suffix, count in sorted(others.items()))
        problems.append(f"{others.total()} files that are no DICOM instances were skipped ({kinds})")
    return instances, problems


def _walk(paths: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            if path.exists():
                yield path.resolve()
            else:
                problems.append(f"{path}: does not exist")
            continue
        for folder, subfolders, names in os.walk(path.resolve()):
            subfolders.sort()
            yield from (Path(folder) / name for name in sorted(names))


def _instance(path: Path) -> tuple[StoredInstance, list[str]]:
    with path.open("rb") as file:
        _refuse_implausible(file)
        try:
            ds = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        except OSError:
            raise
        except Exception as error:  # pydicom lets nearly any exception out of malformed bytes
            raise DataSetError(f"is not readable as DICOM ({error})", status=_CANNOT_UNDERSTAND) from error
        if not ("SOPClassUID" in ds or "PixelRepresentation" in ds):
            raise DataSetError("is no DICOM instance: it names no SOP class", status=_CANNOT_UNDERSTAND)
        offset = _data_set_offset(file)
        digest, length = _hash_from(file, offset)
    uids, absent = _uids(ds, path, digest)
    key = InstanceKey(uids["StudyInstanceUID"], uids["SeriesInstanceUID"], uids["SOPInstanceUID"], digest)
    syntax = _transfer_syntax(ds)
    return StoredInstance(0, key, header.text(ds, "SOPClassUID"), syntax, str(path), offset, length), absent


def _refuse_implausible(file: BinaryIO) -> None:
    """Refuse a file that has neither the DICM prefix nor begins like a data set or its file meta information."""
    start = file.read(_PREFIX)
    file.seek(0)
    if len(start) == _PREFIX and start[128:] == b"DICM":
        return
    # without a prefix the first element must be of group 0002 or 0008, little endian
    if len(start) < 8 or start[1] != 0 or start[0] not in (0x02, 0x08):
        raise DataSetError("is no DICOM file", status=_CANNOT_UNDERSTAND)


def _data_set_offset(file: BinaryIO) -> int:
    """Return where the data set starts, after preamble and file meta information (PS3.10 7.1)."""
    file.seek(0)
    read_preamble(file, force=True)
    while True:
        tag = file.read(8)
        if len(tag) < 8 or tag[:2] != b"\x02\x00":
            file.seek(-len(tag), os.SEEK_CUR)
            return file.tell()
        long_form = tag[4:6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        length = int.from_bytes(file.read(4) if long_form else tag[6:8], "little")
        file.seek(length, os.SEEK_CUR)


def _hash_from(file: BinaryIO, offset: int) -> tuple[str, int]:
    file.seek(offset)
    digest, length = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        length += len(chunk)
    return digest.hexdigest(), length


def _uids(ds: Dataset, path: Path, digest: str) -> tuple[dict[str, str], list[str]]:
    made_from = {
        "StudyInstanceUID": f"{path.parent}",
        "SeriesInstanceUID": f"{path.parent}/",
        "SOPInstanceUID": digest,
    }
    found = {keyword: header.text(ds, keyword) for keyword in made_from}
    absent = [keyword for keyword, value in found.items() if not value]
    for keyword in absent:
        # a UID made of a UUID, PS3.5 B.2
        found[keyword] = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, made_from[keyword]).int}"
    return found, absent


def _transfer_syntax(ds: Dataset) -> str:
    stated = header.text(ds.file_meta, "TransferSyntaxUID")
    if stated:
        return stated
    implicit, _little = ds.original_encoding
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
