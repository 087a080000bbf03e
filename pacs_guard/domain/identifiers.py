"""AE titles, UIDs and the keys of instances, as DICOM defines them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pacs_guard.errors import IdentifierError

IMPLEMENTATION_CLASS_UID = "2.25.110098454022226046515550322322925630231"
"""Names this software in associations and in file meta information (PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME = "PACS_GUARD_0.1"

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_MAX_UID_LENGTH = 64
_MAX_AE_TITLE_LENGTH = 16


def ae_title(value: str) -> str:
    r"""Return `value` as an AE title: leading and trailing spaces removed (PS3.5 6.2, VR AE).

    Raises
    ------
    IdentifierError
        If it is empty, longer than 16 characters, or has a backslash or a character outside printable ASCII.

    Examples
    --------
    >>> ae_title("PACS  ")
    'PACS'
    """
    title = value.strip(" ")
    if not title or len(title) > _MAX_AE_TITLE_LENGTH:
        raise IdentifierError(f"AE title {value!r} has {len(title)} characters; expected 1 to {_MAX_AE_TITLE_LENGTH}")
    if any(not " " <= character <= "~" or character == "\\" for character in title):
        raise IdentifierError(f"AE title {value!r} has a character other than printable ASCII without backslash")
    return title


def is_uid(value: str) -> bool:
    """Whether `value` is a UID: digits and dots, no leading zeros, at most 64 characters (PS3.5 9.1)."""
    return len(value) <= _MAX_UID_LENGTH and _UID.fullmatch(value) is not None


def uid(value: str, *, name: str = "UID") -> str:
    """Return `value` without its padding if it can serve as a UID key.

    Identifiers that break PS3.5 9.1 but are harmless text are let through: a detector judges them, the receiver
    loses nothing over them.

    Raises
    ------
    IdentifierError
        If it is empty, longer than 64 characters, or not printable ASCII.
    """
    text = value.rstrip("\0 ")
    if not text or len(text) > _MAX_UID_LENGTH or not (text.isascii() and text.isprintable()) or " " in text:
        raise IdentifierError(
            f"{name} {text[:80]!r} is not usable; expected 1 to {_MAX_UID_LENGTH} printable characters"
        )
    return text


@dataclass(frozen=True, slots=True, order=True)
class InstanceKey:
    """What makes an instance the same instance: its three UIDs and the hash of its data set's bytes.

    The same UIDs with another hash are not a duplicate but two instances, both kept.

    Attributes
    ----------
    study_uid, series_uid, sop_uid : str
        StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID from the data set.
    sha256 : str
        Hexadecimal SHA-256 of the data set as it was encoded on the wire, without file meta information.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sha256: str
