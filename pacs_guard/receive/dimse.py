"""Where pynetdicom's DIMSE provider hands the data sets' fragments on, instead of collecting them in memory."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, N_ACTION_RQ, N_EVENT_REPORT_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from pacs_guard.errors import ProtocolError
from pacs_guard.receive.storage import SOP_CLASS_NOT_SUPPORTED
from pacs_guard.receive.structure import NOT_UNDERSTOOD

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from pacs_guard.receive.reception import Reception
    from pacs_guard.receive.storage import Answer

_MEDIUM_PRIORITY = 0
_KEPT = N_ACTION_RQ, N_EVENT_REPORT_RQ
_LARGEST_KEPT = 1 << 24  # a reference takes some 160 bytes: a hundred thousand instances


class Sink(Protocol):
    """What takes the data sets of one association."""

    def begin(self, *, sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str) -> Reception:
        """Start the data set of a C-STORE request."""
        ...

    def finish(self, reception: Reception) -> Answer:
        """Store a complete data set."""
        ...

    def refuse(self, reception: Reception, status: int, reason: str) -> Answer:
        """Write down that a request is answered with a failure."""
        ...

    def broken(self, error: Exception) -> None:
        """Note a message that could not be understood; the association is aborted."""
        ...


class DataSetStream(BytesIO):
    """Stands where the library collects a data set, and passes each fragment on.

    What storage commitment says is kept, up to a limit; fragments of other messages are let go, as no other service
    that the node offers has any.

    Attributes
    ----------
    reception : Reception or None
        None until the first fragment of a C-STORE request.
    """

    def __init__(self, provider: StreamingProvider, message: DIMSEMessage) -> None:
        super().__init__()
        self.reception: Reception | None = None
        self._provider = provider
        self._message = message

    def write(self, fragment: Any, /) -> int:
        """Pass a fragment on.

        Raises
        ------
        ProtocolError
            If there are more of what is kept here than any request needs.
        """
        if isinstance(self._message, _KEPT):
            if self.tell() + len(fragment) > _LARGEST_KEPT:
                raise ProtocolError(f"a data set of more than {_LARGEST_KEPT} bytes that is no instance's")
            return super().write(fragment)
        if self.reception is None and isinstance(self._message, C_STORE_RQ):
            self.reception = self._provider.begin(self._message)
        if self.reception is not None:
            self.reception.write(fragment)
        return len(fragment)


class StreamingProvider(DIMSEServiceProvider):
    """A DIMSE provider whose C-STORE requests carry a `DataSetStream`.

    Parameters
    ----------
    association : Association
    sink : Sink

    Attributes
    ----------
    sink : Sink
    """

    def __init__(self, association: Association, sink: Sink) -> None:
        super().__init__(association)
        self.sink = sink

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA primitive; called by the thread that reads the network, which an exception would end."""
        try:
            for value in primitive.presentation_data_value_list:
                single = P_DATA()  # the library loses what follows a message's end in the same PDU
                single.presentation_data_value_list.append(value)
                self._receive_single(single)
        except Exception as error:  # noqa: BLE001  # whatever it is, this association ends and no other
            self.sink.broken(error)
            self.dul.event_queue.put("Evt19")  # unrecognised or invalid PDU (PS3.8 table 9-6)

    def _receive_single(self, primitive: P_DATA) -> None:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = DataSetStream(self, self.message)
        super().receive_primitive(primitive)

    def begin(self, message: DIMSEMessage) -> Reception | None:
        """Start the data set of a C-STORE request; None if its presentation context was not accepted."""
        context = self.assoc._accepted_cx.get(message.context_id or 0)  # noqa: SLF001  # no public look-up by id
        if context is None:  # the library aborts the association
            return None
        command = message.command_set
        return self.sink.begin(
            sop_class_uid=_text(command.get("AffectedSOPClassUID")),
            sop_uid=_text(command.get("AffectedSOPInstanceUID")),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
        )

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message; a C-STORE request that the library would pass over in silence is answered here."""
        context_id, message = super().get_msg(block)
        if context_id is None or not isinstance(message, C_STORE) or message.MessageIDBeingRespondedTo is not None:
            return context_id, message
        context = self.assoc._accepted_cx.get(context_id)  # noqa: SLF001  # no public look-up by id
        if context is None or message.MessageID is None:
            return context_id, message
        if message.AffectedSOPClassUID != context.abstract_syntax:
            self._answer_broken(message, context_id, SOP_CLASS_NOT_SUPPORTED, "SOP class is not the context's")
        elif message.AffectedSOPInstanceUID is None:
            self._answer_broken(message, context_id, NOT_UNDERSTOOD, "Affected SOP Instance UID is missing")
        else:
            if not message.is_valid_request:  # all else is there: its priority, which changes nothing here
                message.Priority = _MEDIUM_PRIORITY
            return context_id, message
        return None, None

    def _answer_broken(self, message: Any, context_id: int, status: int, reason: str) -> None:
        reception = message.DataSet.reception if isinstance(message.DataSet, DataSetStream) else None
        response: Any = C_STORE()
        response.MessageID = message.MessageID
        response.MessageIDBeingRespondedTo = message.MessageID
        response.AffectedSOPClassUID = message.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = message.AffectedSOPInstanceUID
        response.Status = status
        response.ErrorComment = reason
        if reception is not None:
            self.sink.refuse(reception, status, reason)
        self.send_msg(response, context_id)


def _text(value: object) -> str:
    return "" if value is None else str(value)
