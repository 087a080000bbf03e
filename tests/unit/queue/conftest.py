"""A prepared, empty database of each supported kind, and a node's worth of queue objects on it."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.policy import Decision, Judgement
from pacs_guard.domain.verdict import Finding, FindingKind, SeriesResult, Verdict
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.assessments import Assessment
from pacs_guard.queue.commitment import CommitmentRequests
from pacs_guard.queue.database import Database
from pacs_guard.queue.forwarding import Forwarding
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.outbox import Outbox
from pacs_guard.queue.proving import Proving
from pacs_guard.queue.reports import Reports
from pacs_guard.queue.review import Review
from pacs_guard.queue.rows import DeliveredItem
from pacs_guard.queue.schema import REVISION, metadata
from pacs_guard.queue.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs_guard.domain.lifecycle import StudyState
    from pacs_guard.queue.proofrows import ClaimedProof
    from pacs_guard.queue.rows import ClaimedDelivery, Outcome

RULE = CompletenessRule(quiet_seconds=30, longest_wait_seconds=1800)
CLEAN = Judgement(Decision.FORWARD, Verdict.CLEAN, "nothing suspicious")
SUSPECTED = Judgement(Decision.QUARANTINE, Verdict.SUSPECTED, "a nodule was painted in")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables, copied for every test."""
    path = tmp_path_factory.mktemp("template") / "queue.sqlite"
    database = Database(f"sqlite:///{path}")
    database.prepare()
    database.close()  # the last connection folds the write-ahead log in
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[sa.URL]:
    """A PostgreSQL cluster for this run, without durability; skips where there is none."""
    pytest.importorskip("psycopg", reason="the postgresql extra is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = programs[-1] if programs else shutil.which("initdb")
    if not found:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user: dict[str, str] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        user = {"user": "postgres", "group": "postgres"}
    run = {"capture_output": True, "timeout": 60, "cwd": folder, **user}
    bin_dir = Path(found).parent
    data = folder / "data"
    subprocess.run([found, "-D", data, "-A", "trust", "-U", "postgres", "-N"], check=True, **run)
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
    control = [bin_dir / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", options, "start"], check=True, **run)
    try:
        url = sa.URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(folder)})
        _on_server(url, "CREATE DATABASE prepared")
        database = Database(_text(url.set(database="prepared")))
        database.prepare()
        database.close()
        yield url
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **run)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database with all tables."""
    if request.param == "sqlite":
        path = tmp_path / "queue.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgresql_server")
    prepared = server.set(database="prepared")
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    _on_server(prepared, f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    _on_server(prepared, f"UPDATE alembic_version SET version_num = '{REVISION}'")  # noqa: S608  # a constant
    yield _text(prepared)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'new' / 'queue.sqlite'}"


@dataclass
class Node:
    """Every side of the queue on one database, with shorthands for what happens before the thing under test."""

    database: Database
    clock: Any
    destinations: tuple[str, ...] = ("pacs",)
    clean = CLEAN
    suspected = SUSPECTED
    rule = RULE

    def __post_init__(self) -> None:
        self.intake = Intake(self.database, self.clock, "receiver")
        self.assessing = Assessing(self.database, self.clock, self.destinations)
        self.forwarding = Forwarding(self.database, self.clock)
        self.review = Review(self.database, self.clock)
        self.proving = Proving(self.database, self.clock)
        self.requests = CommitmentRequests(self.database, self.clock)
        self.reports = Reports(self.database, self.clock)
        self.outbox = Outbox(self.database, self.clock)
        self.upkeep = Upkeep(self.database, self.clock)
        self._numbers = itertools.count(1)

    def send(self, *instances: StoredInstance) -> list[Outcome]:
        """Receive instances over an association of their own."""
        association = f"association{next(self._numbers)}"
        self.intake.open_association(association, calling_ae="CT1", address="10.0.0.1", source="ct")
        outcomes = [
            self.intake.record(instance, calling_ae="CT1", association_id=association) for instance in instances
        ]
        self.intake.close_association(association)
        return outcomes

    def complete(self, *instances: StoredInstance) -> None:
        """Receive instances and wait until their studies are whole."""
        self.send(*instances)
        self.clock.move(31)
        self.assessing.complete_quiet(RULE)

    def decide(self, judgement: Judgement = CLEAN, **changes: object) -> StudyState:
        """Claim the next study and decide on it."""
        claimed = self.assessing.claim("worker", 60)
        assert claimed is not None
        return self.assessing.decide(claimed, replace(assessment(judgement), **changes))

    def forward(self, *instances: StoredInstance) -> None:
        """Receive instances and clear their study."""
        self.complete(*instances)
        self.decide()

    def deliver(self, destination: str = "pacs") -> ClaimedDelivery:
        """Deliver everything of the next study."""
        claimed = self.forwarding.claim(destination, "deliverer", 60)
        assert claimed is not None
        for instance in claimed.pending:
            self.forwarding.items_delivered(claimed, [DeliveredItem(instance.id, 0, None, 0.0)], seconds=60)
        self.forwarding.finish(claimed, error=None, retry_in=None)
        return claimed

    def prove(self, destination: str = "pacs") -> ClaimedProof:
        """Have a destination vouch for everything of the next study that is to be proved."""
        claimed = self.proving.claim(destination, "prover", 60)
        assert claimed is not None
        self.proving.decide(claimed, proved=claimed.items)
        return claimed

    def state(self, study_id: int = 1) -> StudyState:
        return self.review.details(study_id).summary.state

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        """All rows of all tables, to show that nothing was written."""
        with self.database.read() as connection:
            tables = [table for table in sa.inspect(connection).get_table_names() if table != "alembic_version"]
            return {
                table: sorted(map(tuple, connection.execute(sa.text(f"SELECT * FROM {table}"))), key=repr)  # noqa: S608  # its own tables
                for table in tables
            }


@pytest.fixture
def node(database: Database, clock: Callable[[], float]) -> Node:
    return Node(database, clock)


@pytest.fixture
def two_pacs(database: Database, clock: Callable[[], float]) -> Node:
    return Node(database, clock, ("pacs", "archive"))


@pytest.fixture
def instance() -> Callable[..., StoredInstance]:
    """Make an instance as the receiver hands it over."""
    return make_instance


_paths = itertools.count(1)


def make_instance(number: int = 1, *, study: str = "1.2", content: str = "", source: str = "ct") -> StoredInstance:
    """Return an instance whose path is new each time."""
    digest = hashlib.sha256(f"{study} {number} {content}".encode()).hexdigest()
    return StoredInstance(
        id=0,
        key=InstanceKey(study, f"{study}.1", f"{study}.1.{number}", digest),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=f"instances/aa/bb/{next(_paths)}.dcm",
        offset=400,
        length=1000,
        source=source,
    )


def assessment(judgement: Judgement) -> Assessment:
    """What a worker writes down."""
    suspected = judgement.verdict is Verdict.SUSPECTED
    finding = Finding(
        FindingKind.FM, "forensic", judgement.reason, score=3.5, p_value=0.001, position_mm=(1.0, 2.0, 3.0)
    )
    series = SeriesResult(
        "1.2.1", judgement.verdict, judgement.reason, score=3.5, p_value=0.001, findings=(finding,) if suspected else ()
    )
    return Assessment(
        judgement=judgement,
        series=(series,),
        bundles={"forensic": "1.0"},
        evidence="evidence/1" if suspected else None,
        started_at=999_999.0,
        kinds=("FM",) if suspected else (),
    )


def _text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def _on_server(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
