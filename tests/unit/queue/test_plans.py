"""Claims find their rows by index, however long the history grows."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pacs_guard.domain.commitment import CommitmentReport, CommitmentRequest, Reference
from pacs_guard.domain.policy import Policy
from pacs_guard.queue.forwarding import Forwarding
from pacs_guard.queue.statements import Prepared


@pytest.fixture
def statements(node, instance, monkeypatch):
    """Everything that a study's way from its first instance to delivery executes, with its parameters."""
    caught = []

    def remember(_connection, _cursor, statement, parameters, _context, many):
        caught.append((statement, parameters[0] if many else parameters))

    def remember_prepared(prepared, values):
        parameters = real(prepared, values)
        caught.append((prepared._text, parameters))
        return parameters

    real = Prepared._parameters
    monkeypatch.setattr(Prepared, "_parameters", remember_prepared)  # these go past SQLAlchemy's events
    node.complete(instance(1), instance(2))
    sa.event.listen(node.database.engine, "before_cursor_execute", remember)
    node.send(instance(3), instance(3), instance(3, content="altered"))
    node.complete(instance(4))
    node.assessing.complete_quiet(node.rule)
    node.assessing.bypass_overdue({}, Policy())
    node.decide()
    node.assessing.expire_leases()
    assert node.forwarding.is_due("pacs")
    node.deliver()
    assert node.proving.is_due("pacs")
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.begin(claim, claim.items, "1.1", overdue_in=0)
    node.proving.in_vain("1.1", "nobody", retry_in=0)
    node.proving.reported(CommitmentReport("1.1", (Reference("1", "1"),)), {"pacs"})
    node.prove()
    node.requests.receive(CommitmentRequest("1.1", (Reference("1", "1"),)), calling_ae="A", source="ct", address="x")
    assert node.requests.is_due()
    request = node.requests.claim("answerer", 60)
    node.requests.copies(request)
    node.requests.answered(request, {Reference("1", "1"): 0x0112})
    sa.event.remove(node.database.engine, "before_cursor_execute", remember)
    return caught


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_statement_between_arrival_and_delivery_scans_a_growing_table(node, statements):
    scans = set()
    with node.database.read() as connection:
        for statement, parameters in statements:
            if not statement.startswith(("SELECT", "UPDATE", "DELETE")):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            scans |= {
                (row[3], statement)
                for row in plan
                if row[3].startswith("SCAN")
                and "bypass_switches" not in row[3]  # people turn them; it does not grow with the studies
                and "CONSTANT" not in row[3]
                and "SCAN (" not in row[3]
            }
    assert any(statement.startswith("INSERT INTO instances") for statement, _ in statements)
    assert any("WHERE instances.sop_uid IN" in statement for statement, _ in statements)
    assert any("FROM deliveries" in statement for statement, _ in statements)
    assert scans == set()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_statement_compiles_for_postgresql(node, instance, monkeypatch):
    compiled = []

    def prepare_too(prepared, statement, dialect):
        compiled.append(str(statement.compile(dialect=postgresql.dialect())))
        real(prepared, statement, dialect)

    real = Prepared.__init__
    monkeypatch.setattr(Prepared, "__init__", prepare_too)
    Forwarding(node.database, time.time)

    def compile_too(_connection, element, *_):
        if not isinstance(element, sa.TextClause) and "sqlite" not in type(element).__module__:
            compiled.append(str(element.compile(dialect=postgresql.dialect())))

    sa.event.listen(node.database.engine, "before_execute", compile_too)
    node.forward(instance(1))
    node.deliver()
    node.reports.ledger()
    node.reports.gauges()
    node.prove()
    node.reports.given_up()
    node.reports.unproved()
    node.reports.received_between(0, 1)
    node.review.list_studies()
    node.upkeep.purge_delivered(0)
    list(node.upkeep.expected_files())
    assert any("FOR UPDATE OF deliveries SKIP LOCKED" in statement for statement in compiled)
