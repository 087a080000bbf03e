"""Proof of delivery towards destinations: storage commitment in all its ways, and counting."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.integration import peers
from tests.integration.delivering import part10
from tests.integration.proving import CT, STUDY_ROOT_FIND, Guard, Pacs, destination, tell

PROVED, UNPROVED, UNASKED = ("delivered", "proved"), ("delivered", "unproved"), ("delivered", "unasked")
ASKED, FAILED = ("delivered", "asked"), ("failed", "unproved")
ABSENT, CONFLICT, BUSY, CANNOT = 0x0112, 0x0119, 0x0213, 0x0122


def guard_with(tmp_path, pacs: Pacs, **proof):
    guard = Guard(tmp_path, destination(pacs.port, **proof))
    pacs.guard_port = guard.port
    return guard


def study(count: int = 2) -> tuple[list[bytes], list[str]]:
    study_uid = generate_uid(prefix=None)
    uids = [generate_uid(prefix=None) for _ in range(count)]
    return [part10(study=study_uid, sop=uid) for uid in uids], uids


@pytest.mark.parametrize("how", ["new", "same"])
def test_a_report_proves_every_instance(tmp_path, how):
    with Pacs(0, report=how).running() as pacs, guard_with(tmp_path, pacs).running() as guard:
        contents, uids = study()
        guard.forward(*contents)
        guard.wait_for_proofs(PROVED, PROVED)
        assert pacs.asked == [(guard.transactions()[0], uids)]
        peers.wait_until(lambda: pacs.statuses == [0x0000])
        [line] = guard.reports.ledger()
        assert line.adds_up
        assert (line.received, line.delivered, line.proved) == (2, 2, 2)


def test_what_the_destination_does_not_have_is_sent_again_and_proved(tmp_path):
    contents, uids = study()
    pacs = Pacs(0, denied={uids[1]: [ABSENT]})
    with pacs.running(), guard_with(tmp_path, pacs).running() as guard:
        number = guard.forward(*contents)
        guard.wait_for_proofs(PROVED, PROVED)
        assert pacs.stored == [*uids, uids[1]]
        assert [asked for _, asked in pacs.asked] == [uids, [uids[1]]]
        assert guard.state(number) == "delivered"


def test_what_is_denied_again_and_again_is_listed_as_failed_until_a_person_retries(tmp_path):
    contents, uids = study()
    pacs = Pacs(0, denied={uids[0]: [ABSENT] * 2})
    with pacs.running(), guard_with(tmp_path, pacs, resends=1).running() as guard:
        number = guard.forward(*contents)
        guard.wait_for_proofs(FAILED, PROVED)
        assert guard.state(number) == "failed"
        [given_up] = guard.reports.given_up()
        assert given_up["error"] == "storage commitment failed with 0x0112 (no such object instance)"
        [line] = guard.reports.ledger()
        assert line.adds_up
        assert (line.proved, line.failed) == (1, 1)
        assert guard.forwarding.retry(number) == 1
        guard.wait_for_proofs(PROVED, PROVED)
        assert guard.state(number) == "delivered"
        assert pacs.stored == [*uids, uids[0], uids[0]]


@pytest.mark.parametrize(
    ("reasons", "expected", "asked"),
    [([BUSY, BUSY], PROVED, 3), ([BUSY] * 3, UNPROVED, 3), ([CANNOT], UNPROVED, 1), ([CONFLICT], FAILED, 1)],
)
def test_other_reasons_are_asked_again_or_given_up(tmp_path, reasons, expected, asked):
    contents, uids = study(1)
    pacs = Pacs(0, denied={uids[0]: reasons})
    with pacs.running(), guard_with(tmp_path, pacs).running() as guard:
        guard.forward(*contents)
        guard.wait_for_proofs(expected)
        assert len(pacs.asked) == asked
        assert pacs.stored == uids
        assert len({transaction for transaction, _ in pacs.asked}) == asked, "a transaction UID was used again"


def test_silence_is_asked_again_and_ends_unproved_and_a_late_report_still_counts(tmp_path):
    contents, uids = study(1)
    pacs = Pacs(0, report="never")
    with pacs.running(), guard_with(tmp_path, pacs, wait_seconds=0, timeout_seconds=0.2).running() as guard:
        guard.forward(*contents)
        guard.wait_for_proofs(UNPROVED)
        assert len(pacs.asked) == 3
        assert guard.errors() == ["the destination gave no proof"]
        assert guard.upkeep_paths() == []
        report = Dataset()
        report.TransactionUID = pacs.asked[0][0]
        report.ReferencedSOPSequence = [Dataset()]
        report.ReferencedSOPSequence[0].ReferencedSOPClassUID = CT
        report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = uids[0]
        assert tell(guard.port, report, 1, calling="STRANGER") == -1
        assert tell(guard.port, report, 7) == 0x0113
        assert tell(guard.port, report, 1, role=False) == 0x0000
        assert guard.proofs() == [PROVED]
        report.TransactionUID = "1.2.3"
        assert tell(guard.port, report, 1) == 0x0115
        assert len(guard.upkeep_paths()) == 1


def test_silence_falls_back_to_what_the_destination_lists(tmp_path):
    contents, uids = study(2)
    pacs = Pacs(0, report="never", offers=("1.2.840.10008.1.20.1", STUDY_ROOT_FIND))
    with pacs.running(), guard_with(tmp_path, pacs, wait_seconds=0, timeout_seconds=0.2).running() as guard:
        guard.forward(*contents)
        pacs.held = set(uids)
        guard.wait_for_proofs(PROVED, PROVED)
        assert len(pacs.asked) == 3


def test_what_is_not_listed_is_sent_again(tmp_path):
    contents, uids = study(2)
    pacs = Pacs(0, offers=(STUDY_ROOT_FIND,), held={uids[0]})
    with pacs.running(), guard_with(tmp_path, pacs, attempts=2, resends=1, timeout_seconds=0.1).running() as guard:
        guard.forward(*contents)
        guard.wait_for_proofs(PROVED, UNPROVED)
        assert pacs.stored == [*uids, uids[1]]
        assert guard.errors() == ["the destination does not list it"]


@pytest.mark.parametrize(("method", "expected"), [("auto", UNASKED), ("none", UNASKED), ("commitment", UNPROVED)])
def test_destination_that_offers_no_proof(tmp_path, method, expected):
    pacs = Pacs(0, offers=())
    with pacs.running(), guard_with(tmp_path, pacs, method=method).running() as guard:
        guard.forward(*study(1)[0])
        guard.wait_for_proofs(expected)
        assert len(guard.upkeep_paths()) == (1 if expected is UNASKED else 0)


def test_request_that_is_refused_is_made_again(tmp_path):
    pacs = Pacs(0, action_statuses=[0x0110, 0x0213])
    with pacs.running(), guard_with(tmp_path, pacs).running() as guard:
        guard.forward(*study(1)[0])
        guard.wait_for_proofs(PROVED)
        assert len(pacs.asked) == 3


def test_same_uid_with_other_content_cannot_be_proved(tmp_path):
    study_uid, sop = generate_uid(prefix=None), generate_uid(prefix=None)
    pacs = Pacs(0)
    with pacs.running(), guard_with(tmp_path, pacs).running() as guard:
        one = part10(study=study_uid, sop=sop)
        guard.forward(one, one[:-1] + bytes([one[-1] ^ 1]), part10(study=study_uid))
        guard.wait_for_proofs(UNPROVED, UNPROVED, PROVED)
        assert len(set(guard.errors())) == 1
        assert "other content under the same SOP Instance UID" in guard.errors()[0]
