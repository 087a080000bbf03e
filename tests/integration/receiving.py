"""A receiver over a real spool and queue, and a peer that sends whatever bytes a test wants."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from pacs_guard.config import Settings
from pacs_guard.queue import schema
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.receive.receiver import Receiver
from pacs_guard.spool.sealed import records_in
from pacs_guard.spool.store import Spool
from tests.integration.peers import dataset_bytes, free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pynetdicom.association import Association

TRANSPORT = "fast"
SEGMENT_BYTES = 1 << 21
CALLERS = ["STORESCU", "DCMSEND", "ECHOSCU", "TESTSCU"]


@dataclass
class CountingMetrics:
    """Keeps what was counted."""

    instances: list[tuple] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    certificates: dict[str, float] = field(default_factory=dict)

    def instance(self, source: str, outcome: str, status: int, length: int, seconds: float) -> None:
        assert seconds >= 0
        self.instances.append((source, outcome, status, length))

    def association_opened(self, source: str) -> None:
        self.opened.append(source)

    def association_closed(self, source: str, seconds: float) -> None:
        assert seconds >= 0
        self.closed.append(source)

    def association_refused(self, reason: str) -> None:
        self.refused.append(reason)

    def certificate(self, source: str, expires: float) -> None:
        self.certificates[source] = expires


@dataclass
class RunningNode:
    """A receiver that listens, and what it works on."""

    port: int
    receiver: Receiver
    spool: Spool
    database: Database
    intake: Intake
    metrics: CountingMetrics
    settings: Settings

    def another(self, name: str) -> Receiver:
        """Start a second receiver on the same port, spool and database, as another process would."""
        receiver = Receiver(self.settings, self.spool, Intake(self.database, time.time, name), self.metrics)
        receiver.start()
        return receiver

    def rows(self, table: sa.Table) -> list[sa.RowMapping]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(table)).mappings())

    def instances(self) -> list[sa.RowMapping]:
        return self.rows(schema.instances)

    def refusals(self) -> list[sa.RowMapping]:
        return self.rows(schema.refusals)

    def data_sets(self) -> list[bytes]:
        """What lies in the spool under the rows' paths, checked against the rows."""
        found = []
        for row in self.instances():
            with self.spool.content_at(row["path"]) as file:
                content = file.read()
            assert dataset_bytes(content) == content[row["offset"] :]
            assert len(content) == row["offset"] + row["length"]
            found.append(content[row["offset"] :])
        return found

    def files(self, part: str = "instances") -> list[Path | str]:
        """What lies in a part of the spool; of its instances, what lies in segments too."""
        found = [file for file in (self.spool.root / part).rglob("*") if file.is_file()]
        records = [f"{file}/{one}" for file, one in self.records()] if part == "instances" else []
        return sorted(found) + records

    def is_receiving(self) -> bool:
        """Whether a data set is under way."""
        open_ones = self.receiver._handlers.associations._open.values()
        return any(one._under_way for one in list(open_ones))

    def records(self) -> list[tuple[str, int]]:
        """Segment and place of what lies in segments."""
        found = []
        for segment in sorted((self.spool.root / "segments").iterdir()):
            file = f"segments/{segment.name}"
            with segment.open("rb") as opened:
                found += [(file, record.start) for record in records_in(opened.fileno(), file)]
        return found


@contextmanager
def node(
    folder: Path,
    *,
    source: dict | None = None,
    sources: Sequence[dict] = (),
    identity: dict | None = None,
    **receive: object,
) -> Iterator[RunningNode]:
    """Run a receiver in this process."""
    before = set(threading.enumerate())
    port = free_port()
    settings = Settings(
        node={"data_dir": folder / "data"},
        tls=identity or {},
        receive={
            "host": "127.0.0.1",
            "port": port,
            "min_free_bytes": 0,
            "transport": TRANSPORT,
            "segment_bytes": SEGMENT_BYTES,
            **receive,
        },
        sources=[{"name": "ct1", "ae_titles": CALLERS, **(source or {})}, *sources],
        destinations=[{"name": "pacs", "ae_title": "PACS"}],
    )
    database = Database(settings.database_url)
    database.prepare()
    spool = Spool(settings.spool_dir, segment_bytes=settings.receive.segment_bytes)
    metrics, intake = CountingMetrics(), Intake(database, time.time, "test")
    receiver = Receiver(settings, spool, intake, metrics)
    receiver.start()
    try:
        yield RunningNode(port, receiver, spool, database, intake, metrics, settings)
    finally:
        receiver.stop(5)
        database.close()
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("receive")]
    assert not left


def associate(
    port: int,
    *,
    sop_classes: tuple[str, ...] = (CTImageStorage,),
    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
    calling: str = "TESTSCU",
    called: str = "PACSGUARD",
    tls: ssl.SSLContext | None = None,
) -> Association:
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    contexts = [build_context(uid, list(transfer_syntaxes)) for uid in sop_classes]
    tls_args = (tls, "127.0.0.1") if tls is not None else None
    return entity.associate("127.0.0.1", port, contexts=contexts, ae_title=called, tls_args=tls_args)


@contextmanager
def associated(port: int, **how) -> Iterator[Association]:
    association = associate(port, **how)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def request_fragments(
    association: Association,
    content: bytes | None,
    *,
    sop_uid: str | None = "1.2.3.4",
    sop_class: str = CTImageStorage,
    size: int = 16000,
) -> list[P_DATA]:
    """Return the PDUs of a C-STORE request whose data set is `content`; None for a request without data set."""
    message = C_STORE_RQ()
    request = C_STORE()
    request.MessageID, request.Priority = 7, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_uid
    message.primitive_to_message(request)
    message.command_set.CommandDataSetType = 0x0101 if content is None else 0x0001
    message.data_set = None
    context = association.accepted_contexts[0].context_id
    fragments = list(message.encode_msg(context, size + 6))
    if content is not None:
        parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
        for number, part in enumerate(parts, start=1):
            fragment = P_DATA()
            fragment.presentation_data_value_list.append((context, bytes([2 * (number == len(parts))]) + part))
            fragments.append(fragment)
    return fragments


def send_raw(association: Association, content: bytes | None, **what) -> C_STORE:
    """Send any bytes as the data set of a C-STORE request, and return the response."""
    association._reactor_checkpoint.clear()
    try:
        while not association._is_paused:
            time.sleep(0.001)
        for fragment in request_fragments(association, content, **what):
            association.dul.send_pdu(fragment)
        _, response = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    assert isinstance(response, C_STORE), "no answer came"
    return response
