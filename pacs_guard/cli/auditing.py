"""Wires the audit trail: what sends it, what clears it up, and ``audit export``."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.domain.audit import AuditEvent, Throttle
from pacs_guard.errors import QueueError, SpoolError, SupervisionError
from pacs_guard.spool.store import StoredFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import AuditSettings, Settings
    from pacs_guard.ops.audit.messages import Node
    from pacs_guard.ops.audit.sender import AuditSender
    from pacs_guard.ops.audit.syslog import Transport
    from pacs_guard.ops.reload import Outcome

_LOG = structlog.get_logger(__name__)
_SEND_SECONDS = 1.0
_PURGE_SECONDS = 3600.0
_DAY = 86400.0
_SAME_LOGIN_SECONDS = 3600.0  # a scraper comes every few seconds
_SAME_FAILURE_SECONDS = 10.0
_UNSENT_FACTOR = 4.0
"""What the repository has not been told is kept so many times longer."""


class AuditTrail:
    """What has to be done for the audit trail, by the settings in force.

    Parameters
    ----------
    stores : Stores

    Raises
    ------
    SupervisionError
        If a certificate cannot be used.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._settings = stores.settings
        self._sender = audit_sender(stores, stores.settings)
        self._logins = {True: Throttle(_SAME_LOGIN_SECONDS), False: Throttle(_SAME_FAILURE_SECONDS)}

    @property
    def chores(self) -> list[tuple[Callable[[], None], float]]:
        """What is to be done again and again, each with its seconds."""
        return [(self.purge_audit, _PURGE_SECONDS), (self.send_audit, _SEND_SECONDS)]

    def reconfigure(self, settings: Settings) -> None:
        """Send as `settings` say from now on.

        Raises
        ------
        SupervisionError
            If a certificate cannot be used; nothing changes then.
        """
        self._sender = audit_sender(self._stores, settings)
        self._settings = settings

    def send_audit(self) -> None:
        """Send what is due, if there is a repository."""
        if (sender := self._sender) is not None:
            sender.send_audit()

    def purge_audit(self) -> None:
        """Remove what was kept long enough."""
        settings, auditing = self._settings.audit, self._stores.auditing
        seconds = settings.retention_days * _DAY
        kept_here_only = settings.host is None
        removed = auditing.purge(seconds, unsent=kept_here_only)
        if not kept_here_only and (lost := auditing.purge(seconds * _UNSENT_FACTOR, unsent=True)):
            _LOG.error("audit events were too old to be kept; the repository never heard of them", events=lost)
        if removed:
            _LOG.info("old audit events removed", events=removed)

    def login(self, user: str, address: str, admitted: bool) -> None:  # a caller's signature
        """Write down that somebody came in, or tried to; whoever comes again and again is told once in a while."""
        count = self._logins[admitted].passes((user, address), CLOCK())
        if not count:
            return
        event = AuditEvent.LOGIN if admitted else AuditEvent.LOGIN_FAILED
        facts: dict[str, Any] = {} if admitted else {"reason": "wrong user or password", "count": count}
        try:
            self._stores.auditing.note(event, who=user, address=address, **facts)
        except QueueError as error:
            _LOG.warning("login not written down", error=str(error))


def note_reload(stores: Stores, role: str) -> Callable[[Outcome], None]:
    """Return what writes down that a role took changed settings, or refused to."""

    def note(outcome: Outcome) -> None:
        if outcome.errors:
            stores.auditing.note(AuditEvent.SETTINGS_REFUSED, role=role, reason="; ".join(outcome.errors))
        else:
            stores.auditing.note(AuditEvent.SETTINGS_CHANGED, role=role, settings=list(outcome.changed))

    return note


def audit_sender(stores: Stores, settings: Settings) -> AuditSender | None:
    """Return what sends the audit trail, None where no repository is configured.

    Raises
    ------
    SupervisionError
        If a certificate cannot be used.
    """
    from pacs_guard.ops.audit.sender import AuditSender

    audit = settings.audit
    if audit.host is None:
        return None
    patient_id = partial(_patient_id, stores) if audit.include_patient_id else None
    transport = _transport(audit.host, audit)
    return AuditSender(stores.auditing, transport, audit_node(settings), audit.retry.policy(), CLOCK, patient_id)


def audit_node(settings: Settings) -> Node:
    """Return how the node names itself to the repository."""
    from pacs_guard.ops.audit.messages import Node

    own = settings.node.ae_title
    return Node(own, socket.gethostname(), settings.audit.source_id or own, settings.audit.site_id)


def _transport(host: str, settings: AuditSettings) -> Transport:
    from pacs_guard.ops.audit.syslog import TlsTransport, UdpTransport, tls_context

    if settings.transport == "udp":
        return UdpTransport(host, settings.port)
    try:
        context = tls_context(settings.ca_file, settings.cert_file, settings.key_file)
    except OSError as error:  # ssl's errors are such too
        files = [str(file) for file in (settings.ca_file, settings.cert_file, settings.key_file) if file is not None]
        raise SupervisionError(f"audit: the certificates {', '.join(files)} cannot be used: {error}") from error
    return TlsTransport(host, settings.port, context, settings.timeout_seconds)


def _patient_id(stores: Stores, study_id: int) -> str | None:
    from pacs_guard.ops.audit.patient import patient_id

    path = stores.auditing.patient_source(study_id)
    if path is None:
        return None
    try:
        content = StoredFiles(stores.settings.spool_dir).content_at(path)
    except SpoolError:  # the message goes out without an ID
        return None
    with content:
        return patient_id(content)


def note_stop(stores: Stores, role: str) -> None:
    """Write down that a role ends; a queue that is gone does not keep it from ending."""
    try:
        stores.auditing.note(AuditEvent.STOPPED, role=role)
    except QueueError as error:
        _LOG.warning("end of role not written down", error=str(error))


def export_audit(config: Path | None, *, hours: float) -> None:
    """Print the audit messages of the last hours, one XML document a line."""
    from pacs_guard.ops.audit.messages import audit_message

    stores = open_stores(settings_from(config))
    node = audit_node(stores.settings)
    for event in stores.auditing.since(CLOCK() - hours * 3600.0):
        document = audit_message(event, node).decode()
        typer.echo(document.replace("\r", " ").replace("\n", " "))
