from __future__ import annotations

import pytest
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSNearLossless,
    RLELossless,
)

from pacs_guard.deliver.contexts import (
    FALLBACK_SYNTAXES,
    MAX_CONTEXTS,
    ProposedContext,
    batches,
    can_transcode,
    choose,
    contexts_for,
)
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def instance(sop_class: str = CT, syntax: str = ExplicitVRLittleEndian, number: int = 1) -> StoredInstance:
    return StoredInstance(number, InstanceKey("1.2", "1.2.3", f"1.2.3.{number}", "00"), sop_class, syntax, "x", 0, 1)


def test_the_native_syntax_stands_alone_beside_the_fallback():
    assert contexts_for(instance(syntax=RLELossless), transcode=True) == (
        ProposedContext(CT, (RLELossless,)),
        ProposedContext(CT, (ExplicitVRLittleEndian, ImplicitVRLittleEndian)),
    )


def test_without_transcoding_there_is_no_fallback():
    assert contexts_for(instance(), transcode=False) == (ProposedContext(CT, (ExplicitVRLittleEndian,)),)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000, JPEGLSNearLossless, HTJ2K, MPEG2MPML, "1.2.3.4"])
def test_what_may_be_lossy_is_never_transcoded(syntax):
    assert not can_transcode(syntax)
    assert contexts_for(instance(syntax=syntax), transcode=True) == (ProposedContext(CT, (syntax,)),)


def test_each_context_is_proposed_once_and_the_order_is_kept():
    sent = [instance(CT, number=1), instance(MR, number=2), instance(CT, number=3), instance(CT, RLELossless, 4)]
    (batch,) = batches(sent, transcode=True)
    assert batch.instances == sent
    assert batch.contexts == [
        ProposedContext(CT, (ExplicitVRLittleEndian,)),
        ProposedContext(CT, FALLBACK_SYNTAXES),
        ProposedContext(MR, (ExplicitVRLittleEndian,)),
        ProposedContext(MR, FALLBACK_SYNTAXES),
        ProposedContext(CT, (RLELossless,)),
    ]


def test_more_than_128_contexts_are_spread_over_several_associations():
    sent = [instance(f"1.2.3.{number}", number=number) for number in range(150)]
    found = batches(sent + sent, transcode=True)
    assert [len(batch.contexts) for batch in found] == [128, 128, 44]
    assert sum(len(batch.instances) for batch in found) == 300
    for batch in found:
        assert len(batch.contexts) <= MAX_CONTEXTS
        assert {ProposedContext(i.sop_class_uid, (i.transfer_syntax_uid,)) for i in batch.instances} <= set(
            batch.contexts
        )


def test_nothing_to_send_needs_no_association():
    assert batches([], transcode=True) == []


def test_the_native_syntax_is_chosen_wherever_it_was_accepted():
    accepted = [(3, CT, ExplicitVRLittleEndian), (1, CT, RLELossless), (5, MR, RLELossless)]
    assert choose(instance(syntax=RLELossless), accepted, transcode=True) == (1, RLELossless)


def test_the_richer_fallback_is_chosen_where_the_native_syntax_was_refused():
    accepted = [(1, CT, ImplicitVRLittleEndian), (3, CT, ExplicitVRLittleEndian)]
    chosen = choose(instance(syntax=JPEG2000Lossless), accepted, transcode=True)
    assert chosen == (3, ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("syntax", "transcode"), [(RLELossless, False), (JPEGBaseline8Bit, True), (DeflatedExplicitVRLittleEndian, False)]
)
def test_no_context_is_chosen_where_transcoding_is_not_allowed(syntax, transcode):
    assert choose(instance(syntax=syntax), [(1, CT, ExplicitVRLittleEndian)], transcode=transcode) is None


def test_a_context_of_another_sop_class_is_never_used():
    assert choose(instance(), [(1, MR, ExplicitVRLittleEndian)], transcode=True) is None
