"""Notifications, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest


@pytest.fixture
def notice(node, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    [found] = node.outbox.due()
    return found


def test_sent_notification_is_not_due_again(node, notice):
    assert notice.payload["event"] == notice.event == "study_quarantined"
    node.outbox.sent(notice)
    assert node.outbox.due() == []


def test_failed_notification_is_due_after_its_wait(node, notice):
    node.outbox.failed(notice, "timeout", 30)
    assert node.outbox.due() == []
    node.clock.move(30)
    [again] = node.outbox.due()
    assert again.attempts == 1
    node.outbox.failed(again, "timeout", None)
    node.clock.move(1e6)
    assert node.outbox.due() == []
    assert node.reports.gauges().notifications_waiting == 0
