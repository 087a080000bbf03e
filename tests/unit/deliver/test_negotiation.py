"""What the fast transport takes for granted of pynetdicom: a release that changes it fails here."""

from __future__ import annotations

import pytest
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

from pacs_guard.deliver.negotiation import Accepted, Negotiation, NegotiationError
from pacs_guard.deliver.pdu import ABORT, RELEASE_RP, Pdu, PduParser, PduType

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT, IMPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.70"
CONTEXTS = [(CT, [EXPLICIT]), (CT, [JPEG, IMPLICIT]), (MR, [EXPLICIT])]


@pytest.fixture
def negotiation():
    return Negotiation("PACSGUARD", "ARCHIVE", CONTEXTS, ("127.0.0.1", 104))


def as_pdu(encoded: bytes) -> Pdu:
    (pdu,) = PduParser().feed(encoded)
    return pdu


def decoded(request: bytes) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(request)
    return pdu.to_primitive()


def accepting(request: bytes, results: dict[int, tuple[int, str]], max_pdu: int) -> Pdu:
    primitive = decoded(request)
    primitive.result = 0
    contexts = []
    for context in primitive.presentation_context_definition_list:
        context.result, syntax = results[context.context_id]
        context.transfer_syntax = [UID(syntax)]
        contexts.append(context)
    primitive.presentation_context_definition_results_list = contexts
    primitive.user_information[0].maximum_length_received = max_pdu
    return as_pdu(A_ASSOCIATE_AC(primitive).encode())


def test_the_request_says_who_calls_whom_and_what_is_proposed(negotiation):
    request = negotiation.request()
    assert as_pdu(request).kind is PduType.ASSOCIATE_RQ
    primitive = decoded(request)
    assert (primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()) == ("PACSGUARD", "ARCHIVE")
    proposed = [
        (context.context_id, context.abstract_syntax, list(context.transfer_syntax))
        for context in primitive.presentation_context_definition_list
    ]
    assert proposed == [(1, CT, [EXPLICIT]), (3, CT, [JPEG, IMPLICIT]), (5, MR, [EXPLICIT])]
    kinds = [type(item).__name__ for item in primitive.user_information]
    assert kinds[:2] == ["MaximumLengthNotification", "ImplementationClassUIDNotification"]
    # one operation at a time unless somebody asks for more (PS3.7 D.3.3.3)
    assert "AsynchronousOperationsWindowNegotiation" not in kinds


@pytest.mark.parametrize("max_pdu", [0, 4096, 16384, 2**32 - 1])
def test_an_acceptance_gives_contexts_and_the_largest_pdu(negotiation, max_pdu):
    results = {1: (3, EXPLICIT), 3: (0, IMPLICIT), 5: (0, EXPLICIT)}
    answer = negotiation.answer(accepting(negotiation.request(), results, max_pdu))
    assert answer == Accepted(((3, CT, IMPLICIT), (5, MR, EXPLICIT)), max_pdu)


def test_a_rejection_says_why(negotiation):
    primitive = A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = 1, 1, 7
    with pytest.raises(NegotiationError, match=r"rejected the association: .*[Cc]alled AE title not recognised"):
        negotiation.answer(as_pdu(A_ASSOCIATE_RJ(primitive).encode()))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (as_pdu(ABORT), "broke off"),
        (as_pdu(RELEASE_RP), "RELEASE_RP"),
        (Pdu(PduType.ASSOCIATE_AC, b"\0" * 3), "without a word"),
        (Pdu(PduType.ASSOCIATE_AC, b"\0\1\0\0" + b"A" * 64 + b"\xff" * 40), "cannot be read"),
    ],
    ids=["abort", "release", "short", "garbage"],
)
def test_any_other_answer_is_a_refusal(negotiation, answer, reason):
    with pytest.raises(NegotiationError, match=reason):
        negotiation.answer(answer)


def test_128_contexts_have_the_odd_numbers_of_one_byte():
    many = Negotiation("A", "B", [(CT, [EXPLICIT])] * 128, ("127.0.0.1", 104))
    proposed = [context.context_id for context in decoded(many.request()).presentation_context_definition_list]
    assert proposed == list(range(1, 256, 2))
