"""Whether destinations vouch for what they took: the asking side of the queue, and where their reports arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import ItemState
from pacs_guard.domain.proof import Proof, ProofEvent, ProofState, advance
from pacs_guard.queue.auditing import note, note_proof
from pacs_guard.queue.proofrows import (
    UNDECIDED,
    ask_for_proof,
    ask_later,
    claimed_proof,
    deliver_again,
    fail_delivery,
    items_of,
    lock_proof,
    lock_study,
    proof_of_transaction,
    recount,
    set_instances,
    set_items,
    update_proof,
    why_decided,
)
from pacs_guard.queue.rows import Lease
from pacs_guard.queue.schema import actions, commitments, deliveries, delivery_items, proofs, studies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.domain.commitment import CommitmentReport
    from pacs_guard.domain.proof import ProofItem, Question
    from pacs_guard.queue.database import Database
    from pacs_guard.queue.proofrows import ClaimedProof

_WAITING = (ProofState.DUE, ProofState.ASKED)


class Proving:
    """Claims and outcomes of proofs.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def is_due(self, destination: str, delay_seconds: float = 0.0) -> bool:
        """Whether `destination` is to be asked for something that it took `delay_seconds` ago or earlier."""
        due = self._due(destination, delay_seconds).with_only_columns(proofs.c.delivery_id)
        with self._database.read() as connection:
            return connection.execute(due).first() is not None

    def claim(self, destination: str, owner: str, seconds: float, delay_seconds: float = 0.0) -> ClaimedProof | None:
        """Lease the next delivery that `destination` is to be asked about, or return None."""
        lease = Lease(owner, self._clock() + seconds)
        with self._database.write() as connection:
            query = self._due(destination, delay_seconds).with_for_update(skip_locked=True, of=proofs)
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            update_proof(connection, row["delivery_id"], lease_owner=owner, lease_until=lease.until)
            return claimed_proof(connection, row, lease)

    def release_leases(self, owner_prefix: str) -> None:
        """Give back what an earlier life of the asker had leased."""
        held = proofs.c.lease_owner.startswith(owner_prefix, autoescape=True)
        with self._database.write() as connection:
            connection.execute(sa.update(proofs).where(held).values(lease_owner=None, lease_until=None))

    def begin(
        self, claim: ClaimedProof, items: Sequence[ProofItem], transaction_uid: str, *, overdue_in: float
    ) -> None:
        """Write down, before it goes out, that the destination is asked for its commitment.

        Raises
        ------
        LeaseLostError
            If the proof changed meanwhile.
        """
        now = self._clock()
        with self._database.write() as connection:
            row = lock_proof(connection, claim)
            connection.execute(
                sa.insert(commitments).values(
                    transaction_uid=transaction_uid,
                    delivery_id=claim.delivery_id,
                    destination=claim.destination,
                    instances=len(items),
                    asked_at=now,
                )
            )
            set_items(connection, claim.delivery_id, items, proof=Proof.ASKED, failure_reason=None)
            update_proof(
                connection,
                claim.delivery_id,
                state=advance(ProofState(row["state"]), ProofEvent.ASKED),
                attempts=claim.attempts + 1,
                not_before=now + overdue_in,
                question="commitment",
                lease_owner=None,
                lease_until=None,
            )

    def in_vain(self, transaction_uid: str, error: str, *, retry_in: float) -> None:
        """Write down that the destination did not take a request on; a report that comes all the same counts."""
        with self._database.write() as connection:
            row = proof_of_transaction(connection, transaction_uid)
            if row is not None and ProofState(row["state"]) is ProofState.ASKED:
                ask_later(connection, row, self._clock() + retry_in, last_error=error)

    def postpone(
        self, claim: ClaimedProof, error: str | None, *, retry_in: float, question: Question | None = None
    ) -> None:
        """Give a lease back, to ask later.

        Parameters
        ----------
        claim : ClaimedProof
        error : str or None
        retry_in : float
            Seconds.
        question : Question, optional
            How it was asked in vain; without, nobody was there to ask, which counts for nothing.
        """
        with self._database.write() as connection:
            row = lock_proof(connection, claim)
            changes: dict[str, Any] = {"last_error": error, "lease_owner": None, "lease_until": None}
            if question is not None:
                changes |= {"attempts": claim.attempts + 1, "question": question}
            ask_later(connection, row, self._clock() + retry_in, **changes)

    def is_awaited(self, transaction_uid: str) -> bool:
        """Whether no report on a request has come yet."""
        query = sa.select(commitments.c.reported_at).where(commitments.c.transaction_uid == transaction_uid)
        with self._database.read() as connection:
            return connection.execute(query).scalar() is None

    def reported(self, report: CommitmentReport, destinations: Collection[str]) -> bool:
        """Write a destination's report down; one that comes twice, or late, changes nothing that is decided.

        Parameters
        ----------
        report : CommitmentReport
        destinations : collection of str
            Those that the reporter may speak for.

        Returns
        -------
        bool
            Whether such a request was ever made to one of them.
        """
        now = self._clock()
        with self._database.write() as connection:
            row = proof_of_transaction(connection, report.transaction_uid)
            if row is None or row["destination"] not in destinations:
                return False
            known = connection.execute(items_of(row["delivery_id"])).mappings().all()
            by_uids = {(item["sop_class_uid"], item["sop_uid"]): item["id"] for item in known}
            keys = [by_uids.get((one.sop_class_uid, one.sop_uid)) for one in report.committed]
            changes = {"proof": Proof.PROVED, "proved_at": now, "failure_reason": None, "error": None}
            set_instances(connection, row["delivery_id"], keys, late=True, **changes)
            for reference, reason in report.failed:
                denied = [by_uids.get((reference.sop_class_uid, reference.sop_uid))]
                set_instances(connection, row["delivery_id"], denied, proof=Proof.DENIED, failure_reason=reason)
            connection.execute(
                sa.update(commitments)
                .where(commitments.c.transaction_uid == report.transaction_uid)
                .values(reported_at=now)
            )
            self._settle(connection, row, now)
        return True

    def decide(
        self,
        claim: ClaimedProof,
        *,
        proved: Sequence[ProofItem] = (),
        denied: Sequence[ProofItem] = (),
        again: Sequence[ProofItem] = (),
        unasked: Sequence[ProofItem] = (),
        unproved: Sequence[ProofItem] = (),
        failed: Sequence[ProofItem] = (),
        resend: Sequence[ProofItem] = (),
        why: str = "",
    ) -> bool:
        """Write down what is decided about some instances of a claim, and return whether anything is left to ask.

        Raises
        ------
        LeaseLostError
            If the proof changed meanwhile.
        """
        now = self._clock()
        delivery_id = claim.delivery_id
        with self._database.write() as connection:
            study = lock_study(connection, claim.study_id)
            if resend or failed:  # in the order in which deliveries lock their rows
                connection.execute(sa.select(deliveries.c.id).where(deliveries.c.id == delivery_id).with_for_update())
            row = lock_proof(connection, claim)
            set_items(connection, delivery_id, proved, proof=Proof.PROVED, proved_at=now, failure_reason=None)
            set_items(connection, delivery_id, denied, proof=Proof.DENIED, failure_reason=None)
            set_items(connection, delivery_id, again, proof=Proof.ASKED)
            set_items(connection, delivery_id, unasked, proof=Proof.UNASKED)
            for item in unproved:
                set_items(connection, delivery_id, [item], proof=Proof.UNPROVED, error=why_decided(item, why))
            changes: dict[str, Any]
            for item in failed:
                changes = {"state": ItemState.FAILED, "proof": Proof.UNPROVED, "error": why_decided(item, why)}
                set_items(connection, delivery_id, [item], **changes)
            for item in resend:
                changes = {"state": ItemState.PENDING, "attempts": 0, "proof": None, "resends": item.resends + 1}
                set_items(connection, delivery_id, [item], error=why_decided(item, why), **changes)
            if resend:
                deliver_again(connection, delivery_id, study, now)
            elif failed:
                fail_delivery(connection, delivery_id, study, now)
            return self._settle(connection, row, now)

    def _settle(self, connection: Connection, row: RowMapping, now: float) -> bool:
        """Settle a proof if all is decided, have its asker look at it if something was denied; return what is left."""
        delivery_id, state = row["delivery_id"], ProofState(row["state"])
        pending = recount(connection, delivery_id)
        if not pending:
            settled = {"state": advance(state, ProofEvent.ALL_DECIDED), "settled_at": now}
            update_proof(connection, delivery_id, lease_owner=None, lease_until=None, **settled)
            note_proof(connection, row, now)
            return False
        denied = sa.select(sa.func.count()).where(
            delivery_items.c.delivery_id == delivery_id, delivery_items.c.proof == Proof.DENIED
        )
        if connection.execute(denied).scalar_one():
            update_proof(connection, delivery_id, state=advance(state, ProofEvent.REPORTED_IN_PART), not_before=now)
        return True

    def give_up_unconfigured(self, destinations: Sequence[str], *, grace_seconds: float = 0.0) -> list[int]:
        """Leave unproved what waits for a destination that is no longer configured; return the studies.

        Parameters
        ----------
        destinations : sequence of str
            Names of those configured.
        grace_seconds : float
            How long ago it must have been delivered: another role may know a new destination earlier than the caller.
        """
        now = self._clock()
        query = sa.select(proofs, deliveries.c.study_id).join(deliveries)
        with self._database.write() as connection:
            gone = query.where(
                proofs.c.state.in_(_WAITING),
                proofs.c.destination.not_in(list(destinations)),
                proofs.c.delivered_at <= now - grace_seconds,
            )
            rows = connection.execute(gone).mappings().all()
            for row in rows:
                error = f"the destination {row['destination']} is no longer configured"
                connection.execute(
                    sa.update(delivery_items)
                    .where(
                        delivery_items.c.delivery_id == row["delivery_id"],
                        delivery_items.c.state == ItemState.DELIVERED,
                        UNDECIDED,
                    )
                    .values(proof=Proof.UNPROVED, error=error)
                )
                self._settle(connection, row, now)
        return [row["study_id"] for row in rows]

    def ask_again(self, study_id: int) -> int:
        """Have destinations asked again about what is unproved of a study; return how many instances that is.

        Raises
        ------
        NotFoundError
            If there is no such study.
        """
        changes = {"proof": None, "failure_reason": None, "error": None}
        with self._database.write() as connection:
            return self._reset(connection, study_id, (Proof.UNPROVED, Proof.UNASKED), **changes)

    def waive(self, study_id: int, *, who: str, reason: str) -> int:
        """Do without the proof that destinations did not give of a study; return how many instances that is.

        Raises
        ------
        NotFoundError
            If there is no such study.
        """
        with self._database.write() as connection:
            count = self._reset(connection, study_id, (Proof.UNPROVED,), proof=Proof.UNASKED)
            if count:
                now, by = self._clock(), {"who": who, "reason": reason}
                connection.execute(sa.insert(actions).values(study_id=study_id, action="waive proof", at=now, **by))
                note(connection, AuditEvent.PROOF_WAIVED, now, study_id=study_id, instances=count, **by)
        return count

    def _reset(self, connection: Connection, study_id: int, decided: Sequence[Proof], **changes: Any) -> int:
        lock_study(connection, study_id)
        query = sa.select(deliveries.c.id, deliveries.c.destination).where(deliveries.c.study_id == study_id)
        count = 0
        for delivery_id, destination in connection.execute(query).all():
            count += connection.execute(
                sa.update(delivery_items)
                .where(
                    delivery_items.c.delivery_id == delivery_id,
                    delivery_items.c.state == ItemState.DELIVERED,
                    delivery_items.c.proof.in_(decided),
                )
                .values(**changes)
            ).rowcount
            ask_for_proof(connection, delivery_id, destination, self._clock())
        return count

    def _due(self, destination: str, delay_seconds: float) -> sa.Select[Any]:
        now = self._clock()
        return (
            sa.select(proofs, deliveries.c.study_id, studies.c.study_uid)
            .select_from(proofs.join(deliveries).join(studies))
            .where(
                proofs.c.destination == destination,
                proofs.c.state.in_(_WAITING),
                proofs.c.not_before <= now - delay_seconds,
                sa.or_(proofs.c.lease_until.is_(None), proofs.c.lease_until < now),
            )
            .order_by(proofs.c.not_before, proofs.c.delivery_id)
            .limit(1)
        )
