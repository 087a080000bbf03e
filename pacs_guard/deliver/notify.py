"""Notifications from the queue's outbox: a line in the log first, then each channel that is configured."""

from __future__ import annotations

import random
import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver import mail
from pacs_guard.deliver.loop import Loop, stop_all
from pacs_guard.deliver.webhook import post
from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.config import Settings
    from pacs_guard.deliver.metrics import DeliverMetrics
    from pacs_guard.domain.retry import RetryPolicy
    from pacs_guard.queue.outbox import Outbox
    from pacs_guard.queue.rows import Notification

_LOG = structlog.get_logger(__name__)
LOG, WEBHOOK, EMAIL = CHANNELS = ("log", "webhook", "email")


class Notifier:
    """Announces what the outbox holds, over each channel by a thread of its own: a dead one delays no other.

    Parameters
    ----------
    settings : Settings
        Webhook and e-mail, if any; without, a line in the log is all.
    outbox : Outbox
    metrics : DeliverMetrics
    rng : random.Random, optional
        Spreads retries.
    poll_seconds : float
        How often the outbox is looked at when nothing is due.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        metrics: DeliverMetrics,
        rng: random.Random | None = None,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self._channels = _channels(settings)
        self._outbox = outbox
        self._metrics = metrics
        self._rng = rng or random.Random()  # noqa: S311  # no secret
        self._stop = threading.Event()
        self._loops = [
            Loop(
                f"notify:{channel}",
                partial(self.send_due, channel),
                idle_seconds=poll_seconds,
                stop=self._stop,
                count_error=metrics.thread_error,
            )
            for channel in CHANNELS
        ]

    def reconfigure(self, settings: Settings) -> None:
        """Announce as `settings` say from the next notification on."""
        self._channels = _channels(settings)

    def start(self) -> None:
        """Start the threads."""
        for loop in self._loops:
            loop.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the threads finish what is under way; return whether they ended within `timeout` seconds."""
        return stop_all(self._loops, timeout)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(loop.is_alive for loop in self._loops)

    def send_due(self, channel: str) -> bool:
        """Announce over a channel what is due, the oldest first, and return whether there was anything."""
        due = self._outbox.due(channel)
        for notification in due:
            if self._stop.is_set():
                break
            if channel == LOG:
                self._log(notification)
            else:
                self._send(channel, notification)
        return bool(due)

    def _log(self, notification: Notification) -> None:
        payload = notification.payload
        _LOG.warning(
            notification.event.replace("_", " "),
            study_id=payload.get("study"),
            verdict=payload.get("verdict"),
            kinds=payload.get("kinds"),
        )
        channels = list(self._channels)
        self._outbox.hand_on(notification, channels)
        if not channels:
            self._metrics.notification("sent")

    def _send(self, channel: str, notification: Notification) -> None:
        if channel not in self._channels:
            self._failed(channel, notification, f"the channel {channel} is no longer configured", None)
            return
        send, retry = self._channels[channel]
        try:
            send(notification)
        except TransientDeliveryError as error:
            self._failed(channel, notification, str(error), retry)
            return
        self._outbox.sent(notification)
        self._metrics.notification("sent")

    def _failed(self, channel: str, notification: Notification, error: str, retry: RetryPolicy | None) -> None:
        attempts = notification.attempts + 1
        retry_in = retry.delay(attempts, self._rng.random()) if retry else None
        self._outbox.failed(notification, error, retry_in)
        self._metrics.notification("failed" if retry_in is not None else "given_up")
        log = _LOG.warning if retry_in is not None else _LOG.error
        log(
            "notification not sent" if retry_in is not None else "notification given up",
            notification_id=notification.id,
            channel=channel,
            attempts=attempts,
            retry_in=retry_in,
            error=error,
        )


def _channels(settings: Settings) -> dict[str, tuple[Callable[[Notification], None], RetryPolicy]]:
    """Return how each configured channel sends a notification, and how it is tried again."""
    found: dict[str, tuple[Callable[[Notification], None], RetryPolicy]] = {}
    if settings.webhook is not None:
        found[WEBHOOK] = (partial(post, settings.webhook), settings.webhook.retry.policy())
    if settings.email is not None:
        email, node = settings.email, settings.node.ae_title
        found[EMAIL] = (lambda notification: mail.send(email, notification, node), email.retry.policy())
    return found
