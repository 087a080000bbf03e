"""Sends audit events to the repository, again and again until they are there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

from pacs_guard.errors import TransientDeliveryError
from pacs_guard.ops.audit.messages import Node, audit_message
from pacs_guard.ops.audit.syslog import syslog_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.domain.retry import RetryPolicy
    from pacs_guard.ops.audit.syslog import Transport
    from pacs_guard.queue.auditing import Auditing, StoredEvent

_LOG = structlog.get_logger(__name__)


class AuditSender:
    """Tells the audit repository what is due.

    Parameters
    ----------
    auditing : Auditing
        The queue.
    transport : Transport
    node : Node
    retry : RetryPolicy
        Its waits; an audit event is never given up before it is too old to be kept.
    clock : callable
        Returns seconds.
    patient_id : callable or None
        Returns the patient ID of a study by its id, where the site wants it told.
    rng : random.Random, optional
        Spreads retries.
    """

    def __init__(
        self,
        auditing: Auditing,
        transport: Transport,
        node: Node,
        retry: RetryPolicy,
        clock: Callable[[], float],
        patient_id: Callable[[int], str | None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._auditing = auditing
        self._transport = transport
        self._node = node
        self._retry = retry
        self._patient_id = patient_id
        self._clock = clock
        self._failures = 0
        self._not_before = clock()
        self._rng = rng or random.Random()  # noqa: S311  # no secret

    def send_audit(self) -> None:
        """Send everything that waits, the oldest first; a repository that does not answer is left alone for a while."""
        if self._clock() < self._not_before:
            return
        while events := self._auditing.due():
            try:
                self._transport.send([self._message(event) for event in events])
            except TransientDeliveryError as error:
                self._failed(events, str(error))
                return
            self._auditing.sent(events)
            self._failures = 0

    def _message(self, event: StoredEvent) -> bytes:
        patient_id = None
        if self._patient_id is not None and event.study_id is not None:
            patient_id = self._patient_id(event.study_id)
        return syslog_message(audit_message(event, self._node, patient_id), event.at, host=self._node.host)

    def _failed(self, events: list[StoredEvent], error: str) -> None:
        self._failures += 1
        wait = self._retry.delay(min(self._failures, max(1, self._retry.max_attempts - 1)), self._rng.random())
        retry_in = self._retry.cap_seconds if wait is None else wait
        self._not_before = self._clock() + retry_in
        self._auditing.failed(events, error)
        _LOG.warning("audit events not sent", attempts=self._failures, retry_in=retry_in, error=error)
