"""Whose study it is: the patient and study modules that the objects made take over from a received instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from pacs_guard.errors import PermanentDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO

_LOG = structlog.get_logger(__name__)
_SEXES = {"M", "F", "O"}

COPIED = (
    "SpecificCharacterSet",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
)
"""Identity only; what else the header says was assessed, not taken over."""


def study_header(instances: Iterable[Callable[[], BinaryIO]], study_uid: str) -> Dataset:
    """Return the patient and study attributes of the first instance that can be read, as UTF-8.

    A value that the standard does not allow is left empty: a broken header must not keep the evidence back.

    Parameters
    ----------
    instances : iterable of callable
        Each opens an instance's Part 10 content.
    study_uid : str

    Raises
    ------
    PermanentDeliveryError
        If no instance can be read.
    """
    for opened in instances:
        try:
            with opened() as content:
                found = dcmread(content, specific_tags=list(COPIED), stop_before_pixels=True)
                found.decode()
        except Exception as error:  # noqa: BLE001  # a broken header raises anything; another instance may do
            _LOG.info("header not usable for results", error=type(error).__name__)  # its text may quote the header
            continue
        return _cleaned(found, study_uid)
    raise PermanentDeliveryError(
        "no instance of the study can be read any more; the objects need its patient and study"
    )


def _cleaned(found: Dataset, study_uid: str) -> Dataset:
    header = Dataset()
    for keyword in COPIED[1:]:
        setattr(header, keyword, _value(found, keyword))
    header.StudyInstanceUID = study_uid
    header.SpecificCharacterSet = "ISO_IR 192"
    return header


def _value(found: Dataset, keyword: str) -> Any:
    value = found.get(keyword)
    check = _CHECKS.get(keyword, str)
    try:
        return check(value) if value else ""
    except ValueError:
        return ""


def _sex(value: Any) -> str:
    if value not in _SEXES:
        raise ValueError(f"PatientSex is {value!r}; expected M, F or O")
    return str(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "PatientBirthDate": lambda value: str(DA(str(value))),
    "StudyDate": lambda value: str(DA(str(value))),
    "StudyTime": lambda value: str(TM(str(value))),
    "PatientSex": _sex,
    "PatientName": lambda value: value,
}
