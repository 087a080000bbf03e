"""Wires the audit trail: what sends it, what clears it up, and ``audit export``."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import structlog
import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.domain.audit import AuditEvent
from pacs_guard.errors import QueueError, SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import AuditSettings, Settings
    from pacs_guard.ops.audit.messages import Node
    from pacs_guard.ops.audit.sender import AuditSender
    from pacs_guard.ops.audit.syslog import Transport

_LOG = structlog.get_logger(__name__)
_SEND_SECONDS = 1.0
_PURGE_SECONDS = 3600.0
_DAY = 86400.0
_UNSENT_FACTOR = 4.0
"""What the repository has not been told is kept so many times longer."""


def audit_chores(stores: Stores) -> list[tuple[Callable[[], None], float]]:
    """Return what has to be done for the audit trail, each with its seconds.

    Raises
    ------
    SupervisionError
        If a certificate cannot be used.
    """

    def purge_audit() -> None:
        seconds = stores.settings.audit.retention_days * _DAY
        kept_here_only = stores.settings.audit.host is None
        removed = stores.auditing.purge(seconds, unsent=kept_here_only)
        if not kept_here_only and (lost := stores.auditing.purge(seconds * _UNSENT_FACTOR, unsent=True)):
            _LOG.error("audit events were too old to be kept; the repository never heard of them", events=lost)
        if removed:
            _LOG.info("old audit events removed", events=removed)

    chores: list[tuple[Callable[[], None], float]] = [(purge_audit, _PURGE_SECONDS)]
    if (sender := audit_sender(stores)) is not None:
        chores.append((sender.send_audit, _SEND_SECONDS))
    return chores


def audit_sender(stores: Stores) -> AuditSender | None:
    """Return what sends the audit trail, None where no repository is configured."""
    from pacs_guard.ops.audit.sender import AuditSender

    settings = stores.settings.audit
    if settings.host is None:
        return None
    patient_id = partial(_patient_id, stores) if settings.include_patient_id else None
    node = audit_node(stores.settings)
    transport = _transport(settings.host, settings)
    return AuditSender(stores.auditing, transport, node, settings.retry.policy(), CLOCK, patient_id)


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
    return patient_id(stores.settings.spool_dir / path) if path is not None else None


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
