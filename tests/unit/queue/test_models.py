"""Promotions and rollbacks, and what workers say of them; on SQLite and PostgreSQL."""

import pytest
import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.models import LoadedModel, ModelVersion
from pacs_guard.errors import LifecycleError, QueueError
from pacs_guard.queue.auditing import Auditing
from pacs_guard.queue.models import SILENT_SECONDS, Models
from pacs_guard.queue.schema import model_switches

SECOND, THIRD = (ModelVersion("forensic", version, version * 32) for version in ("22", "33"))
BY = {"who": "Dr. Jones", "reason": "fewer false alarms"}


@pytest.fixture
def models(node):
    return Models(node.database, node.clock)


def test_rollbacks_go_back_step_by_step_to_what_the_settings_say(models):
    assert models.in_force() == {}
    models.promote(SECOND, **BY)
    models.promote(THIRD, **BY)
    assert models.in_force() == {"forensic": THIRD}
    assert models.roll_back("forensic", **BY) == SECOND
    assert models.in_force() == {"forensic": SECOND}
    assert models.roll_back("forensic", **BY) is None
    assert models.in_force() == {}
    with pytest.raises(LifecycleError, match="no promotion of forensic is in force"):
        models.roll_back("forensic", **BY)
    assert [(one.action, one.to) for one in models.history()] == [
        ("promote", SECOND),
        ("promote", THIRD),
        ("rollback", SECOND),
        ("rollback", None),
    ]


def test_a_switch_is_announced_and_audited_and_not_repeated(node, models):
    models.promote(SECOND, **BY)
    with pytest.raises(LifecycleError, match="in force already"):
        models.promote(SECOND, **BY)
    models.roll_back("forensic", **BY)
    assert [one.event for one in node.outbox.due()] == ["model_promoted", "model_rolled_back"]
    told = Auditing(node.database, node.clock).due()
    assert [one.event for one in told] == [AuditEvent.MODELS, AuditEvent.MODELS]
    assert told[0].facts == {"models": {"forensic": "22"}, "action": "promote", **BY}
    assert told[1].facts["models"] == {"forensic": "as the settings say"}


@pytest.mark.parametrize("statement", [sa.update(model_switches).values(who="x"), sa.delete(model_switches)])
def test_a_switch_cannot_be_changed_or_removed(node, models, statement):
    models.promote(SECOND, **BY)
    with pytest.raises(QueueError, match="recorded for good"), node.database.write() as connection:
        connection.execute(statement)


def test_a_worker_says_what_it_judges_by_and_is_forgotten_when_silent(node, models):
    one = LoadedModel("forensic", "1", "ab", "there is no forensic 22")
    models.report("a:detect:", [one, LoadedModel("integrity", "1", None)])
    models.report("b:detect:", [LoadedModel("forensic", "22", "cd")])
    assert ("a:detect:", one) in models.loaded()
    assert len(models.loaded()) == 3
    models.report("a:detect:", [])
    assert models.loaded() == [("b:detect:", LoadedModel("forensic", "22", "cd"))]
    node.clock.move(SILENT_SECONDS + 1)
    assert models.loaded() == []
