"""What happens on an association's events: it is judged when requested, its instances are stored, its end is noted."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.service_class import StorageServiceClass

from pacs_guard.errors import QueueError
from pacs_guard.receive.admission import Admission, Reason, Rejection, Request
from pacs_guard.receive.associations import Associations, OpenAssociation
from pacs_guard.receive.commitment import CommitmentService
from pacs_guard.receive.dimse import DataSetStream, StreamingProvider
from pacs_guard.receive.negotiation import (
    is_stored,
    needs_service_class,
    settle_transfer_syntaxes,
    supported_contexts,
)
from pacs_guard.receive.reception import Sender
from pacs_guard.receive.secure import certificate_of, note_expiry, shown
from pacs_guard.receive.storage import PROCESSING_FAILURE, SUCCESS, Storage
from pacs_guard.receive.waiting import WaitingConnections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from pacs_guard.config import Settings
    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.metrics import ReceiveMetrics
    from pacs_guard.spool.store import Spool


class Handlers:
    """Handlers of pynetdicom's events.

    Parameters
    ----------
    settings : Settings
    spool : Spool
    intake : Intake
    metrics : ReceiveMetrics
    log : structlog logger
    commitment : CommitmentService, optional
        Without it, storage commitment is not offered.

    Attributes
    ----------
    associations : Associations
        Those that are open.
    waiting : WaitingConnections
        Those over which no association was requested yet.
    refuse_all : threading.Event
        Once it is set no association is accepted.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        intake: Intake,
        metrics: ReceiveMetrics,
        log: Any,
        commitment: CommitmentService | None = None,
    ) -> None:
        self.associations = Associations(intake, metrics, log)
        self.refuse_all = threading.Event()
        self._intake = intake
        self._is_shared = settings.receive.processes > 1
        self.waiting = WaitingConnections(settings.receive.max_associations)
        self._spool = spool
        self._metrics = metrics
        self._log = log
        self._commitment = commitment
        self._unknown = settings.receive.unknown_sop_classes
        self._admission = Admission(settings)
        self._admitting = threading.Lock()
        self._storage = Storage(
            spool,
            intake,
            metrics,
            log,
            min_free_bytes=settings.receive.min_free_bytes,
            max_refused_bytes=settings.receive.max_refused_bytes,
        )

    def reconfigure(self, settings: Settings) -> None:
        """Treat every later request by `settings`, as far as a node's settings can change while it runs."""
        self._admission.reconfigure(settings)
        if self._commitment is not None:
            self._commitment.reconfigure(settings)
        self._storage.limit(
            min_free_bytes=settings.receive.min_free_bytes, max_refused_bytes=settings.receive.max_refused_bytes
        )

    def bindings(self) -> list[Any]:
        """Return what the library's server is to call, as it wants it."""
        return [
            (evt.EVT_CONN_OPEN, lambda event: self.waiting.add(event.assoc)),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_SOP_COMMON, self._on_sop_common),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_C_STORE, self._on_c_store),
            (evt.EVT_N_ACTION, self._on_commitment, [CommitmentService.on_action]),
            (evt.EVT_N_EVENT_REPORT, self._on_commitment, [CommitmentService.on_report]),
            (evt.EVT_RELEASED, self._on_end, ["released"]),
            (evt.EVT_ABORTED, self._on_end, ["aborted"]),
            (evt.EVT_CONN_CLOSE, self._on_end, ["connection closed"]),
        ]

    def _on_requested(self, event: Any) -> None:
        association = event.assoc
        self.waiting.discard(association)
        try:
            verdict = self._admit(association)
        except Exception:  # noqa: BLE001  # the library would go on and accept
            self._log.exception("association request failed")
            verdict = Rejection(Reason.INTERNAL)
        if verdict is not None:
            self._metrics.association_refused(str(verdict.reason))
            association.acse.send_reject(*verdict.codes)
            association.kill()  # returns once the rejection is sent
            self._audit(association, verdict)

    def _admit(self, association: Association) -> Rejection | None:
        primitive: Any = association.requestor.primitive
        request = Request(
            calling_ae=str(primitive.calling_ae_title).strip(),
            called_ae=str(primitive.called_ae_title).strip(),
            address=str(association.requestor.address),
            certificate=certificate_of(association),
        )
        with self._admitting:
            judged = self._judge(request)
            verdict = judged if isinstance(judged, Rejection) else self._open(association, request, judged)
        if verdict is not None:
            self._log.warning(
                "association refused",
                reason=str(verdict.reason),
                calling_ae=request.calling_ae,
                called_ae=request.called_ae,
                address=request.address,
                **shown(request.certificate),
            )
        return verdict

    def _audit(self, association: Association, verdict: Rejection) -> None:
        primitive: Any = association.requestor.primitive
        if primitive is None or verdict.reason is Reason.DATABASE:
            return
        try:
            self._intake.refuse_association(
                calling_ae=str(primitive.calling_ae_title).strip(),
                called_ae=str(primitive.called_ae_title).strip(),
                address=str(association.requestor.address),
                reason=str(verdict.reason),
                certificate=_subject(association),
            )
        except QueueError as error:
            self._log.warning("refused association not written down", reason=str(error))

    def _judge(self, request: Request) -> str | Rejection:
        if self.refuse_all.is_set():
            return Rejection(Reason.STOPPING)
        return self._admission.judge(
            request, open_associations=self._count_associations(), free_bytes=self._spool.free_bytes()
        )

    def _count_associations(self) -> Mapping[str, int]:
        """Return how many are open on the node, by source; two processes may each let the last one in at one moment."""
        if not self._is_shared:
            return self.associations.by_source()
        try:
            return self._intake.count_associations()
        except QueueError:  # opening it will say so
            return self.associations.by_source()

    def _open(self, association: Association, request: Request, source: str) -> Rejection | None:
        sender = Sender(uuid.uuid4().hex, request.calling_ae, request.address, source, _subject(association))
        log = self._log.bind(association=sender.association_id, source=source)
        opened = OpenAssociation(sender, self._storage, log)
        primitive: Any = association.requestor.primitive
        proposed = primitive.presentation_context_definition_list
        settle_transfer_syntaxes(proposed)
        association.acceptor.supported_contexts = self._supported(proposed, sender)
        association.dimse = StreamingProvider(association, opened)
        try:
            self.associations.open(association, opened)
        except QueueError as error:
            log.warning("association not written down", reason=str(error))
            return Rejection(Reason.DATABASE)
        if request.certificate is not None:
            note_expiry(request.certificate, source, self._metrics, log)
        return None

    def _supported(self, proposed: list[PresentationContext], sender: Sender) -> list[PresentationContext]:
        may_store = self._admission.may_store(sender.calling_ae)
        supported = supported_contexts(proposed, unknown=self._unknown, storage=may_store)
        commitment = self._commitment.context(sender) if self._commitment is not None else None
        return [*supported, commitment] if commitment is not None else supported

    def _on_sop_common(self, event: Any) -> dict[Any, SOPClassCommonExtendedNegotiation]:
        """Tell the library which of the proposed SOP classes are storage, where it does not know."""
        proposed = event.assoc.requestor.primitive.presentation_context_definition_list
        items = {}
        for context in proposed:
            uid = context.abstract_syntax
            if is_stored(str(uid), unknown=self._unknown) and needs_service_class(str(uid)):
                item = SOPClassCommonExtendedNegotiation()
                item.sop_class_uid = uid
                item.service_class_uid = StorageServiceClass.uid
                items[uid] = item
        return items

    def _on_c_store(self, event: Any) -> int | Dataset:
        association = self.associations.get(event.assoc)
        stream = event.request.DataSet
        if association is None or not isinstance(stream, DataSetStream):
            return PROCESSING_FAILURE
        if stream.reception is None:  # not one fragment came
            stream.reception = association.begin(
                sop_class_uid=str(event.request.AffectedSOPClassUID),
                sop_uid=str(event.request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
            )
        answer = association.finish(stream.reception)
        if not answer.comment:
            return answer.status
        response = Dataset()
        response.Status = answer.status
        response.ErrorComment = answer.comment
        return response

    def _on_commitment(self, event: Any, serve: Callable[..., tuple[int, None]]) -> tuple[int, None]:
        association = self.associations.get(event.assoc)
        if association is None or self._commitment is None:
            return PROCESSING_FAILURE, None
        return serve(self._commitment, event, association.sender)

    def _on_end(self, event: Any, how: str) -> None:
        self.waiting.discard(event.assoc)
        self.associations.close(event.assoc, how)


def _subject(association: Association) -> str | None:
    certificate = certificate_of(association)
    return certificate.subject if certificate is not None else None
