"""The fast transport: an association that this thread drives itself, from the connection to the release.

pynetdicom encodes and decodes the negotiation (see `pacs_guard.deliver.negotiation`); from then on data sets are
written straight from the buffer they were read into, many fragments in one system call, and responses are parsed here.
"""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING

from pacs_guard.deliver.command import encode_store_request, parse_store_response
from pacs_guard.deliver.negotiation import Accepted, Negotiation, NegotiationError
from pacs_guard.deliver.payload import VerifiedReader
from pacs_guard.deliver.pdu import (
    ABORT,
    RELEASE_RP,
    RELEASE_RQ,
    CommandParser,
    PduError,
    PduParser,
    PduType,
    fragment_bytes,
    p_data,
)
from pacs_guard.deliver.secure import SecureWire, secure
from pacs_guard.deliver.wire import Wire
from pacs_guard.errors import PermanentDeliveryError, TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pacs_guard.config import DestinationSettings
    from pacs_guard.deliver.command import StoreRequest, StoreResponse
    from pacs_guard.deliver.pdu import Pdu
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.spool.store import StoredFiles

_FRAGMENTS_AT_ONCE = 256  # 4 MiB to a peer that reads the usual 16 KiB; a bound for one that reads a few bytes
_RELEASE_SECONDS = 5.0  # nothing hangs on a release that is not answered


class FastChannel:
    """See `pacs_guard.deliver.channel.Channel`, whose arguments are those of `open_channel`."""

    def __init__(
        self,
        destination: DestinationSettings,
        calling_ae: str,
        contexts: Sequence[tuple[str, Sequence[str]]],
        spool: StoredFiles,
        alive: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._reader = VerifiedReader(spool)
        self._pdus = PduParser()
        self._commands = CommandParser()
        self._responses: list[bytes] = []
        connection, kind = _connect(destination), Wire
        if destination.tls is not None:
            connection, kind = secure(connection, destination), SecureWire
        self._wire = kind(connection, destination.name, destination.network_timeout_seconds, alive)
        self._open = True
        self._farewell = ABORT
        try:
            accepted = self._negotiate(
                Negotiation(calling_ae, destination.ae_title, contexts, (destination.host, destination.port))
            )
        except BaseException:
            self._drop()
            raise
        self.accepted = accepted.contexts
        self._fragment_bytes = fragment_bytes(accepted.max_pdu_bytes)

    @property
    def is_open(self) -> bool:
        """Whether another instance can be sent; notices what the peer did since the last one."""
        if self._open:
            try:
                if arrived := self._wire.pending():
                    self._digest(arrived)
            except TransientDeliveryError:
                self._drop()
        return self._open

    def exchange(
        self, request: StoreRequest, data: StoredInstance | bytes, following: StoredInstance | None = None
    ) -> StoreResponse:
        """Send one C-STORE request with its data set and return the response."""
        if isinstance(data, bytes):
            pieces, length = iter((memoryview(data),)), len(data)
        else:
            pieces, length = self._reader.pieces(data), data.length
        first = next(pieces)  # raises before anything is sent if the instance cannot be opened, or is small and broken
        try:
            self._send(request, itertools.chain((first,), pieces), length)
            if following is not None:
                self._reader.read_ahead(following)  # the peer is at work meanwhile
            return self._response(request)
        except BaseException:  # a peer that has not got the last piece has no instance
            self._drop()
            raise

    def close(self) -> None:
        """Release the association; nothing happens if it is closed already."""
        if not self._open:
            return
        try:
            self._wire.send([RELEASE_RQ], self._digest)
            while not self._released(self._wire.receive(_RELEASE_SECONDS, "did not answer a release")):
                continue
            self._open = False
            self._wire.close()
        except TransientDeliveryError:  # everything sent was answered, so that nothing hangs on it
            self._drop()

    def _negotiate(self, negotiation: Negotiation) -> Accepted:
        name, seconds = _where(self._destination), self._destination.acse_timeout_seconds
        self._wire.send([negotiation.request()], self._digest)
        try:
            pdus: list[Pdu] = []
            while not pdus:
                pdus = self._pdus.feed(self._wire.receive(seconds, "did not answer the association request"))
            accepted = negotiation.answer(pdus[0])
        except (NegotiationError, PduError) as error:
            raise TransientDeliveryError(f"{name} {error}") from error
        if not accepted.contexts:
            raise PermanentDeliveryError(f"{name} accepts none of the presentation contexts that were proposed")
        for pdu in pdus[1:]:
            self._act_on(pdu)
        return accepted

    def _send(self, request: StoreRequest, pieces: Iterable[memoryview], length: int) -> None:
        context_id, size = request.context_id, self._fragment_bytes
        at_once = size * _FRAGMENTS_AT_ONCE
        head = p_data(encode_store_request(request), context_id=context_id, size=size, command=True)
        sent, self._farewell = 0, b""  # nothing that means anything can be said inside a PDU
        for piece in pieces:
            for start in range(0, len(piece) or 1, at_once):
                part = piece[start : start + at_once]
                sent += len(part)
                # all of it is handed over before the next piece takes its place in the buffer
                body = p_data(part, context_id=context_id, size=size, last=sent == length)
                self._wire.send(head + body, self._digest)
                head = []
        self._farewell = ABORT

    def _response(self, request: StoreRequest) -> StoreResponse:
        name, seconds = self._destination.name, self._destination.dimse_timeout_seconds
        while not self._responses:
            data = self._wire.receive(seconds, "did not answer a C-STORE")
            try:
                self._digest(data)
            except TransientDeliveryError:
                if not self._responses:
                    raise
                self._drop()  # it answered, and left
        try:
            response = parse_store_response(self._responses.pop(0))
        except ValueError as error:
            raise TransientDeliveryError(f"{name} answered with {error}") from error
        if response.message_id != request.message_id:
            raise TransientDeliveryError(
                f"{name} answered message {response.message_id}; expected an answer to {request.message_id}"
            )
        return response

    def _digest(self, data: bytes) -> None:
        try:
            for pdu in self._pdus.feed(data):
                self._act_on(pdu)
        except PduError as error:
            raise TransientDeliveryError(f"{self._destination.name} sent {error}") from error

    def _act_on(self, pdu: Pdu) -> None:
        if pdu.kind is PduType.P_DATA_TF:
            self._responses += self._commands.feed(pdu.body)
            return
        if pdu.kind is PduType.RELEASE_RQ:
            self._farewell = self._farewell and RELEASE_RP
            raise TransientDeliveryError(f"{self._destination.name} released the association")
        if pdu.kind is PduType.ABORT:
            raise TransientDeliveryError(f"{self._destination.name} broke the association off")
        raise PduError(f"{pdu.kind.name} within an association")

    def _released(self, data: bytes) -> bool:
        """Whether the peer agreed to a release; what it had under way does not matter any more."""
        try:
            return any(pdu.kind in {PduType.RELEASE_RP, PduType.ABORT} for pdu in self._pdus.feed(data))
        except PduError:
            return True

    def _drop(self) -> None:
        """Close without waiting for a peer that does not read."""
        if self._open:
            self._open = False
            self._wire.send_if_room(self._farewell)
            self._wire.close()


def _connect(destination: DestinationSettings) -> socket.socket:
    seconds = destination.connect_timeout_seconds
    try:
        return socket.create_connection((destination.host, destination.port), timeout=seconds)
    except OSError as error:
        reason = f"no connection within {seconds:g} s" if isinstance(error, TimeoutError) else error.strerror or error
        raise TransientDeliveryError(f"{_where(destination)} cannot be reached: {reason}") from error


def _where(destination: DestinationSettings) -> str:
    return f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
