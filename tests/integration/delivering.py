"""A queue and a spool filled without a network, and what a deliverer tells, for the tests of delivery."""

from __future__ import annotations

import io
import random
import subprocess
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from pacs_guard.config import DestinationSettings, RetrySettings, Settings
from pacs_guard.deliver.deliverer import Deliverer
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.policy import Decision, Judgement
from pacs_guard.domain.verdict import Verdict
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.assessments import Assessment
from pacs_guard.queue.database import Database
from pacs_guard.queue.forwarding import Forwarding
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.outbox import Outbox
from pacs_guard.queue.review import Review
from pacs_guard.spool.store import Spool
from tests.integration import peers

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = CompletenessRule(quiet_seconds=0.0, longest_wait_seconds=0.0)
SOON = RetrySettings(max_attempts=50, base_seconds=0.2, factor=1.0, jitter=0.0)


def part10(name: str = "CT_small.dcm", *, study: str, sop: str | None = None) -> bytes:
    """One of pydicom's test files under new UIDs, in the syntax it has."""
    ds = pydicom.dcmread(get_testdata_file(name))
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = sop or generate_uid()
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        ds["PixelData"].VR = "OB"  # as PS3.5 A.4 asks; some of the files say OW, which Orthanc puts right
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def with_dcmtk(program: str, options: tuple[str, ...], content: bytes, folder: Path) -> bytes:
    """A Part 10 file converted by one of DCMTK's programs, without touching its UIDs."""
    source, target = folder / f"{uuid.uuid4().hex}.in", folder / f"{uuid.uuid4().hex}.out"
    source.write_bytes(content)
    subprocess.run([peers.dcmtk(program), *options, str(source), str(target)], check=True, timeout=60)
    return target.read_bytes()


class Metrics:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.errors: list[str] = []

    def delivered(self, destination, seconds, length, *, transcoded):
        assert seconds >= 0
        assert length > 0
        self.counts["delivered", destination, "transcoded" if transcoded else "native"] += 1

    def failed(self, destination, kind):
        self.counts["failed", destination, kind] += 1

    def study_delivered(self, destination, seconds):
        assert seconds >= 0
        self.counts["study", destination] += 1

    def notification(self, result):
        self.counts["notification", result] += 1

    def thread_error(self, thread):
        self.errors.append(thread)


class Node:
    """The rooms before delivery, played by the test."""

    def __init__(self, folder: Path, *destinations: str) -> None:
        self.folder = folder
        self.database = Database(f"sqlite:///{folder / 'queue.sqlite'}")
        self.database.prepare()
        self.spool = Spool(folder / "spool")
        self.intake = Intake(self.database, time.time, "test")
        self.assessing = Assessing(self.database, time.time, destinations or ("pacs",))
        self.forwarding = Forwarding(self.database, time.time)
        self.review = Review(self.database, time.time)
        self.outbox = Outbox(self.database, time.time)
        self.metrics = Metrics()
        self.transport = "fast"

    def receive(self, content: bytes, *, sop: str | None = None) -> StoredInstance:
        """Store an instance; `sop` replaces the SOP Instance UID that the receiver would have read."""
        ds = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        data = peers.dataset_bytes(content)
        incoming = self.spool.receive(content[: len(content) - len(data)])
        incoming.write(data)
        path = self.spool.path_for(ds.StudyInstanceUID)
        instance = StoredInstance(
            id=0,
            key=InstanceKey(ds.StudyInstanceUID, ds.SeriesInstanceUID, sop or ds.SOPInstanceUID, incoming.sha256),
            sop_class_uid=str(ds.SOPClassUID),
            transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
            path=path,
            offset=incoming.offset,
            length=incoming.length,
            source="ct",
        )
        incoming.commit(path)
        association = uuid.uuid4().hex
        self.intake.open_association(association, calling_ae="CT1", address="127.0.0.1", source="ct")
        self.intake.record(instance, calling_ae="CT1", association_id=association)
        self.intake.close_association(association)
        return instance

    def decide(self, decision: Decision = Decision.FORWARD) -> int:
        """Let the study be whole and judged, and return its id."""
        self.assessing.complete_quiet(AT_ONCE)
        study = self.assessing.claim("worker", 60)
        assert study is not None
        verdict = Verdict.CLEAN if decision is Decision.FORWARD else Verdict.SUSPECTED
        judgement = Judgement(decision, verdict, "said the test")
        self.assessing.decide(study, Assessment(judgement, (), {}, None, time.time()))
        return study.id

    def forward(self, *contents: bytes) -> int:
        for content in contents:
            self.receive(content)
        return self.decide()

    def state(self, study: int) -> str:
        return str(self.review.details(study).summary.state)

    def wait_for(self, study: int, state: str, seconds: float = 20.0) -> None:
        peers.wait_until(lambda: self.state(study) == state, seconds=seconds, what=f"study {study} {state}")

    def items(self) -> list[tuple[str, str, str, int | None, str | None, str | None]]:
        """(destination, SOP Instance UID, state, status, error, transcoded to) of every instance on its way."""
        query = (
            "SELECT d.destination, i.sop_uid, t.state, t.status, t.error, t.transcoded_to FROM delivery_items t "
            "JOIN deliveries d ON d.id = t.delivery_id JOIN instances i ON i.id = t.instance_id ORDER BY i.id, d.id"
        )
        with self.database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    @contextmanager
    def deliverer(self, *destinations: DestinationSettings):
        settings = Settings(
            sources=[{"name": "ct", "ae_titles": ["CT1"]}],
            destinations=[destination.model_dump() for destination in destinations],
            deliver={"transport": self.transport},
        )
        deliverer = Deliverer(
            settings, self.spool, self.forwarding, self.metrics, time.time, random.Random(1), poll_seconds=0.02
        )
        deliverer.start()
        try:
            yield deliverer
        finally:
            assert deliverer.stop(30), "a thread did not end"


def pacs(port: int, name: str = "pacs", **changes) -> DestinationSettings:
    return DestinationSettings(**{"name": name, "ae_title": "PACS", "port": port, "retry": SOON, **changes})


@contextmanager
def scp(answer, *, port: int | None = None, contexts=None, **options):
    """A pynetdicom storage SCP; `answer(event)` gives the status. Yields (port, instances received)."""
    received: list[str] = []

    def handle(event):
        received.append(str(event.request.AffectedSOPInstanceUID))
        return answer(event)

    ae = AE(ae_title="PACS")
    for name, value in options.items():
        setattr(ae, name, value)
    for sop_class, syntaxes in contexts or [("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2.1"])]:
        ae.add_supported_context(sop_class, syntaxes)
    port = port or peers.free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    try:
        yield port, received
    finally:
        server.shutdown()
