"""Storage commitment that a modality asks of the node: who vouches, and how the modality is told."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from pacs_guard.domain.commitment import SOP_CLASS, SOP_INSTANCE
from pacs_guard.domain.policy import Decision
from pacs_guard.queue import schema
from tests.authority import Authority
from tests.integration import peers
from tests.integration.proving import CT, Guard, Pacs, destination
from tests.integration.test_proof import study

MR = "1.2.840.10008.5.1.4.1.1.4"
SUCCESS = 0x0000


@dataclass
class Modality:
    """Asks for commitment, and listens for reports: (transaction, event type, committed, failed with reasons)."""

    port: int = field(default_factory=peers.free_port)
    answers: list[int] = field(default_factory=list)
    reports: list[tuple[str, int, set[str], dict[str, int]]] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    @contextmanager
    def listening(self):
        entity = AE("CT1")
        entity.add_supported_context(SOP_CLASS, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls)
        try:
            yield self
        finally:
            threading.Thread(target=server.shutdown, daemon=True).start()

    def _take(self, event):
        information = event.event_information
        committed = {str(one.ReferencedSOPInstanceUID) for one in information.get("ReferencedSOPSequence", [])}
        failed = {
            str(one.ReferencedSOPInstanceUID): one.FailureReason for one in information.get("FailedSOPSequence", [])
        }
        self.reports.append((str(information.TransactionUID), event.event_type, committed, failed))
        return (self.answers.pop(0) if self.answers else SUCCESS), None

    def ask(self, guard: Guard, uids, *, transaction=None, sop_class=CT, action=1, calling="CT1") -> int | None:
        """Return the N-ACTION status; None if the presentation context was not accepted."""
        information = Dataset()
        information.TransactionUID = transaction or generate_uid(prefix=None)
        information.ReferencedSOPSequence = []
        for uid in uids:
            one = Dataset()
            one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = sop_class, uid
            information.ReferencedSOPSequence.append(one)
        entity = AE(calling)
        entity.add_requested_context(SOP_CLASS)
        association = entity.associate("127.0.0.1", guard.port, ae_title="PACSGUARD")
        if not association.accepted_contexts:
            return None
        status, _ = association.send_n_action(information, action, SOP_CLASS, SOP_INSTANCE)
        association.release()
        return status.Status

    def wait(self, count: int = 1, seconds: float = 10.0):
        peers.wait_until(lambda: len(self.reports) >= count, seconds=seconds, what=f"{count} reports")
        return self.reports[-1]


def guard_for(tmp_path, modality: Modality, pacs_port: int, holder: str, *, identity=None, **commitment) -> Guard:
    retry = {"base_seconds": 0.1, "jitter": 0, "max_attempts": 3}
    settings = {"holder": holder, "port": modality.port, "retry": retry, **commitment}
    return Guard(tmp_path, destination(pacs_port), source={"commitment": settings}, tls=identity)


@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_node_vouches_for_what_it_has_and_for_nothing_else(tmp_path, transport):
    contents, uids = study(3)
    with Modality().listening() as modality:
        guard = guard_for(tmp_path, modality, peers.free_port(), "node")
        receive = guard.settings.receive.model_copy(update={"transport": transport})
        guard.settings = guard.settings.model_copy(update={"receive": receive})
        instances = [guard.receive(content) for content in contents]
        (guard.spool.root / instances[1].path).write_bytes(b"something else")
        with guard.running():
            assert modality.ask(guard, [*uids, "1.2.3"], transaction="9.8.7") == SUCCESS
            transaction, event, committed, failed = modality.wait()
            assert (transaction, event, committed) == ("9.8.7", 2, {uids[0], uids[2]})
            assert failed == {uids[1]: 0x0112, "1.2.3": 0x0112}
            modality.ask(guard, uids[:1], sop_class=MR)
            assert modality.wait(2)[3] == {uids[0]: 0x0119}
            modality.ask(guard, uids[:1])
            assert modality.wait(3)[1:] == (1, {uids[0]}, {})


@pytest.mark.parametrize("holder", ["node", "pacs"])
def test_held_study_is_vouched_for_by_the_node_and_not_by_the_pacs(tmp_path, holder):
    contents, uids = study(1)
    with Modality().listening() as modality:
        guard = guard_for(tmp_path, modality, peers.free_port(), holder)
        guard.receive(contents[0])
        guard.decide(Decision.QUARANTINE)
        with guard.running():
            modality.ask(guard, uids)
            expected = ({uids[0]}, {}) if holder == "node" else (set(), {uids[0]: 0x0110})
            assert modality.wait()[2:] == expected


def test_pacs_vouches_once_it_proved_every_instance(tmp_path):
    contents, uids = study(2)
    with Modality().listening() as modality, Pacs(0, delay=0.3).running() as pacs:
        guard = guard_for(tmp_path, modality, pacs.port, "pacs")
        pacs.guard_port = guard.port
        for content in contents:
            guard.receive(content)
        with guard.running():
            modality.ask(guard, uids)
            time.sleep(0.3)
            assert modality.reports == []
            guard.decide()
            assert modality.wait()[1:] == (1, set(uids), {})
            assert [proof for _, proof in guard.proofs()] == ["proved", "proved"]


def test_what_no_pacs_proved_in_time_is_reported_as_failed(tmp_path):
    contents, uids = study(1)
    with Modality().listening() as modality:
        guard = guard_for(tmp_path, modality, peers.free_port(), "pacs", longest_wait_seconds=0.2)
        guard.receive(contents[0])
        with guard.running():
            modality.ask(guard, uids)
            assert modality.wait()[1:] == (2, set(), {uids[0]: 0x0110})


def test_destination_without_proof_vouches_for_nothing(tmp_path):
    contents, uids = study(1)
    with Modality().listening() as modality, Pacs(0, offers=()).running() as pacs:
        guard = guard_for(tmp_path, modality, pacs.port, "pacs")
        with guard.running():
            guard.forward(*contents)
            modality.ask(guard, uids)
            assert modality.wait()[2:] == (set(), {uids[0]: 0x0110})


def states(guard):
    with guard.database.read() as connection:
        return list(connection.execute(sa.select(schema.commitment_requests.c.state)).scalars())


def test_modality_that_does_not_take_a_report_is_told_again_and_may_ask_again(tmp_path):
    contents, uids = study(1)
    with Modality(answers=[0x0110] * 3).listening() as modality:
        guard = guard_for(tmp_path, modality, peers.free_port(), "node")
        guard.receive(contents[0])
        with guard.running():
            modality.ask(guard, uids, transaction="9.8.7")
            peers.wait_until(lambda: states(guard) == ["failed"])
            assert len(modality.reports) == 3
            assert modality.ask(guard, uids, transaction="9.8.7") == SUCCESS
            peers.wait_until(lambda: states(guard) == ["answered"])
            assert modality.ask(guard, ["1.2.3"], transaction="9.8.7") == 0x0115


def test_request_survives_a_restart_before_it_is_answered(tmp_path):
    contents, uids = study(1)
    modality = Modality()
    guard = guard_for(tmp_path, modality, peers.free_port(), "node", retry={"base_seconds": 0.1, "max_attempts": 500})
    guard.receive(contents[0])
    with guard.running():
        assert modality.ask(guard, uids) == SUCCESS
        time.sleep(0.1)
    with modality.listening(), guard.running():
        assert modality.wait()[2] == {uids[0]}


def test_request_that_cannot_be_served_is_answered_with_its_reason(tmp_path):
    modality = Modality()
    with guard_for(tmp_path, modality, peers.free_port(), "node").running() as guard:
        assert modality.ask(guard, []) == 0x0115
        assert modality.ask(guard, ["1.2.3"], action=2) == 0x0123
        # a destination may report, and nothing else
        assert modality.ask(guard, ["1.2.3"], calling="PACS") == 0x0124
        assert states(guard) == []


def test_source_that_may_not_ask_is_not_offered_the_context(tmp_path):
    modality = Modality()
    with guard_for(tmp_path, modality, peers.free_port(), "refuse").running() as guard:
        assert modality.ask(guard, ["1.2.3"]) is None


def test_report_goes_over_tls_where_the_scanner_wants_that(tmp_path):
    contents, uids = study(1)
    authority = Authority(tmp_path / "authority")
    scanner, own = authority.issue("scanner"), authority.issue("guard")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
    context.load_cert_chain(scanner.cert_file, scanner.key_file)
    context.verify_mode = ssl.CERT_REQUIRED
    identity = {**own.as_settings(), "ca_file": str(authority.ca_file)}
    with Modality(tls=context).listening() as modality:
        guard = guard_for(tmp_path, modality, peers.free_port(), "node", identity=identity, tls=True)
        guard.receive(contents[0])
        with guard.running():
            modality.ask(guard, uids)
            assert modality.wait()[1:] == (1, set(uids), {})
