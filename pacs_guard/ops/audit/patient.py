"""Whose study it is, for sites that want patient IDs in their audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO


def patient_id(content: BinaryIO) -> str | None:
    """Return the Patient ID of an instance, None if it has none or cannot be read."""
    from pydicom import dcmread  # noqa: PLC0415  # slow to import, and seldom needed

    try:
        found = dcmread(content, specific_tags=["PatientID"], stop_before_pixels=True).get("PatientID")
    except Exception:  # noqa: BLE001  # whatever a broken header raises, the message goes out without an ID
        return None
    return str(found) if found else None
