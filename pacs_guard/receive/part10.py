"""The head of a DICOM Part 10 file: preamble, prefix and file meta information (PS3.10 7.1)."""

from __future__ import annotations

import struct

from pacs_guard.domain.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_head(sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return everything that comes before the data set.

    The identifiers are written as they are given: a library would refuse or mend those that break PS3.5, and a
    detector could not judge them.

    Parameters
    ----------
    sop_class_uid, sop_uid : str
        From the command set.
    transfer_syntax_uid : str
        Of the presentation context, in which the data set is encoded.
    """
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, b"UI", _padded(sop_class_uid, b"\x00")),
            _element(0x0003, b"UI", _padded(sop_uid, b"\x00")),
            _element(0x0010, b"UI", _padded(transfer_syntax_uid, b"\x00")),
            _element(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID, b"\x00")),
            _element(0x0013, b"SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
        )
    )
    return bytes(128) + b"DICM" + _element(0x0000, b"UL", struct.pack("<I", len(elements))) + elements


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", errors="replace")
    return value + padding * (len(value) % 2)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHI", 0x0002, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value
