"""What of storage commitment is kept, and to whom it is offered."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pynetdicom.dimse_messages import C_FIND_RQ, N_ACTION_RQ, N_EVENT_REPORT_RQ

from pacs_guard.config import Settings
from pacs_guard.domain.commitment import SOP_CLASS
from pacs_guard.errors import ProtocolError, QueueUnavailableError
from pacs_guard.receive import dimse
from pacs_guard.receive.commitment import CommitmentService
from pacs_guard.receive.dimse import DataSetStream
from pacs_guard.receive.reception import Sender
from tests.unit.domain.test_commitment import information, references


@pytest.mark.parametrize("message", [N_ACTION_RQ, N_EVENT_REPORT_RQ])
def test_a_request_is_kept_up_to_a_limit(monkeypatch, message):
    monkeypatch.setattr(dimse, "_LARGEST_KEPT", 10)
    stream = DataSetStream(None, message())
    stream.write(b"12345")
    stream.write(b"67890")
    assert stream.getvalue() == b"1234567890"
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        stream.write(b"1")


def test_data_sets_of_other_messages_are_let_go():
    stream = DataSetStream(None, C_FIND_RQ())
    assert stream.write(b"12345") == 5
    assert stream.getvalue() == b""


class Queue:
    """Takes whatever comes, or is not there."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.received: list[object] = []

    def receive(self, request, **_who):
        if self.fails:
            raise QueueUnavailableError("locked")
        self.received.append(request)

    def reported(self, report, destinations):
        if self.fails:
            raise QueueUnavailableError("locked")
        self.received.append((report.transaction_uid, destinations))
        return report.transaction_uid == "1.2.3"


def service(queue, holder="pacs"):
    settings = Settings(
        sources=[{"name": "ct", "ae_titles": ["CT1"], "commitment": holder}],
        destinations=[{"name": "pacs", "ae_title": "PACS"}, {"name": "twin", "ae_title": "PACS"}],
    )
    return CommitmentService(settings, queue, queue)


def sender(calling="CT1", source="ct"):
    return Sender("association", calling, "10.0.0.1", source)


@pytest.mark.parametrize(
    ("who", "holder", "offered"),
    [
        (sender(), "pacs", True),
        (sender(), "node", True),
        (sender(), "refuse", False),
        (sender("PACS", "pacs"), "refuse", True),
        (sender("OTHER", "other"), "pacs", False),
    ],
)
def test_who_is_offered_the_context(who, holder, offered):
    context = service(Queue(), holder).context(who)
    assert (context is not None) is offered
    if context is not None:
        assert (context.abstract_syntax, context.scu_role, context.scp_role) == (SOP_CLASS, True, True)


def action(given, action_type=1):
    return SimpleNamespace(action_type=action_type, action_information=given)


def report(given, event_type=1):
    return SimpleNamespace(event_type=event_type, event_information=given)


def test_request_is_answered_once_it_is_written_down():
    queue = Queue()
    assert service(queue).on_action(action(information(ReferencedSOPSequence=references("1.1"))), sender())[0] == 0
    assert queue.received[0].transaction_uid == "1.2.3"
    gone = service(Queue(fails=True))
    assert gone.on_action(action(information(ReferencedSOPSequence=references("1.1"))), sender())[0] == 0x0110


def test_message_that_cannot_be_read_is_answered_and_not_taken():
    class Broken:
        @property
        def action_information(self):
            raise ValueError("no data set")

        action_type = 1

    queue = Queue()
    assert service(queue).on_action(Broken(), sender()) == (0x0110, None)
    assert service(queue).on_action(action({"TransactionUID": "1.2", "ReferencedSOPSequence": "text"}), sender())[0]
    assert queue.received == []


def test_reporter_speaks_for_the_destinations_of_its_ae_title_only():
    queue = Queue()
    taken = service(queue)
    assert taken.on_report(report(information(ReferencedSOPSequence=[])), sender("PACS", "pacs"))[0] == 0
    assert queue.received[-1] == ("1.2.3", {"pacs", "twin"})
    taken.on_report(report(information(ReferencedSOPSequence=[])), sender())
    assert queue.received[-1] == ("1.2.3", set())
    assert taken.on_report(report(information(transaction="9.9")), sender("PACS", "pacs"))[0] == 0x0115
    assert service(Queue(fails=True)).on_report(report(information()), sender("PACS", "pacs"))[0] == 0x0110
