"""C-ECHO, to ask a destination whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs_guard.deliver.association import drop, open_association
from pacs_guard.errors import PermanentDeliveryError, TransientDeliveryError

if TYPE_CHECKING:
    from pacs_guard.config import DestinationSettings, Settings


VERIFICATION = "1.2.840.10008.1.1"
"""Verification SOP Class (PS3.4 annex A)."""


def echo(settings: Settings, destination: DestinationSettings) -> None:
    """Ask a destination for a C-ECHO (PS3.4 annex A).

    Raises
    ------
    TransientDeliveryError
        If it is out of reach, rejects the node or does not answer.
    PermanentDeliveryError
        If it does not take part in verification, or answers with a failure.
    """
    syntaxes = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    assoc = open_association(destination, settings.node.ae_title, [(VERIFICATION, syntaxes)])
    try:
        answer = assoc.send_c_echo()
        if "Status" not in answer:
            raise TransientDeliveryError(
                f"{destination.name} did not answer a C-ECHO within {destination.dimse_timeout_seconds:g} s"
            )
        if answer.Status != 0x0000:
            raise PermanentDeliveryError(f"{destination.name} answered a C-ECHO with 0x{answer.Status:04X}")
        assoc.release()
    except RuntimeError as error:  # the association ended before the request was sent
        raise TransientDeliveryError(f"{destination.name} broke the association off") from error
    finally:
        drop(assoc)
