from __future__ import annotations

from types import SimpleNamespace

import pytest

from pacs_guard.cli import auditing
from pacs_guard.cli.auditing import AuditTrail, note_reload
from pacs_guard.config import Settings
from pacs_guard.domain.audit import AuditEvent
from pacs_guard.errors import SupervisionError
from pacs_guard.ops.reload import Outcome
from pacs_guard.queue.auditing import Auditing
from pacs_guard.queue.database import Database


def settings(**audit):
    return Settings(
        audit=audit, sources=[{"name": "a", "ae_titles": ["A"]}], destinations=[{"name": "pacs", "ae_title": "PACS"}]
    )


@pytest.fixture
def stores(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(auditing, "CLOCK", clock)
    database = Database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    database.prepare()
    yield SimpleNamespace(settings=settings(), auditing=Auditing(database, clock))
    database.close()


def told(stores):
    return [(event.event, event.facts) for event in stores.auditing.due()]


def test_a_scraper_that_comes_every_few_seconds_is_told_of_once_an_hour(stores, clock):
    trail = AuditTrail(stores)
    for _ in range(300):
        trail.login("prometheus", "10.0.0.1", True)
        clock.move(15)
    assert told(stores) == [(AuditEvent.LOGIN, {"who": "prometheus", "address": "10.0.0.1"})] * 2


def test_who_guesses_passwords_is_told_of_with_the_number_of_tries(stores, clock):
    trail = AuditTrail(stores)
    for _ in range(10):
        trail.login("root", "10.0.0.9", False)
    clock.move(11)
    trail.login("root", "10.0.0.9", False)
    assert [(event, facts["count"]) for event, facts in told(stores)] == [
        (AuditEvent.LOGIN_FAILED, 1),
        (AuditEvent.LOGIN_FAILED, 10),
    ]


def test_the_repository_can_change_while_the_node_runs(stores):
    sent = []
    trail = AuditTrail(stores)
    trail.send_audit()  # nowhere to
    trail.reconfigure(settings(host="127.0.0.1", port=1, transport="udp"))
    trail._sender._transport = SimpleNamespace(send=sent.extend)
    stores.auditing.note(AuditEvent.STARTED, role="ops")
    trail.send_audit()
    assert len(sent) == 1
    with pytest.raises(SupervisionError, match=r"audit: the certificates gone.pem cannot be used"):
        trail.reconfigure(settings(host="127.0.0.1", ca_file="gone.pem"))
    stores.auditing.note(AuditEvent.STOPPED, role="ops")
    trail.send_audit()
    assert len(sent) == 2


def test_a_reload_is_told_by_the_names_of_what_changed(stores):
    note = note_reload(stores, "receive")
    note(Outcome("receive", 1.0, 1.0, changed=("tls.cert_file", "sources[a].mode")))
    note(Outcome("receive", 2.0, 1.0, errors=("receive.port: 0 was given",)))
    assert told(stores) == [
        (AuditEvent.SETTINGS_CHANGED, {"role": "receive", "settings": ["tls.cert_file", "sources[a].mode"]}),
        (AuditEvent.SETTINGS_REFUSED, {"role": "receive", "reason": "receive.port: 0 was given"}),
    ]
