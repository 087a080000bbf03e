"""The statements of proof of delivery, and the value that its asker gets; `pacs_guard.queue.proving` uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyEvent, StudyState
from pacs_guard.domain.lifecycle import advance as advance_study
from pacs_guard.domain.proof import OPEN, Proof, ProofEvent, ProofItem, ProofState, advance, failure_sentence
from pacs_guard.errors import LeaseLostError, NotFoundError
from pacs_guard.queue.schema import commitments, deliveries, delivery_items, instances, proofs, studies
from pacs_guard.queue.statements import Lasting, insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection, Dialect, RowMapping

    from pacs_guard.queue.rows import Lease

_BATCH = 400
UNDECIDED = sa.or_(delivery_items.c.proof.is_(None), delivery_items.c.proof.in_(OPEN))
"""Of what is delivered: still to be asked about, or to be decided."""


@dataclass(frozen=True, slots=True)
class ClaimedProof:
    """A delivery whose proof is to be asked for, leased to one asker.

    Attributes
    ----------
    delivery_id, study_id : int
    study_uid : str
    destination : str
    state : ProofState
    attempts : int
        How often it was asked in vain.
    items : tuple of ProofItem
        What is delivered and not decided.
    delivered : int
        How many SOP Instance UIDs of the study the destination took, the decided ones included.
    lease : Lease
    """

    delivery_id: int
    study_id: int
    study_uid: str
    destination: str
    state: ProofState
    attempts: int
    items: tuple[ProofItem, ...]
    delivered: int
    lease: Lease


def ask_for_proof(connection: Connection, delivery_id: int, destination: str, now: float) -> None:
    """Have a destination asked whether it keeps what it took of a study, in the transaction that ends a delivery."""
    _INSERT_PROOF.on(connection).execute(connection, row=delivery_id, name=destination, now=now)
    if recount(connection, delivery_id):
        _ASK_ANEW.on(connection).count(connection, row=delivery_id, now=now)


def _insert_proof(dialect: Dialect) -> Any:
    return insert_or_ignore(dialect, proofs).values(
        delivery_id=sa.bindparam("row"),
        destination=sa.bindparam("name"),
        delivered_at=sa.bindparam("now"),
        not_before=sa.bindparam("now"),
        state=str(ProofState.DUE),
        attempts=0,
        **dict.fromkeys(("pending", "proved", "unproved", "unasked"), 0),
    )


_INSERT_PROOF = Lasting(_insert_proof)
_ASK_ANEW = Lasting(
    lambda _: (
        sa.update(proofs)
        .where(proofs.c.delivery_id == sa.bindparam("row"))
        .values(
            state=str(ProofState.DUE),
            attempts=0,
            not_before=sa.bindparam("now"),
            delivered_at=sa.bindparam("now"),
            settled_at=None,
            lease_owner=None,
            lease_until=None,
        )
    )
)


def items_of(delivery_id: int) -> sa.Select[Any]:
    """Return the query for what is delivered, in the order of reception."""
    columns = (delivery_items.c.proof, delivery_items.c.failure_reason, delivery_items.c.resends)
    return (
        sa.select(instances, *columns)
        .join(delivery_items, delivery_items.c.instance_id == instances.c.id)
        .where(delivery_items.c.delivery_id == delivery_id, delivery_items.c.state == ItemState.DELIVERED)
        .order_by(instances.c.id)
    )


def claimed_proof(connection: Connection, row: RowMapping, lease: Lease) -> ClaimedProof:
    """Return a proof as its asker sees it."""
    found = connection.execute(items_of(row["delivery_id"])).mappings().all()
    counts: dict[str, int] = {}
    for item in found:
        counts[item["sop_uid"]] = counts.get(item["sop_uid"], 0) + 1
    undecided = {None, *OPEN}
    return ClaimedProof(
        delivery_id=row["delivery_id"],
        study_id=row["study_id"],
        study_uid=row["study_uid"],
        destination=row["destination"],
        state=ProofState(row["state"]),
        attempts=row["attempts"],
        items=tuple(_item(item, counts) for item in found if item["proof"] in undecided),
        delivered=len(counts),
        lease=lease,
    )


def _item(row: RowMapping, counts: dict[str, int]) -> ProofItem:
    return ProofItem(
        instance_id=row["id"],
        series_uid=row["series_uid"],
        sop_class_uid=row["sop_class_uid"],
        sop_uid=row["sop_uid"],
        proof=Proof(row["proof"]) if row["proof"] is not None else None,
        reason=row["failure_reason"],
        resends=row["resends"],
        is_ambiguous=counts[row["sop_uid"]] > 1,
    )


def why_decided(item: ProofItem, why: str) -> str:
    """Return for people why an instance is not proved; `why` where nothing is known of it alone."""
    if item.is_ambiguous:
        return "the destination was sent other content under the same SOP Instance UID too"
    if item.reason is not None:
        return failure_sentence(item.reason)
    return "the destination does not list it" if item.proof is Proof.DENIED else why


def lock_proof(connection: Connection, claim: ClaimedProof) -> RowMapping:
    """Return a proof's row, locked for this transaction.

    Raises
    ------
    LeaseLostError
        If it is no longer leased to the claim's owner.
    """
    query = sa.select(proofs).where(proofs.c.delivery_id == claim.delivery_id).with_for_update()
    row = connection.execute(query).mappings().one()
    if row["lease_owner"] != claim.lease.owner:
        raise LeaseLostError(f"the proof of study {claim.study_id} at {claim.destination} changed meanwhile")
    return row


def lock_study(connection: Connection, study_id: int) -> RowMapping:
    """Return a study's row, locked for this transaction.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    row = connection.execute(sa.select(studies).where(studies.c.id == study_id).with_for_update()).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no study {study_id}")
    return row


def proof_of_transaction(connection: Connection, transaction_uid: str) -> RowMapping | None:
    """Return the proof that a request was made for, locked for this transaction."""
    query = (
        sa.select(proofs)
        .join(commitments, commitments.c.delivery_id == proofs.c.delivery_id)
        .where(commitments.c.transaction_uid == transaction_uid)
        .with_for_update(of=proofs)
    )
    return connection.execute(query).mappings().first()


def ask_later(connection: Connection, row: RowMapping, at: float, **changes: Any) -> None:
    """Have a destination asked again from a time on."""
    state = advance(ProofState(row["state"]), ProofEvent.ASKED_IN_VAIN)
    update_proof(connection, row["delivery_id"], state=state, not_before=at, **changes)


def update_proof(connection: Connection, delivery_id: int, **changes: Any) -> None:
    """Change a proof's row."""
    connection.execute(sa.update(proofs).where(proofs.c.delivery_id == delivery_id).values(**changes))


def set_items(connection: Connection, delivery_id: int, items: Iterable[ProofItem], **changes: Any) -> None:
    """Change items that were claimed, unless they were decided or sent again meanwhile."""
    set_instances(connection, delivery_id, [item.instance_id for item in items], **changes)


def set_instances(
    connection: Connection, delivery_id: int, instance_ids: Iterable[int | None], *, late: bool = False, **changes: Any
) -> None:
    """Change items that are not decided, or with `late` were given up; a proof that comes late is a proof."""
    open_ = sa.or_(UNDECIDED, delivery_items.c.proof == Proof.UNPROVED) if late else UNDECIDED
    wanted = [instance_id for instance_id in instance_ids if instance_id is not None]
    for start in range(0, len(wanted), _BATCH):  # a statement takes only so many parameters
        connection.execute(
            sa.update(delivery_items)
            .where(
                delivery_items.c.delivery_id == delivery_id,
                delivery_items.c.instance_id.in_(wanted[start : start + _BATCH]),
                delivery_items.c.state == ItemState.DELIVERED,
                open_,
            )
            .values(**changes)
        )


def recount(connection: Connection, delivery_id: int) -> int:
    """Count a delivery's items by what is known of them, and return how many are not decided."""
    rows = _COUNT_BY_PROOF.on(connection).execute(connection, row=delivery_id)
    found: dict[str | None, int] = {row[0]: row[1] for row in rows}
    pending = sum(found.get(proof, 0) for proof in (None, *OPEN))
    counts = {str(proof): found.get(proof, 0) for proof in (Proof.PROVED, Proof.UNPROVED, Proof.UNASKED)}
    values = {f"v_{name}": count for name, count in counts.items()}
    _SET_COUNTS.on(connection).count(connection, row=delivery_id, v_pending=pending, **values)
    return pending


_COUNT_BY_PROOF = Lasting(
    lambda _: (
        sa.select(delivery_items.c.proof, sa.func.count())
        .where(delivery_items.c.delivery_id == sa.bindparam("row"), delivery_items.c.state == str(ItemState.DELIVERED))
        .group_by(delivery_items.c.proof)
    )
)
_SET_COUNTS = Lasting(
    lambda _: (
        sa.update(proofs)
        .where(proofs.c.delivery_id == sa.bindparam("row"))
        .values({name: sa.bindparam(f"v_{name}") for name in ("pending", "proved", "unproved", "unasked")})
    )
)


def deliver_again(connection: Connection, delivery_id: int, study: RowMapping, now: float) -> None:
    """Queue what a destination does not have once more; a study that is not on its way is queued when it is cleared."""
    state = StudyState(study["state"])
    if state in {StudyState.DELIVERED, StudyState.FAILED}:
        again = advance_study(state, StudyEvent.RETRIED)
        connection.execute(sa.update(studies).where(studies.c.id == study["id"]).values(state=again, finished_at=None))
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state != ItemState.PENDING)
        .values(state=ItemState.PENDING, attempts=0, not_before=now, finished_at=None)
    )


def fail_delivery(connection: Connection, delivery_id: int, study: RowMapping, now: float) -> None:
    """List what a destination will never vouch for; a delivery that is under way ends as failed by itself."""
    ended = connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state == ItemState.DELIVERED)
        .values(state=ItemState.FAILED)
    ).rowcount
    if ended and StudyState(study["state"]) is StudyState.DELIVERED:
        failed = advance_study(StudyState.DELIVERED, StudyEvent.GIVEN_UP)
        connection.execute(sa.update(studies).where(studies.c.id == study["id"]).values(state=failed, finished_at=now))
