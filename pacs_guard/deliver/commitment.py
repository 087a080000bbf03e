"""Storage commitment over an association: as SCU towards a destination, as SCP towards a modality (PS3.4 J)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt

from pacs_guard.deliver.association import drop, open_association
from pacs_guard.domain.commitment import (
    ALL_COMMITTED,
    REQUEST,
    SOME_FAILED,
    SOP_CLASS,
    SOP_INSTANCE,
    CommitmentReport,
    Reference,
    read_report,
)
from pacs_guard.errors import DataSetError, QueueError, TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pynetdicom.association import Association

    from pacs_guard.config import DestinationSettings

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115


class ReportListener:
    """Takes a destination's report over the association on which it was asked.

    Parameters
    ----------
    record : callable
        Writes a report down, and says whether its transaction is known.
    """

    def __init__(self, record: Callable[[CommitmentReport], bool]) -> None:
        self._record = record
        self.has_come = threading.Event()

    @property
    def handlers(self) -> list[tuple[Any, ...]]:
        """What answers N-EVENT-REPORT requests, as pynetdicom wants it."""
        return [(evt.EVT_N_EVENT_REPORT, self._take)]

    def _take(self, event: Any) -> tuple[int, None]:
        try:
            known = self._record(read_report(event.event_type, event.event_information))
        except DataSetError as error:
            return error.status, None
        except QueueError:
            return _PROCESSING_FAILURE, None
        if not known:
            return _INVALID_ARGUMENT, None
        self.has_come.set()
        return _SUCCESS, None


def request_commitment(
    association: Association, destination: str, transaction_uid: str, instances: Iterable[Reference]
) -> None:
    """Ask a destination for its commitment.

    Raises
    ------
    TransientDeliveryError
        If it does not take the request on.
    """
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = DicomSequence(map(_reference, instances))
    try:
        answer, _ = association.send_n_action(information, REQUEST, SOP_CLASS, SOP_INSTANCE)
    except (RuntimeError, ValueError) as error:  # the association ended before the request was sent
        raise TransientDeliveryError(f"{destination} broke the association off") from error
    if "Status" not in answer:
        raise TransientDeliveryError(f"{destination} did not answer a storage commitment request")
    if answer.Status != _SUCCESS:
        raise TransientDeliveryError(f"{destination} answered a storage commitment request with 0x{answer.Status:04X}")


def send_report(peer: DestinationSettings, calling_ae: str, report: CommitmentReport) -> None:
    """Tell a modality what became of its request, over an association of its own.

    Raises
    ------
    TransientDeliveryError
        If it is out of reach, or does not take the report.
    PermanentDeliveryError
        If it does not take part in storage commitment.
    """
    association = open_association(peer, calling_ae, [(SOP_CLASS, SYNTAXES)], scp_of=[SOP_CLASS])
    event_type = SOME_FAILED if report.failed else ALL_COMMITTED
    try:
        answer, _ = association.send_n_event_report(_information(report), event_type, SOP_CLASS, SOP_INSTANCE)
        if "Status" not in answer:
            raise TransientDeliveryError(f"{peer.name} did not answer a storage commitment report")
        if answer.Status != _SUCCESS:
            raise TransientDeliveryError(f"{peer.name} answered a storage commitment report with 0x{answer.Status:04X}")
        association.release()
    except (RuntimeError, ValueError) as error:
        raise TransientDeliveryError(f"{peer.name} broke the association off") from error
    finally:
        drop(association)


def _information(report: CommitmentReport) -> Dataset:
    """Return the Event Information (PS3.4 table J.3-2)."""
    information = Dataset()
    information.TransactionUID = report.transaction_uid
    if report.committed:
        information.ReferencedSOPSequence = DicomSequence(map(_reference, report.committed))
    if report.failed:
        information.FailedSOPSequence = DicomSequence(_failure(*item) for item in report.failed)
    return information


def _reference(instance: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_uid
    return item


def _failure(instance: Reference, reason: int) -> Dataset:
    item = _reference(instance)
    item.FailureReason = reason
    return item
