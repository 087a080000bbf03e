"""Fragments put together into messages: C-STORE requests are served here, all others go to the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.pdu_primitives import P_DATA

from pacs_guard.errors import ProtocolError
from pacs_guard.receive.wire.command import LARGEST_COMMAND_SET, StoreCommand, read_store_command, store_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pacs_guard.receive.dimse import Sink
    from pacs_guard.receive.reception import Reception
    from pacs_guard.receive.wire.pdus import Fragment


class Library(Protocol):
    """What takes the messages that are not served here: pynetdicom's DIMSE provider."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next fragment of a message."""
        ...


class MessageStream:
    """The messages of one association, in the order in which they come.

    Parameters
    ----------
    contexts : mapping of int to PresentationContext
        The accepted ones.
    sink : Sink
        Takes the data sets.
    library : Library
        Takes every message that is not a plain C-STORE request.
    send : callable
        Sends a whole PDU.
    """

    def __init__(
        self, contexts: Mapping[int, Any], sink: Sink, library: Library, send: Callable[[bytes], None]
    ) -> None:
        self._contexts = contexts
        self._sink = sink
        self._library = library
        self._send = send
        self._command = bytearray()
        self._context_id: int | None = None  # of the message under way
        self._awaits_data = False
        self._request: StoreCommand | None = None  # the one that is served here
        self._reception: Reception | None = None

    @property
    def is_receiving(self) -> bool:
        """Whether a data set is under way that is stored here."""
        return self._reception is not None

    def detach(self) -> None:
        """Let go of the memory of all fragments so far."""
        if self._reception is not None:
            self._reception.detach()

    @property
    def is_under_way(self) -> bool:
        """Whether the rest of a message is to come."""
        return self._context_id is not None

    def take(self, fragment: Fragment) -> bool:
        """Take the next fragment; return whether it completed a message.

        Raises
        ------
        ProtocolError
            If it has no place here.
        """
        self._check(fragment)
        self._context_id = fragment.context_id
        if fragment.is_command:
            self._command += fragment.data
            return fragment.is_last and self._begin()
        if self._reception is not None:
            if fragment.data:
                self._reception.write(fragment.data)
            return fragment.is_last and self._finish()
        self._pass_on(fragment.data, last=fragment.is_last)
        return fragment.is_last and self._done()

    def _check(self, fragment: Fragment) -> None:
        if fragment.context_id not in self._contexts:
            raise ProtocolError(f"presentation context {fragment.context_id} was not accepted")
        if self._context_id not in {None, fragment.context_id}:
            raise ProtocolError(
                f"a fragment over presentation context {fragment.context_id} "
                f"within a message over presentation context {self._context_id}"
            )
        if fragment.is_command == self._awaits_data:
            expected = "data set" if self._awaits_data else "command set"
            raise ProtocolError(f"a fragment of a {expected} was expected; another came")
        if fragment.is_command and len(self._command) + len(fragment.data) > LARGEST_COMMAND_SET:
            raise ProtocolError(f"a command set of more than {LARGEST_COMMAND_SET} bytes")

    def _begin(self) -> bool:
        """Look at a whole command set; return whether no data set follows."""
        assert self._context_id is not None  # noqa: S101  # narrows the type
        command, self._command = self._command, bytearray()
        context = self._contexts[self._context_id]
        request = read_store_command(command)
        if request is not None and request.sop_class_uid == context.abstract_syntax:
            self._request = request
            self._reception = self._sink.begin(
                sop_class_uid=request.sop_class_uid,
                sop_uid=request.sop_uid,
                transfer_syntax_uid=str(context.transfer_syntax[0]),
            )
            self._awaits_data = True
            return False
        self._library.receive_primitive(_primitive(self._context_id, b"\x03" + command))
        self._awaits_data = self._library_awaits_data()
        return not self._awaits_data and self._done()

    def _library_awaits_data(self) -> bool:
        # the library forgets its message once it is complete
        return getattr(self._library, "message", None) is not None

    def _pass_on(self, data: memoryview, *, last: bool) -> None:
        assert self._context_id is not None  # noqa: S101  # narrows the type
        self._library.receive_primitive(_primitive(self._context_id, (b"\x02" if last else b"\x00") + data))

    def _finish(self) -> bool:
        """Store a complete data set and answer."""
        request, reception = self._request, self._reception
        assert request is not None  # noqa: S101  # narrows the type
        assert reception is not None  # noqa: S101
        assert self._context_id is not None  # noqa: S101
        context_id = self._context_id
        self._request = self._reception = None
        answer = self._sink.finish(reception)
        self._send(store_response(context_id, request, answer.status, answer.comment))
        return self._done()

    def _done(self) -> bool:
        self._context_id = None
        self._awaits_data = False
        return True


def _primitive(context_id: int, value: bytes | bytearray) -> P_DATA:
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((context_id, bytes(value)))
    return primitive
