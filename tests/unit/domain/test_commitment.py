"""Requests and reports are read strictly, and who vouches for what follows one table."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from pacs_guard.domain.commitment import Copy, Holder, Reference, answer, read_report, read_request
from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import Proof
from pacs_guard.errors import DataSetError

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def references(*uids, reason=None):
    items = []
    for uid in uids:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = CT, uid
        if reason is not None:
            one.FailureReason = reason
        items.append(one)
    return items


def information(transaction="1.2.3", **sequences):
    found = Dataset()
    found.TransactionUID = transaction
    for name, items in sequences.items():
        setattr(found, name, items)
    return found


def test_request_is_read_with_each_instance_once():
    request = read_request(1, information(ReferencedSOPSequence=references("1.1", "1.2", "1.1")))
    assert request.transaction_uid == "1.2.3"
    assert request.instances == (Reference(CT, "1.1"), Reference(CT, "1.2"))


@pytest.mark.parametrize(
    ("action", "given", "status"),
    [
        (2, information(ReferencedSOPSequence=references("1.1")), 0x0123),
        (1, information(), 0x0115),
        (1, information(transaction="", ReferencedSOPSequence=references("1.1")), 0x0115),
        (1, information(transaction=None, ReferencedSOPSequence=references("1.1")), 0x0115),
        (1, information(ReferencedSOPSequence=[Dataset()]), 0x0115),
    ],
)
def test_request_that_is_none_is_refused_with_its_status(action, given, status):
    with pytest.raises(DataSetError) as refused:
        read_request(action, given)
    assert refused.value.status == status


def test_report_is_read_with_its_reasons():
    failed = [*references("1.2", reason=0x0112), *references("1.3")]
    report = read_report(2, information(ReferencedSOPSequence=references("1.1"), FailedSOPSequence=failed))
    assert report.committed == (Reference(CT, "1.1"),)
    assert report.failed == ((Reference(CT, "1.2"), 0x0112), (Reference(CT, "1.3"), 0x0110))


def test_report_of_an_unknown_event_is_refused():
    with pytest.raises(DataSetError, match="Event Type ID 3 was given; expected 1 or 2"):
        read_report(3, information())


DELIVERED, PENDING, FAILED = ItemState.DELIVERED, ItemState.PENDING, ItemState.FAILED
PROVED = (DELIVERED, Proof.PROVED)


def copy(*ways, state=StudyState.DELIVERED, here=True, sop_class=CT):
    return Copy(sop_class, here, state, ways)


@pytest.mark.parametrize(
    ("copies", "node", "pacs"),
    [
        ([], 0x0112, 0x0112),
        ([copy(sop_class=MR)], 0x0119, 0x0119),
        ([copy(state=StudyState.RECEIVING)], 0, None),
        ([copy(state=StudyState.HELD)], 0, 0x0110),
        ([copy(PROVED, state=StudyState.REJECTED, here=False)], 0, 0),
        ([copy((PENDING, None), state=StudyState.FORWARDING)], 0, None),
        ([copy((DELIVERED, None))], 0, None),
        ([copy((DELIVERED, Proof.DENIED))], 0, None),
        ([copy(PROVED, (DELIVERED, Proof.ASKED))], 0, None),
        ([copy(PROVED, PROVED)], 0, 0),
        ([copy(PROVED, (FAILED, Proof.UNPROVED), state=StudyState.FAILED)], 0, 0x0110),
        ([copy(PROVED, (DELIVERED, Proof.UNPROVED))], 0, 0x0110),
        ([copy((DELIVERED, Proof.UNASKED))], 0, 0x0110),
        # its bytes are gone, or are not those that came
        ([copy((DELIVERED, Proof.UNASKED), here=False)], 0x0112, 0x0110),
        ([copy(PROVED, here=False)], 0, 0),
        # one UID, two contents
        ([copy(PROVED), copy((PENDING, None))], 0, None),
        ([copy(PROVED), copy(here=False)], 0x0112, None),
        ([copy(PROVED), copy(sop_class=MR)], 0x0119, 0x0119),
    ],
)
def test_who_vouches_for_what(copies, node, pacs):
    assert answer(Holder.NODE, CT, copies) == node
    assert answer(Holder.PACS, CT, copies) == pacs
