"""Notifications by e-mail (RFC 5321, RFC 5322)."""

from __future__ import annotations

import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, formataddr
from typing import TYPE_CHECKING

import structlog

from pacs_guard.domain.announcement import fill
from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from pacs_guard.config import EmailSettings
    from pacs_guard.queue.rows import Notification

_LOG = structlog.get_logger(__name__)
_LONGEST_SUBJECT = 200


def message(email: EmailSettings, notification: Notification, node: str) -> EmailMessage:
    """Return the e-mail that tells of a notification.

    Parameters
    ----------
    email : EmailSettings
    notification : Notification
    node : str
        AE title of the node.
    """
    uid = notification.study_uid if email.include_study_uid else None
    subject, body = (
        fill(template, notification.payload, node=node, study_uid=uid) for template in (email.subject, email.body)
    )
    found = EmailMessage()
    found["From"] = formataddr((f"PACS Guard {node}", email.sender))
    found["To"] = ", ".join(email.recipients)
    found["Subject"] = " ".join(subject.split())[:_LONGEST_SUBJECT]  # a header is one line
    found["Date"] = format_datetime(datetime.fromtimestamp(notification.created_at, UTC))
    # the same for every attempt, so that a mailbox can tell a repetition
    found["Message-ID"] = f"<{notification.id}.{notification.created_at:.0f}.{node}@{email.sender.partition('@')[2]}>"
    found["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday note answers it
    found.set_content(body)
    return found


def send(email: EmailSettings, notification: Notification, node: str) -> None:
    """Send one notification.

    Raises
    ------
    TransientDeliveryError
        If the server does not take it for at least one recipient.
    """
    try:
        with _connected(email) as server:
            if email.username is not None and email.password is not None:
                server.login(email.username, email.password.get_secret_value())
            refused = server.send_message(message(email, notification, node))
    except (OSError, smtplib.SMTPException) as error:  # its texts are the server's and hold no password
        where = f"the mail server {email.host} port {email.port}"
        raise TransientDeliveryError(f"{where} did not take it: {type(error).__name__}: {error}") from error
    if refused:
        _LOG.error("mail server refused some recipients", recipients=len(refused), notification_id=notification.id)


def _connected(email: EmailSettings) -> smtplib.SMTP:
    """Return a connection that is encrypted unless the settings say otherwise."""
    context = ssl.create_default_context(cafile=str(email.ca_file) if email.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if email.security == "tls":
        return smtplib.SMTP_SSL(email.host, email.port, timeout=email.timeout_seconds, context=context)
    server = smtplib.SMTP(email.host, email.port, timeout=email.timeout_seconds)
    if email.security == "starttls":
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server
