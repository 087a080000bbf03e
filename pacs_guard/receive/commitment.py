"""Storage commitment over the receiver's associations: modalities' requests, and destinations' reports (PS3.4 J)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.presentation import PresentationContext

from pacs_guard.domain.commitment import INVALID_ARGUMENT, SOP_CLASS, Holder, read_report, read_request
from pacs_guard.errors import DataSetError, QueueError, TransactionInUseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.config import Settings
    from pacs_guard.queue.commitment import CommitmentRequests
    from pacs_guard.queue.proving import Proving
    from pacs_guard.receive.reception import Sender

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
SUCCESS, PROCESSING_FAILURE, NOT_AUTHORISED = 0x0000, 0x0110, 0x0124


class CommitmentService:
    """Takes requests and reports, writes them to the queue, and says so.

    Parameters
    ----------
    settings : Settings
    requests : CommitmentRequests
    proving : Proving
    log : structlog logger, optional
    """

    def __init__(self, settings: Settings, requests: CommitmentRequests, proving: Proving, log: Any = None) -> None:
        self._requests = requests
        self._proving = proving
        self._log = log if log is not None else structlog.get_logger("pacs_guard.receive")
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Treat every later request by `settings`."""
        self._sources = {source.name: source for source in settings.sources}
        self._destinations: dict[str, set[str]] = {}
        for destination in settings.destinations:
            self._destinations.setdefault(destination.ae_title, set()).add(destination.name)

    def context(self, sender: Sender) -> PresentationContext | None:
        """Return the presentation context offered to a peer, if it may ask or report."""
        if not self._may_ask(sender) and sender.calling_ae not in self._destinations:
            return None
        context = PresentationContext()
        context.abstract_syntax = UID(SOP_CLASS)
        context.transfer_syntax = [UID(syntax) for syntax in TRANSFER_SYNTAXES]
        # a peer that reports is the SCP although it opens the association (PS3.4 J.3.3, PS3.7 D.3.3.4)
        context.scu_role = context.scp_role = True
        return context

    def on_action(self, event: Any, sender: Sender) -> tuple[int, None]:
        """Answer an N-ACTION request: success once it is written down."""
        log = self._log.bind(association=sender.association_id, source=sender.source)
        return _answered(lambda: self._take_request(event, sender, log), "commitment request refused", log)

    def on_report(self, event: Any, sender: Sender) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT request: success once it is written down."""
        log = self._log.bind(association=sender.association_id, calling_ae=sender.calling_ae)
        return _answered(lambda: self._take_report(event, sender, log), "commitment report refused", log)

    def _take_request(self, event: Any, sender: Sender, log: Any) -> None:
        if not self._may_ask(sender):
            raise DataSetError("storage commitment is not offered to this source", status=NOT_AUTHORISED)
        request = read_request(event.action_type, event.action_information)
        self._requests.receive(request, calling_ae=sender.calling_ae, source=sender.source, address=sender.address)
        log.info("commitment requested", transaction=request.transaction_uid, instances=len(request.instances))

    def _take_report(self, event: Any, sender: Sender, log: Any) -> None:
        report = read_report(event.event_type, event.event_information)
        if not self._proving.reported(report, self._destinations.get(sender.calling_ae, set())):
            raise DataSetError(f"transaction {report.transaction_uid} is not known", status=INVALID_ARGUMENT)
        log.info(
            "commitment reported",
            transaction=report.transaction_uid,
            committed=len(report.committed),
            failed=len(report.failed),
        )

    def _may_ask(self, sender: Sender) -> bool:
        source = self._sources.get(sender.source)
        return (
            source is not None
            and source.commitment.holder is not Holder.REFUSE
            and (sender.calling_ae in source.ae_titles)
        )


def _answered(take: Callable[[], None], refusal: str, log: Any) -> tuple[int, None]:
    """Return the status that says what became of a message."""
    try:
        take()
    except DataSetError as error:
        log.warning(refusal, reason=str(error))
        return error.status, None
    except TransactionInUseError as error:
        log.warning(refusal, reason=str(error))
        return INVALID_ARGUMENT, None
    except QueueError as error:
        log.warning(refusal, reason=str(error))
        return PROCESSING_FAILURE, None
    except Exception:  # the reader of a broken data set raises nearly anything
        log.exception(refusal)
        return PROCESSING_FAILURE, None
    return SUCCESS, None
