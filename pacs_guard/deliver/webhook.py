"""Notifications to a webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from pacs_guard.config import WebhookSettings
    from pacs_guard.queue.rows import Notification


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
