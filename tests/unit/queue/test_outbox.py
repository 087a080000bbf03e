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


def test_notification_is_handed_on_to_each_channel_and_each_goes_its_own_way(node, notice):
    node.outbox.hand_on(notice, ["webhook", "email"])
    assert node.outbox.due() == []
    [to_webhook], [to_email] = node.outbox.due("webhook"), node.outbox.due("email")
    assert to_webhook.payload == to_email.payload == notice.payload
    assert (to_email.study_uid, to_email.attempts) == (notice.study_uid, 0)
    node.outbox.failed(to_webhook, "timeout", 30)
    node.outbox.sent(to_email)
    assert node.outbox.due("webhook") == node.outbox.due("email") == []
    assert node.reports.gauges().notifications_waiting == 1


def test_notification_without_a_channel_is_done_once_it_is_in_the_log(node, notice):
    node.outbox.hand_on(notice, [])
    assert node.reports.gauges().notifications_waiting == 0
