"""An association request and its answer, encoded and decoded by pynetdicom.

Everything that the fast transport takes for granted of pynetdicom stands in this file, and is guarded by
``tests/unit/deliver/test_negotiation.py``:

- ``pdu_primitives.A_ASSOCIATE`` is filled as PS3.8 7.1.1 says, and ``pdu.A_ASSOCIATE_RQ(primitive).encode()`` gives its
  bytes, the six of type and length included;
- ``pdu.A_ASSOCIATE_AC`` and ``A_ASSOCIATE_RJ`` have ``decode(bytes)`` and ``to_primitive()``;
- the answer's primitive has ``maximum_length_received``, ``presentation_context_definition_results_list`` and, when it
  is a rejection, ``result_str``, ``source_str`` and ``reason_str``;
- ``presentation.negotiate_as_requestor`` joins the contexts asked for with the results.

No thread, queue or state machine of pynetdicom runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_requestor
from pynetdicom.transport import AddressInformation

from pacs_guard.deliver.pdu import Pdu, PduType

if TYPE_CHECKING:
    from collections.abc import Sequence

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
_MAX_PDU_BYTES = 16382  # more than any answer to a C-STORE needs
_ACCEPTED = 0x00
_REMEMBERED = 64
_Contexts = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an acceptor agreed to.

    Attributes
    ----------
    contexts : tuple of (int, str, str)
        Context ID, abstract syntax and the transfer syntax chosen, of each accepted presentation context.
    max_pdu_bytes : int
        Largest P-DATA-TF that it takes; 0 for no limit.
    """

    contexts: tuple[tuple[int, str, str], ...]
    max_pdu_bytes: int


class NegotiationError(Exception):
    """The acceptor did not agree; says what it answered."""


class Negotiation:
    """One association request.

    Without an Asynchronous Operations Window item both sides may have one operation under way (PS3.7 D.3.3.3).

    Parameters
    ----------
    calling_ae, called_ae : str
        AE titles.
    contexts : sequence of (str, sequence of str)
        Abstract syntax and transfer syntaxes of each presentation context, at most 128.
    address : (str, int)
        Host and port called.
    """

    def __init__(
        self,
        calling_ae: str,
        called_ae: str,
        contexts: Sequence[tuple[str, Sequence[str]]],
        address: tuple[str, int],
    ) -> None:
        self._contexts = tuple((abstract, tuple(syntaxes)) for abstract, syntaxes in contexts)
        self._calling_ae = calling_ae
        self._called_ae = called_ae
        self._port = address[1]

    def request(self) -> bytes:
        """Return the A-ASSOCIATE-RQ."""
        return _encoded_request(self._calling_ae, self._called_ae, self._contexts, self._port)

    def answer(self, pdu: Pdu) -> Accepted:
        """Read the acceptor's answer.

        Raises
        ------
        NegotiationError
            If it is anything but an A-ASSOCIATE-AC.
        """
        encoded = bytes((pdu.kind, 0)) + len(pdu.body).to_bytes(4, "big") + pdu.body
        if pdu.kind is PduType.ASSOCIATE_RJ:
            rejection: Any = _decoded(A_ASSOCIATE_RJ(), encoded)
            raise NegotiationError(
                f"rejected the association: {rejection.result_str}, {rejection.source_str}, {rejection.reason_str}"
            )
        if pdu.kind is PduType.ABORT:
            raise NegotiationError("broke off instead of answering the association request")
        if pdu.kind is not PduType.ASSOCIATE_AC:
            raise NegotiationError(f"answered the association request with {pdu.kind.name}")
        return _accepted(self._contexts, encoded)


# an association is opened for every study, and a destination's answers are alike: what takes pynetdicom milliseconds is
# done once
@lru_cache(_REMEMBERED)
def _encoded_request(calling_ae: str, called_ae: str, contexts: _Contexts, port: int) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(_APPLICATION_CONTEXT)
    primitive.calling_ae_title = calling_ae
    primitive.called_ae_title = called_ae
    # the primitive wants them, the PDU does not carry them
    primitive.calling_presentation_address = AddressInformation("127.0.0.1", 0)
    primitive.called_presentation_address = AddressInformation("127.0.0.1", port)
    primitive.presentation_context_definition_list = _proposed(contexts)
    length = MaximumLengthNotification()
    length.maximum_length_received = _MAX_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = PYNETDICOM_IMPLEMENTATION_VERSION
    primitive.user_information = [length, implementation, version]
    return A_ASSOCIATE_RQ(primitive).encode()


@lru_cache(_REMEMBERED)
def _accepted(contexts: _Contexts, answer: bytes) -> Accepted:
    acceptance: Any = _decoded(A_ASSOCIATE_AC(), answer)
    results = acceptance.presentation_context_definition_results_list
    if not results:
        raise NegotiationError("accepted the association without a word on its presentation contexts")
    negotiated = negotiate_as_requestor(_proposed(contexts), results, None)
    return Accepted(
        tuple(
            (int(context.context_id or 0), str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in negotiated
            if context.result == _ACCEPTED and context.transfer_syntax
        ),
        int(acceptance.maximum_length_received or 0),
    )


def _proposed(contexts: _Contexts) -> list[PresentationContext]:
    # context IDs are the odd numbers of one byte (PS3.8 9.3.2.2)
    return [
        presentation_context(abstract, syntaxes, context_id=2 * number + 1)
        for number, (abstract, syntaxes) in enumerate(contexts)
    ]


def presentation_context(
    abstract: str, syntaxes: Sequence[str], *, context_id: int | None = None
) -> PresentationContext:
    """Return pynetdicom's object for one proposed context."""
    context = PresentationContext()
    context.context_id = context_id
    context.abstract_syntax = UID(abstract)
    context.transfer_syntax = [UID(syntax) for syntax in syntaxes]
    return context


def _decoded(pdu: Any, encoded: bytes) -> Any:
    try:
        pdu.decode(encoded)
        return pdu.to_primitive()
    except Exception as error:  # pynetdicom raises nearly anything on malformed input
        raise NegotiationError(f"gave an answer to the association request that cannot be read: {error}") from error
