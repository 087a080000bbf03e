from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from pacs_guard.config import EmailSettings, RetrySettings, WebhookSettings
from pacs_guard.deliver import mail
from pacs_guard.deliver.notify import Notifier
from pacs_guard.deliver.webhook import post
from pacs_guard.errors import TransientDeliveryError
from pacs_guard.queue.rows import Notification

EMAIL = EmailSettings(host="mail", sender="guard@example.org", recipients=["a@example.org"])
PAYLOAD = {"event": "study_quarantined", "study": 7, "verdict": "SUSPECTED", "kinds": ["FM"]}


class Outbox:
    """The queue's outbox, in memory."""

    def __init__(self, attempts: int = 0, channel: str = "log") -> None:
        self.notification = Notification(1, "study_quarantined", PAYLOAD, attempts, 0.0)
        self.waiting = {channel: [self.notification]}
        self.failures: list[tuple[str, float | None]] = []
        self.arrived = 0

    def due(self, channel="log", limit=20):
        return list(self.waiting.get(channel, []))[:limit]

    def hand_on(self, notification, channels):
        self.waiting = {channel: [replace(notification)] for channel in channels}
        self.arrived += not channels

    def sent(self, notification):
        self._remove(notification)
        self.arrived += 1

    def failed(self, notification, error, retry_in):
        self._remove(notification)
        self.failures.append((error, retry_in))

    def _remove(self, notification):
        self.waiting = {
            name: [one for one in waiting if one is not notification] for name, waiting in self.waiting.items()
        }


class Metrics:
    def __init__(self) -> None:
        self.results: list[str] = []

    def notification(self, result):
        self.results.append(result)

    def thread_error(self, thread):
        raise AssertionError(thread)


class Chance:
    def random(self) -> float:
        return 0.0


def settings(webhook, email=None):
    return SimpleNamespace(webhook=webhook, email=email, node=SimpleNamespace(ae_title="PACSGUARD"))


def notifier(webhook, outbox, email=None) -> tuple[Notifier, Metrics]:
    metrics = Metrics()
    return Notifier(settings(webhook, email), outbox, metrics, Chance()), metrics


def answer(monkeypatch, reply):
    """Replace the network; `reply(request)` answers or raises."""
    requests = []

    def fake_post(url, **options):
        requests.append((url, options))
        return reply()

    monkeypatch.setattr(httpx, "post", fake_post)
    return requests


def test_without_a_webhook_a_line_in_the_log_announces_the_study():
    outbox = Outbox()
    room, metrics = notifier(None, outbox)
    with capture_logs() as logs:
        assert room.send_due("log")
        assert not room.send_due("log")
    assert outbox.arrived == 1
    assert metrics.results == ["sent"]
    assert logs == [
        {
            "event": "study quarantined",
            "log_level": "warning",
            "study_id": 7,
            "verdict": "SUSPECTED",
            "kinds": ["FM"],
        }
    ]


def test_the_payload_goes_out_as_it_is_with_the_token(monkeypatch):
    requests = answer(monkeypatch, lambda: httpx.Response(204))
    outbox = Outbox()
    room, metrics = notifier(WebhookSettings(url="http://pager/hook", token=SecretStr("s3")), outbox)
    room.send_due("log")
    assert metrics.results == []
    room.send_due("webhook")
    ((url, options),) = requests
    assert url == "http://pager/hook"
    assert options["json"] == PAYLOAD
    assert options["headers"]["Authorization"] == "Bearer s3"
    assert options["timeout"] == 10.0
    assert metrics.results == ["sent"]


def test_a_failure_is_kept_with_its_reason_and_comes_back_later(monkeypatch):
    answer(monkeypatch, lambda: httpx.Response(503))
    outbox = Outbox(channel="webhook")
    room, metrics = notifier(WebhookSettings(url="http://pager/"), outbox)
    room.send_due("webhook")
    assert outbox.failures == [("the webhook answered 503; expected a 2xx status", 5.0)]
    assert metrics.results == ["failed"]


def test_the_last_failure_gives_up_loudly(monkeypatch):
    answer(monkeypatch, lambda: httpx.Response(503))
    outbox = Outbox(attempts=2, channel="webhook")
    room, metrics = notifier(WebhookSettings(url="http://pager/", retry=RetrySettings(max_attempts=3)), outbox)
    with capture_logs() as logs:
        room.send_due("webhook")
    assert outbox.failures[0][1] is None
    assert metrics.results == ["given_up"]
    assert [(log["event"], log["log_level"]) for log in logs] == [("notification given up", "error")]


def test_an_unreachable_webhook_is_a_transient_failure(monkeypatch):
    def refuse():
        raise httpx.ConnectError("refused")

    answer(monkeypatch, refuse)
    with pytest.raises(TransientDeliveryError, match="cannot be reached: ConnectError"):
        post(WebhookSettings(url="http://pager/"), Outbox().notification)


def test_each_configured_channel_gets_a_notification_of_its_own(monkeypatch):
    answer(monkeypatch, lambda: httpx.Response(204))
    mails = []
    monkeypatch.setattr(mail, "send", lambda email, notification, node: mails.append((email, notification.id, node)))
    outbox = Outbox()
    room, metrics = notifier(WebhookSettings(url="http://pager/"), outbox, email=EMAIL)
    room.send_due("log")
    assert sorted(outbox.waiting) == ["email", "webhook"]
    room.send_due("email")
    assert (mails, metrics.results) == ([(EMAIL, 1, "PACSGUARD")], ["sent"])
    assert outbox.due("webhook")


def test_a_channel_that_is_no_longer_configured_is_given_up():
    outbox = Outbox(channel="email")
    room, metrics = notifier(None, outbox)
    with capture_logs():
        room.send_due("email")
    assert outbox.failures == [("the channel email is no longer configured", None)]
    assert metrics.results == ["given_up"]
