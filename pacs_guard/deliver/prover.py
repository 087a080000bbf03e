"""Asks destinations whether they keep what they took: a thread for each, besides those that send."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from pydicom.uid import generate_uid

from pacs_guard.deliver.association import drop, open_association
from pacs_guard.deliver.commitment import SYNTAXES, ReportListener, request_commitment
from pacs_guard.deliver.count import STUDY_ROOT_FIND, look_up
from pacs_guard.deliver.echo import VERIFICATION
from pacs_guard.domain.commitment import SOP_CLASS, Reference
from pacs_guard.domain.proof import Proof, ProofMethod, Question, plan, questions
from pacs_guard.errors import LeaseLostError, PermanentDeliveryError, TransientDeliveryError

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Callable

    from pynetdicom.association import Association

    from pacs_guard.config import DestinationSettings
    from pacs_guard.domain.proof import ProofPlan
    from pacs_guard.queue.proofrows import ClaimedProof
    from pacs_guard.queue.proving import Proving

_LOG = structlog.get_logger(__name__)
_CONTEXTS = {Question.COMMITMENT: (SOP_CLASS, SYNTAXES), Question.COUNT: (STUDY_ROOT_FIND, SYNTAXES)}
_SHORTEST_LEASE_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_NOT_NOW = "the destination cannot say of some instances just now"
_NO_ANSWER = "the destination gave no proof"
_NO_MEANS = "the destination offers no way to prove it"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a prover works with.

    Attributes
    ----------
    calling_ae : str
        The node's AE title.
    proving : Proving
    clock : callable
        Returns seconds since the epoch.
    rng : random.Random
        Spreads retries.
    stop : threading.Event
    """

    calling_ae: str
    proving: Proving
    clock: Callable[[], float]
    rng: random.Random
    stop: threading.Event


class Prover:
    """Asks one destination, about one study after another.

    Parameters
    ----------
    destination : DestinationSettings
    tools : Tools
    """

    def __init__(self, destination: DestinationSettings, tools: Tools) -> None:
        self._destination = destination
        self._tools = tools
        self._failures = 0  # in a row
        self._owner_prefix = f"{socket.gethostname()}:prove:{destination.name}:"
        self._owner = f"{self._owner_prefix}{os.getpid()}"

    def reconfigure(self, destination: DestinationSettings) -> None:
        """Ask by `destination`, which has the same name, from the next study on."""
        self._destination = destination

    def release_old_leases(self) -> None:
        """Give back what an earlier life had leased."""
        self._tools.proving.release_leases(self._owner_prefix)

    def step(self) -> bool:
        """Ask about one study, and return whether there was one."""
        destination, proving = self._destination, self._tools.proving
        delay = destination.proof.delay_seconds
        if not proving.is_due(destination.name, delay):
            return False
        lease_seconds = max(_SHORTEST_LEASE_SECONDS, 2 * _all_timeouts(destination))
        claim = proving.claim(destination.name, self._owner, lease_seconds, delay)
        if claim is None:
            return False
        try:
            self._prove(claim, destination)
        except LeaseLostError as error:
            _LOG.info("proof left alone", study_id=claim.study_id, reason=str(error))
        return True

    def _prove(self, claim: ClaimedProof, destination: DestinationSettings) -> None:
        planned = plan(claim.items, claim.attempts, destination.proof.rules())
        for outcome, items in (("resend", planned.resend), ("fail", planned.fail), ("give up", planned.give_up)):
            if items:
                log = _LOG.warning if outcome == "resend" else _LOG.error
                log("instances not proved", study_id=claim.study_id, what=outcome, count=len(items))
        # whoever cannot say just now is given a while
        again = [item for item in planned.ask if item.proof is Proof.DENIED]
        left = self._tools.proving.decide(
            claim,
            again=again,
            unasked=planned.unasked,
            unproved=planned.give_up,
            failed=planned.fail,
            resend=planned.resend,
            why=_NO_ANSWER,
        )
        if again:
            self._postpone(claim, _NOT_NOW, self._wait(claim.attempts, destination), None)
        elif left and planned.ask:
            self._ask(claim, planned, destination)

    def _ask(self, claim: ClaimedProof, planned: ProofPlan, destination: DestinationSettings) -> None:
        listener = ReportListener(lambda report: self._tools.proving.reported(report, {destination.name}))
        # with verification, which all accept, an association is no failure where nothing else is
        contexts = [(VERIFICATION, SYNTAXES), *(_CONTEXTS[question] for question in planned.questions)]
        try:
            association = open_association(destination, self._tools.calling_ae, contexts, handlers=listener.handlers)
        except PermanentDeliveryError:
            self._no_means(claim, planned, destination)
            return
        except TransientDeliveryError as error:
            self._failures += 1
            self._postpone(claim, str(error), self._wait(self._failures, destination), None)
            return
        self._failures = 0
        try:
            accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
            if SOP_CLASS in accepted:
                self._ask_for_commitment(association, listener, claim, planned, destination)
            elif STUDY_ROOT_FIND in accepted:
                self._count(association, claim, planned, destination)
            else:
                self._no_means(claim, planned, destination)
            if association.is_established:
                association.release()
        finally:
            drop(association)

    def _ask_for_commitment(
        self,
        association: Association,
        listener: ReportListener,
        claim: ClaimedProof,
        planned: ProofPlan,
        destination: DestinationSettings,
    ) -> None:
        proving, transaction = self._tools.proving, str(generate_uid(prefix=None))
        proving.begin(claim, planned.ask, transaction, overdue_in=destination.proof.timeout_seconds)
        references = [Reference(item.sop_class_uid, item.sop_uid) for item in planned.ask]
        try:
            request_commitment(association, destination.name, transaction, references)
        except TransientDeliveryError as error:
            _LOG.warning("commitment not requested", study_id=claim.study_id, error=str(error))
            proving.in_vain(transaction, str(error), retry_in=self._wait(claim.attempts + 1, destination))
            return
        _LOG.info("commitment requested", study_id=claim.study_id, destination=destination.name, count=len(references))
        self._await_report(association, listener, transaction, destination.proof.wait_seconds)

    def _await_report(
        self, association: Association, listener: ReportListener, transaction: str, seconds: float
    ) -> None:
        """Keep the association for a while: some report on it, others open one of their own meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and association.is_established and not self._tools.stop.is_set():
            if listener.has_come.wait(_LOOK_SECONDS) or not self._tools.proving.is_awaited(transaction):
                return

    def _count(
        self, association: Association, claim: ClaimedProof, planned: ProofPlan, destination: DestinationSettings
    ) -> None:
        try:
            found = look_up(association, destination.name, claim.study_uid, planned.ask, claim.delivered)
        except TransientDeliveryError as error:
            self._postpone(claim, str(error), self._wait(claim.attempts + 1, destination), Question.COUNT)
            return
        name, asked = destination.name, len(planned.ask)
        _LOG.info("instances counted", study_id=claim.study_id, destination=name, listed=len(found.listed), asked=asked)
        # it may not have taken note of all that it has yet
        last = not questions(destination.proof.method, claim.attempts + 1, destination.proof.attempts)
        if self._tools.proving.decide(claim, proved=found.listed, denied=found.missing if last else ()):
            wait = 0.0 if last else destination.proof.timeout_seconds
            self._postpone(claim, f"{name} lists {len(found.listed)} of {asked} instances", wait, Question.COUNT)

    def _no_means(self, claim: ClaimedProof, planned: ProofPlan, destination: DestinationSettings) -> None:
        """Settle what a destination offers no way to prove: its answers are enough unless proof was asked for."""
        if destination.proof.method is ProofMethod.AUTO and claim.attempts == 0:
            self._tools.proving.decide(claim, unasked=planned.ask)
            return
        _LOG.error("destination offers no proof", destination=destination.name, method=str(destination.proof.method))
        self._tools.proving.decide(claim, unproved=planned.ask, why=_NO_ANSWER if claim.attempts else _NO_MEANS)

    def _postpone(self, claim: ClaimedProof, error: str, wait: float, question: Question | None) -> None:
        _LOG.warning("no proof yet", study_id=claim.study_id, destination=self._destination.name, error=error)
        self._tools.proving.postpone(claim, error, retry_in=wait, question=question)

    def _wait(self, attempts: int, destination: DestinationSettings) -> float:
        retry = destination.retry.policy()
        # nobody there to ask is no answer: that is never given up
        return retry.delay(max(1, min(attempts, retry.max_attempts - 1)), self._tools.rng.random()) or (
            retry.cap_seconds
        )


def _all_timeouts(destination: DestinationSettings) -> float:
    return (
        destination.connect_timeout_seconds
        + destination.acse_timeout_seconds
        + destination.dimse_timeout_seconds
        + destination.network_timeout_seconds
    )


def offered(destination: DestinationSettings, calling_ae: str) -> tuple[Question, ...]:
    """Return the ways to ask that a destination accepts, of those that its settings allow.

    Raises
    ------
    TransientDeliveryError
        If it is out of reach, or rejects the association.
    PermanentDeliveryError
        If it accepts no presentation context at all.
    """
    wanted = questions(destination.proof.method, 0, destination.proof.attempts)
    contexts = [(VERIFICATION, SYNTAXES), *(_CONTEXTS[question] for question in wanted)]
    association = open_association(destination, calling_ae, contexts)
    try:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        association.release()
    finally:
        drop(association)
    return tuple(question for question in wanted if _CONTEXTS[question][0] in accepted)
