"""A receiver, a deliverer and those who ask and answer for storage commitment, over one queue; and peers for them."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from pacs_guard.config import Settings
from pacs_guard.deliver.answerer import Answerer
from pacs_guard.deliver.deliverer import Deliverer
from pacs_guard.deliver.proofroom import ProofRoom
from pacs_guard.domain.commitment import SOP_CLASS, SOP_INSTANCE
from pacs_guard.queue import schema
from pacs_guard.queue.commitment import CommitmentRequests
from pacs_guard.queue.proving import Proving
from pacs_guard.queue.reports import Reports
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.receive.commitment import CommitmentService
from pacs_guard.receive.receiver import Receiver
from tests.integration import peers
from tests.integration.delivering import SOON, Node
from tests.integration.receiving import CountingMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FAST = {"delay_seconds": 0.0, "wait_seconds": 0.3, "timeout_seconds": 20.0}


class Guard(Node):
    """The node of the delivery tests, with what proof of delivery needs."""

    def __init__(self, folder: Path, *destinations: dict, source: dict | None = None, tls: dict | None = None) -> None:
        super().__init__(folder, *(destination["name"] for destination in destinations))
        self.port = peers.free_port()
        self.settings = Settings(
            node={"data_dir": folder},
            receive={"host": "127.0.0.1", "port": self.port, "min_free_bytes": 0},
            sources=[{"name": "ct", "ae_titles": ["CT1"], **(source or {})}],
            destinations=list(destinations),
            tls=tls or {},
        )
        self.proving = Proving(self.database, time.time)
        self.requests = CommitmentRequests(self.database, time.time)
        self.reports = Reports(self.database, time.time)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        service = CommitmentService(self.settings, self.requests, self.proving)
        receiver = Receiver(self.settings, self.spool, self.intake, CountingMetrics(), commitment=service)
        receiver.start()
        try:
            yield
        finally:
            receiver.stop(5)

    @contextmanager
    def running(self) -> Iterator[Guard]:
        deliverer = Deliverer(self.settings, self.spool, self.forwarding, self.metrics, time.time, poll_seconds=0.02)
        proofs = ProofRoom(self.settings, self.proving, self.metrics, time.time, poll_seconds=0.02)
        answers = Answerer(self.settings, self.requests, self.spool, self.metrics, time.time, poll_seconds=0.02)
        rooms = [deliverer, proofs, answers]
        with self.receiving():
            for room in rooms:
                room.start()
            try:
                yield self
            finally:
                ended = [room.stop(30) for room in rooms]
                assert all(ended), "a thread did not end"

    def proofs(self) -> list[tuple[str, str | None]]:
        """(state, proof) of every instance at every destination, in the order received."""
        items = schema.delivery_items
        with self.database.read() as connection:
            query = items.select().order_by(items.c.instance_id, items.c.delivery_id)
            return [(row["state"], row["proof"]) for row in connection.execute(query).mappings()]

    def errors(self) -> list[str]:
        items = schema.delivery_items
        with self.database.read() as connection:
            return [row["error"] for row in connection.execute(items.select()).mappings() if row["error"]]

    def upkeep_paths(self) -> list[str]:
        """What retention would remove now."""
        return Upkeep(self.database, lambda: time.time() + 1).purge_delivered(0.0)

    def transactions(self) -> list[str]:
        with self.database.read() as connection:
            query = schema.commitments.select().order_by(schema.commitments.c.asked_at)
            return [row["transaction_uid"] for row in connection.execute(query).mappings()]

    def wait_for_proofs(self, *expected: tuple[str, str | None], seconds: float = 15.0) -> None:
        try:
            peers.wait_until(lambda: self.proofs() == list(expected), seconds=seconds, what=f"proofs {expected}")
        except AssertionError:
            print(self.proofs(), self.errors())
            raise


def destination(port: int, name: str = "pacs", **proof: object) -> dict:
    return {"name": name, "ae_title": "PACS", "port": port, "retry": SOON.model_dump(), "proof": {**FAST, **proof}}


@dataclass
class Pacs:
    """A storage SCP that offers storage commitment, and reports as the test says.

    Attributes
    ----------
    report : str
        ``same`` or ``new`` association, or ``never``.
    denied : dict of str to list of int
        Failure Reasons by SOP Instance UID, one used up by each request.
    action_statuses : list of int
        Statuses of the next N-ACTION responses, before all others succeed.
    """

    guard_port: int
    report: str = "new"
    denied: dict[str, list[int]] = field(default_factory=dict)
    action_statuses: list[int] = field(default_factory=list)
    offers: tuple[str, ...] = (SOP_CLASS,)
    held: set[str] = field(default_factory=set)
    delay: float = 0.0
    port: int = field(default_factory=peers.free_port)
    stored: list[str] = field(default_factory=list)
    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Pacs]:
        entity = AE("PACS")
        entity.add_supported_context(CT, [EXPLICIT])
        for sop_class in self.offers:
            entity.add_supported_context(sop_class)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_C_FIND, self._find),
        ]
        server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            threading.Thread(target=server.shutdown, daemon=True).start()

    def _store(self, event):
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _action(self, event):
        information = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence]
        self.asked.append((str(information.TransactionUID), uids))
        if self.action_statuses and (status := self.action_statuses.pop(0)):
            return status, None
        if self.report != "never":
            event_type, report = self._report(information)
            how = self._on_same if self.report == "same" else self._on_new
            threading.Thread(target=how, args=(event.assoc, event_type, report), daemon=True).start()
        return 0x0000, None

    def _report(self, information) -> tuple[int, Dataset]:
        report = Dataset()
        report.TransactionUID = information.TransactionUID
        report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
        for item in information.ReferencedSOPSequence:
            reasons = self.denied.get(str(item.ReferencedSOPInstanceUID))
            if reasons:
                item.FailureReason = reasons.pop(0)
                report.FailedSOPSequence.append(item)
            else:
                report.ReferencedSOPSequence.append(item)
        if not report.FailedSOPSequence:
            del report.FailedSOPSequence
            return 1, report
        return 2, report

    def _on_same(self, association, event_type, report):
        time.sleep(0.05 + self.delay)
        status, _ = association.send_n_event_report(report, event_type, SOP_CLASS, SOP_INSTANCE)
        self.statuses.append(status.get("Status", -1))

    def _on_new(self, _association, event_type, report):
        time.sleep(self.delay)
        self.statuses.append(tell(self.guard_port, report, event_type))

    def _find(self, event):
        query = event.identifier
        if query.QueryRetrieveLevel == "IMAGE":
            for uid in sorted(self.held):
                answer = Dataset()
                answer.QueryRetrieveLevel, answer.SOPInstanceUID = "IMAGE", uid
                yield 0xFF00, answer
        elif self.held:
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.NumberOfStudyRelatedInstances = "STUDY", len(self.held)
            yield 0xFF00, answer


def tell(port: int, report: Dataset, event_type: int, *, calling: str = "PACS", role: bool = True) -> int:
    """Send an N-EVENT-REPORT over an association of its own, as a PACS does; return the status answered, or -1."""
    entity = AE(calling)
    entity.add_requested_context(SOP_CLASS)
    roles = [build_role(SOP_CLASS, scp_role=True)] if role else []
    association = entity.associate("127.0.0.1", port, ae_title="PACSGUARD", ext_neg=roles)
    if not association.accepted_contexts:
        return -1
    status, _ = association.send_n_event_report(report, event_type, SOP_CLASS, SOP_INSTANCE)
    association.release()
    return status.get("Status", -1)
