from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from pacs_guard.config import RetrySettings, WebhookSettings
from pacs_guard.deliver.notify import Notifier, post
from pacs_guard.errors import TransientDeliveryError
from pacs_guard.queue.rows import Notification

PAYLOAD = {"event": "study_quarantined", "study": 7, "verdict": "SUSPECTED", "kinds": ["FM"]}


class Outbox:
    """The queue's outbox, in memory."""

    def __init__(self, attempts: int = 0) -> None:
        self.waiting = [Notification(1, "study_quarantined", PAYLOAD, attempts, 0.0)]
        self.failures: list[tuple[str, float | None]] = []
        self.arrived = 0

    def due(self, limit=20):
        return self.waiting[:limit]

    def sent(self, notification):
        self.waiting.remove(notification)
        self.arrived += 1

    def failed(self, notification, error, retry_in):
        self.waiting.remove(notification)
        self.failures.append((error, retry_in))


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


def notifier(webhook, outbox) -> tuple[Notifier, Metrics]:
    metrics = Metrics()
    return Notifier(webhook, outbox, metrics, Chance()), metrics


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
        assert room.send_due()
        assert not room.send_due()
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
    room.send_due()
    ((url, options),) = requests
    assert url == "http://pager/hook"
    assert options["json"] == PAYLOAD
    assert options["headers"]["Authorization"] == "Bearer s3"
    assert options["timeout"] == 10.0
    assert metrics.results == ["sent"]


def test_a_failure_is_kept_with_its_reason_and_comes_back_later(monkeypatch):
    answer(monkeypatch, lambda: httpx.Response(503))
    outbox = Outbox()
    room, metrics = notifier(WebhookSettings(url="http://pager/"), outbox)
    room.send_due()
    assert outbox.failures == [("the webhook answered 503; expected a 2xx status", 5.0)]
    assert metrics.results == ["failed"]


def test_the_last_failure_gives_up_loudly(monkeypatch):
    answer(monkeypatch, lambda: httpx.Response(503))
    outbox = Outbox(attempts=2)
    room, metrics = notifier(WebhookSettings(url="http://pager/", retry=RetrySettings(max_attempts=3)), outbox)
    with capture_logs() as logs:
        room.send_due()
    assert outbox.failures[0][1] is None
    assert metrics.results == ["given_up"]
    assert [(log["event"], log["log_level"]) for log in logs] == [("notification given up", "error")]


def test_an_unreachable_webhook_is_a_transient_failure(monkeypatch):
    def refuse():
        raise httpx.ConnectError("refused")

    answer(monkeypatch, refuse)
    with pytest.raises(TransientDeliveryError, match="cannot be reached: ConnectError"):
        post(WebhookSettings(url="http://pager/"), Outbox().waiting[0])
