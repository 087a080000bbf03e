"""Notifications from the queue's outbox to a webhook, or to the log alone."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver.loop import Loop
from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from pacs_guard.config import WebhookSettings
    from pacs_guard.deliver.metrics import DeliverMetrics
    from pacs_guard.queue.outbox import Outbox
    from pacs_guard.queue.rows import Notification

_LOG = structlog.get_logger(__name__)


class Notifier:
    """Announces what the outbox holds.

    Parameters
    ----------
    webhook : WebhookSettings or None
        Where to; without, a line in the log is all.
    outbox : Outbox
    metrics : DeliverMetrics
    rng : random.Random, optional
        Spreads retries.
    poll_seconds : float
        How often the outbox is looked at when nothing is due.
    """

    def __init__(
        self,
        webhook: WebhookSettings | None,
        outbox: Outbox,
        metrics: DeliverMetrics,
        rng: random.Random | None = None,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self._webhook = webhook
        self._outbox = outbox
        self._metrics = metrics
        self._rng = rng or random.Random()  # noqa: S311  # no secret
        self._stop = threading.Event()
        self._loop = Loop(
            "notify",
            self.send_due,
            idle_seconds=poll_seconds,
            stop=self._stop,
            count_error=metrics.thread_error,
        )

    def reconfigure(self, webhook: WebhookSettings | None) -> None:
        """Announce to `webhook` from the next notification on."""
        self._webhook = webhook

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the thread finish what is under way; return whether it ended within `timeout` seconds."""
        self._stop.set()
        return self._loop.join(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._loop.is_alive

    def send_due(self) -> bool:
        """Announce what is due, the oldest first, and return whether there was anything."""
        due = self._outbox.due()
        for notification in due:
            if self._stop.is_set():
                break
            self._announce(notification)
        return bool(due)

    def _announce(self, notification: Notification) -> None:
        if notification.attempts == 0:
            self._log_line(notification)
        webhook = self._webhook
        try:
            if webhook is not None:
                post(webhook, notification)
        except TransientDeliveryError as error:
            self._failed(webhook, notification, str(error))
            return
        self._outbox.sent(notification)
        self._metrics.notification("sent")

    def _log_line(self, notification: Notification) -> None:
        payload = notification.payload
        _LOG.warning(
            notification.event.replace("_", " "),
            study_id=payload.get("study"),
            verdict=payload.get("verdict"),
            kinds=payload.get("kinds"),
        )

    def _failed(self, webhook: WebhookSettings | None, notification: Notification, error: str) -> None:
        attempts = notification.attempts + 1
        retry_in = webhook.retry.policy().delay(attempts, self._rng.random()) if webhook else None
        self._outbox.failed(notification, error, retry_in)
        self._metrics.notification("failed" if retry_in is not None else "given_up")
        log = _LOG.warning if retry_in is not None else _LOG.error
        log(
            "notification not sent" if retry_in is not None else "notification given up",
            notification_id=notification.id,
            attempts=attempts,
            retry_in=retry_in,
            error=error,
        )


def post(webhook: WebhookSettings, notification: Notification) -> None:
    """POST one notification as JSON.

    Raises
    ------
    TransientDeliveryError
        If the webhook does not answer with a 2xx status.
    """
    import httpx  # noqa: PLC0415  # slow to import, and without a webhook never needed

    headers = {"Idempotency-Key": f"pacs-guard-{notification.id}"}
    if webhook.token is not None:
        headers["Authorization"] = f"Bearer {webhook.token.get_secret_value()}"
    try:
        answer = httpx.post(webhook.url, json=notification.payload, headers=headers, timeout=webhook.timeout_seconds)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TransientDeliveryError(f"the webhook cannot be reached: {type(error).__name__}: {error}") from error
    if not answer.is_success:
        raise TransientDeliveryError(f"the webhook answered {answer.status_code}; expected a 2xx status")
