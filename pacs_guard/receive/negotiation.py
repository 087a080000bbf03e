"""Which presentation contexts are accepted, and with which transfer syntax (PS3.8 9.3.2.2, PS3.4 B.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (
    _STORAGE_CLASSES,  # the library's own list of storage SOP classes has no public name
    uid_to_service_class,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

VERIFICATION = "1.2.840.10008.1.1"

# these are stored, but not in a study
_NOT_IN_A_STUDY = {
    "1.2.840.10008.1.3.10",  # Media Storage Directory
    "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
    "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
    "1.2.840.10008.5.1.4.39.1",  # Color Palette
    "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
    "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
    "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
}
# their bytes are elsewhere, or are no data set encoding of PS3.5
_NOT_KEPT_HERE = {
    "1.2.840.10008.1.2.4.94",  # JPIP Referenced
    "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.204",  # JPIP HTJ2K Referenced
    "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME encapsulation
    "1.2.840.10008.1.2.6.2",  # XML Encoding
    "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110 streams
    "1.2.840.10008.1.2.7.2",
    "1.2.840.10008.1.2.7.3",
    "1.2.840.10008.1.20",  # Papyrus 3
}


def _is_storage(uid: str, name: str, kind: str) -> bool:
    return kind == "SOP Class" and "Storage" in name and not uid.startswith("1.2.840.10008.1.20.")


STORAGE_SOP_CLASSES: frozenset[str] = (
    frozenset(map(str, _STORAGE_CLASSES.values()))
    | frozenset(uid for uid, (name, kind, *_) in UID_dictionary.items() if _is_storage(uid, name, kind))
) - _NOT_IN_A_STUDY
"""Every storage SOP class of the standard whose instances belong to a study, retired ones included."""

TRANSFER_SYNTAXES: frozenset[str] = (
    frozenset(uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax") - _NOT_KEPT_HERE
)
"""Every transfer syntax in which a data set can be kept."""


def is_stored(sop_class_uid: str, *, unknown: bool) -> bool:
    """Whether instances of a SOP class are taken.

    Parameters
    ----------
    sop_class_uid : str
    unknown : bool
        Whether SOP classes that the standard (as known here) does not list are taken for storage.
    """
    return sop_class_uid in STORAGE_SOP_CLASSES or (unknown and sop_class_uid not in UID_dictionary)


def settle_transfer_syntaxes(proposed: Iterable[PresentationContext]) -> None:
    """Leave in each proposed context the proposer's first transfer syntax that can be kept.

    Otherwise the acceptor's order would decide, and a peer that can send what it has would be made to convert it.
    """
    for context in proposed:
        chosen = next((syntax for syntax in context.transfer_syntax if syntax in TRANSFER_SYNTAXES), None)
        if chosen is not None:
            context.transfer_syntax = [chosen]


def supported_contexts(
    proposed: Iterable[PresentationContext], *, unknown: bool, storage: bool = True
) -> list[PresentationContext]:
    """Return the presentation contexts that the node supports, among the abstract syntaxes that are proposed.

    Each has those transfer syntaxes only that are proposed with it: the library takes long to note one, and a peer may
    propose 128 contexts.

    Parameters
    ----------
    proposed : iterable of PresentationContext
    unknown : bool
        Whether SOP classes that the standard (as known here) does not list are taken for storage.
    storage : bool
        Whether the peer may store at all.
    """
    wanted: dict[str, set[str]] = {}
    for context in proposed:
        wanted.setdefault(str(context.abstract_syntax), set()).update(map(str, context.transfer_syntax))
    return [
        _supported(uid, sorted(syntaxes & TRANSFER_SYNTAXES))
        for uid, syntaxes in sorted(wanted.items())
        if uid == VERIFICATION or (storage and is_stored(uid, unknown=unknown))
    ]


def _supported(sop_class_uid: str, syntaxes: list[str]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = UID(sop_class_uid)
    # where none can be kept, the peer is told that it is its transfer syntaxes that are not supported
    context.transfer_syntax = [UID(syntax) for syntax in syntaxes or [ExplicitVRLittleEndian]]
    return context


def needs_service_class(sop_class_uid: str) -> bool:
    """Whether the library has to be told that this SOP class belongs to the storage service class."""
    return uid_to_service_class(sop_class_uid) is not StorageServiceClass
