"""The asking side of proof of delivery, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pacs_guard.domain.commitment import CommitmentReport, Reference
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.errors import LeaseLostError, NotFoundError
from pacs_guard.queue.schema import delivery_items, proofs

CT = "1.2.840.10008.5.1.4.1.1.2"


def report(transaction, committed=(), failed=()):
    return CommitmentReport(
        transaction,
        tuple(Reference(CT, uid) for uid in committed),
        tuple((Reference(CT, uid), reason) for uid, reason in failed),
    )


def known(node):
    with node.database.read() as connection:
        query = sa.select(delivery_items.c.state, delivery_items.c.proof).order_by(delivery_items.c.instance_id)
        return [tuple(row) for row in connection.execute(query)]


def row(node):
    with node.database.read() as connection:
        return connection.execute(sa.select(proofs)).mappings().one()


def asked(node, transaction="1.1"):
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.begin(claim, claim.items, transaction, overdue_in=100)
    return claim


def delivered(node, *instances):
    node.forward(*instances)
    node.deliver()


def test_what_is_delivered_is_due_and_claimed_once(node, instance):
    node.forward(instance(1), instance(2))
    assert not node.proving.is_due("pacs")
    node.deliver()
    assert node.proving.is_due("pacs")
    assert not node.proving.is_due("pacs", delay_seconds=5)
    assert not node.proving.is_due("archive")
    claim = node.proving.claim("pacs", "prover", 60)
    assert (len(claim.items), claim.delivered, claim.attempts, claim.study_uid) == (2, 2, 0, "1.2")
    assert node.proving.claim("pacs", "another", 60) is None
    node.proving.release_leases("prov")
    assert node.proving.claim("pacs", "another", 60) is not None


def test_an_open_transaction_outlives_its_asker_and_is_due_again_when_overdue(node, instance):
    delivered(node, instance(1))
    asked(node)
    assert (row(node)["state"], row(node)["lease_owner"]) == ("asked", None)
    assert not node.proving.is_due("pacs")
    node.clock.move(101)
    assert node.proving.claim("pacs", "prover", 60).attempts == 1


def test_report_in_full_settles_and_a_second_one_changes_nothing(node, instance):
    delivered(node, instance(1), instance(2))
    asked(node)
    assert node.proving.is_awaited("1.1")
    assert not node.proving.reported(report("1.1", ["1.2.1.1"]), {"archive"})
    assert not node.proving.reported(report("9.9", ["1.2.1.1"]), {"pacs"})
    assert node.proving.reported(report("1.1", ["1.2.1.1", "1.2.1.2", "7.7"]), {"pacs"})
    assert known(node) == [("delivered", "proved")] * 2
    assert (row(node)["state"], row(node)["proved"], row(node)["pending"]) == ("settled", 2, 0)
    assert not node.proving.is_awaited("1.1")
    assert node.proving.reported(report("1.1", [], [("1.2.1.1", 0x0112)]), {"pacs"})
    assert known(node) == [("delivered", "proved")] * 2
    assert row(node)["state"] == "settled"


def test_denied_instance_is_decided_at_once_and_one_not_mentioned_when_overdue(node, instance):
    delivered(node, instance(1), instance(2), instance(3))
    asked(node)
    node.proving.reported(report("1.1", ["1.2.1.1"], [("1.2.1.2", 0x0112)]), {"pacs"})
    assert known(node) == [("delivered", "proved"), ("delivered", "denied"), ("delivered", "asked")]
    claim = node.proving.claim("pacs", "prover", 60)
    assert [(item.sop_uid, item.reason) for item in claim.items] == [("1.2.1.2", 0x0112), ("1.2.1.3", None)]


def test_resending_takes_the_study_back_on_its_way(node, instance):
    delivered(node, instance(1), instance(2))
    claim = node.proving.claim("pacs", "prover", 60)
    assert node.proving.decide(claim, proved=claim.items[:1], resend=claim.items[1:]) is False
    assert node.state() is StudyState.FORWARDING
    assert known(node) == [("delivered", "proved"), ("pending", None)]
    assert [item.id for item in node.deliver().pending] == [2]
    assert node.state() is StudyState.DELIVERED
    claim = node.proving.claim("pacs", "prover", 60)
    assert [(item.instance_id, item.resends) for item in claim.items] == [(2, 1)]


@pytest.mark.parametrize("state", ["held", "receiving"])
def test_resending_waits_for_the_verdict_of_a_study_that_was_opened_again(node, instance, state):
    delivered(node, instance(1))
    claim = node.proving.claim("pacs", "prover", 60)
    if state == "held":
        node.complete(instance(2))
        node.decide(node.suspected)
    else:
        node.send(instance(2))
    node.proving.decide(claim, resend=claim.items)
    assert node.state() == state
    assert node.forwarding.claim("pacs", "d", 60) is None
    if state == "held":
        node.review.release(1, who="rad", reason="clean", destinations=("pacs",))
    else:
        node.clock.move(31)
        node.assessing.complete_quiet(node.rule)
        node.decide()
    assert len(node.deliver().pending) == 2


def test_failing_ends_the_study_as_failed(node, instance):
    delivered(node, instance(1), instance(2))
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, proved=claim.items[:1], failed=claim.items[1:], why="it never keeps it")
    assert node.state() is StudyState.FAILED
    [given_up] = node.reports.given_up()
    assert given_up["error"] == "it never keeps it"
    assert node.forwarding.retry(1) == 1
    node.deliver()
    node.prove()
    assert node.state() is StudyState.DELIVERED


def test_late_instance_is_asked_about_beside_an_open_transaction(node, instance):
    delivered(node, instance(1))
    asked(node, "1.1")
    delivered(node, instance(2))
    claim = asked(node, "1.2")
    assert [item.instance_id for item in claim.items] == [1, 2]
    node.proving.reported(report("1.1", ["1.2.1.1"]), {"pacs"})
    assert known(node) == [("delivered", "proved"), ("delivered", "asked")]
    node.proving.reported(report("1.2", ["1.2.1.1", "1.2.1.2"]), {"pacs"})
    assert known(node) == [("delivered", "proved")] * 2


def test_outcome_of_a_lost_lease_is_not_written(node, instance):
    delivered(node, instance(1))
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.release_leases("prover")
    with pytest.raises(LeaseLostError):
        node.proving.decide(claim, proved=claim.items)
    with pytest.raises(LeaseLostError):
        node.proving.begin(claim, claim.items, "1.1", overdue_in=1)
    assert known(node) == [("delivered", None)]


def test_refused_request_waits_and_its_report_counts_all_the_same(node, instance):
    delivered(node, instance(1))
    asked(node)
    node.proving.in_vain("1.1", "no answer", retry_in=10)
    assert row(node)["state"] == "due"
    assert not node.proving.is_due("pacs")
    node.proving.reported(report("1.1", ["1.2.1.1"]), {"pacs"})
    assert row(node)["state"] == "settled"
    node.proving.in_vain("1.1", "no answer", retry_in=10)
    assert row(node)["state"] == "settled"


def test_only_what_is_proved_is_removed_unless_a_site_says_otherwise(node, instance):
    delivered(node, instance(1), instance(2), instance(3))
    node.clock.move(100)
    assert node.upkeep.purge_delivered(10, unproved_at=["pacs"]) == []
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, proved=claim.items[:1], unproved=claim.items[1:2])
    assert len(node.upkeep.purge_delivered(10)) == 1
    assert len(node.upkeep.purge_delivered(10, unproved_at=["archive"])) == 0
    assert len(node.upkeep.purge_delivered(10, unproved_at=["pacs"])) == 1
    node.proving.decide(claim, unasked=claim.items[2:])
    assert len(node.upkeep.purge_delivered(10)) == 1


def test_destination_that_is_gone_leaves_its_copies_unproved(node, instance):
    delivered(node, instance(1))
    assert node.proving.give_up_unconfigured(["pacs"]) == []
    assert node.proving.give_up_unconfigured(["archive"], grace_seconds=10) == []
    assert node.proving.give_up_unconfigured(["archive"]) == [1]
    assert known(node) == [("delivered", "unproved")]
    assert row(node)["state"] == "settled"


def test_unproved_can_be_asked_about_again(node, instance):
    delivered(node, instance(1))
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, unproved=claim.items)
    assert not node.proving.is_due("pacs")
    assert node.proving.ask_again(1) == 1
    assert node.proving.is_due("pacs")
    with pytest.raises(NotFoundError):
        node.proving.ask_again(9)


def test_gauges_count_what_is_known_and_the_age_of_what_is_not(node, instance):
    delivered(node, instance(1), instance(2))
    node.clock.move(50)
    gauges = node.reports.gauges()
    assert gauges.proofs["pacs", "pending"] == 2
    assert gauges.oldest_proof_seconds == {"pacs": 50.0}
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, proved=claim.items[:1], unproved=claim.items[1:])
    gauges = node.reports.gauges()
    assert {key[1]: count for key, count in gauges.proofs.items() if count} == {"proved": 1, "unproved": 1}
    assert gauges.oldest_proof_seconds == {"pacs": 0.0}


def test_old_deliveries_are_due_after_the_upgrade(sqlite_url):
    """What was delivered by an older release and is still here is asked about; what is gone is left alone."""
    from alembic import command  # noqa: PLC0415  # slow

    from pacs_guard.queue import database as database_module  # noqa: PLC0415
    from pacs_guard.queue.proving import Proving  # noqa: PLC0415

    database = database_module.Database(sqlite_url)
    with database.write() as connection:
        command.upgrade(database_module._alembic_config(connection), "0004")
        for statement in OLD:
            connection.exec_driver_sql(statement)
    database.prepare()
    proving = Proving(database, lambda: 100.0)
    claim = proving.claim("pacs", "prover", 60)
    assert [item.instance_id for item in claim.items] == [1]
    assert proving.claim("pacs", "prover", 60) is None
    database.close()


OLD = (
    """INSERT INTO studies (id, study_uid, state, kinds, standing_hold, bypassed, received_count, revision, attempts,
       created_at, opened_at, last_instance_at) VALUES (1, '1.2', 'delivered', '', 0, 0, 2, 1, 0, 1, 1, 1)""",
    *(
        f"""INSERT INTO instances (id, study_id, series_uid, sop_uid, sha256, sop_class_uid, transfer_syntax_uid, path,
        "offset", length, source, calling_ae, received_at, duplicates, missing, purged_at)
        VALUES ({number}, 1, '1.2.1', '1.2.1.{number}', '{number}', '1', '1', '{number}', 0, 1, 'ct', 'CT', 1, 0, 0,
        {purged})"""  # noqa: S608  # constants
        for number, purged in ((1, "NULL"), (2, "5.0"))
    ),
    """INSERT INTO deliveries (id, study_id, destination, state, attempts, not_before, started_at, finished_at)
       VALUES (1, 1, 'pacs', 'delivered', 0, 0, 1, 2)""",
    *(
        f"INSERT INTO delivery_items (delivery_id, instance_id, state, attempts) VALUES (1, {number}, 'delivered', 0)"  # noqa: S608  # constants
        for number in (1, 2)
    ),
)
