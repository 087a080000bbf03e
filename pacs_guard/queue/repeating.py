"""What an arrived instance changes beyond its own row: a repeated one, and the state of its study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyEvent, StudyState, advance
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import deliveries, delivery_items, instances, studies

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from pacs_guard.domain.instance import StoredInstance

# a study that keeps waiting for its verdict keeps its age, so that a trickle of instances cannot postpone it for ever
_UNDECIDED = (StudyState.RECEIVING, StudyState.READY, StudyState.ASSESSING)


def repeat(connection: Connection, instance_id: int, *, here: bool, instance: StoredInstance, now: float) -> Outcome:
    """Count a duplicate of a row; one whose bytes are no longer `here` is taken in again and sent on again."""
    changes: dict[Any, object] = {"duplicates": instances.c.duplicates + 1}
    if not here:
        changes |= {
            "path": instance.path,
            "offset": instance.offset,
            "length": instance.length,
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "received_at": now,
            "purged_at": None,
            "missing": False,
        }
        _send_again(connection, instance_id, now)
    connection.execute(sa.update(instances).where(instances.c.id == instance_id).values(changes))
    return Outcome.DUPLICATE if here else Outcome.STORED


def _send_again(connection: Connection, instance_id: int, now: float) -> None:
    items = delivery_items.c.instance_id == instance_id
    affected = sa.select(delivery_items.c.delivery_id).where(items)
    # rows are always locked in the order study, delivery, items, so that no two transactions wait for each other
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id.in_(affected))
        .values(state=ItemState.PENDING, attempts=0, not_before=now, finished_at=None)
    )
    fresh = {"delivered_at": None, "proof": None, "failure_reason": None, "resends": 0}
    connection.execute(sa.update(delivery_items).where(items).values(state=ItemState.PENDING, attempts=0, **fresh))


def reopen(connection: Connection, study_id: int, state: StudyState, now: float) -> None:
    """Let a study wait for further instances, wherever it stood."""
    changes: dict[str, object] = {
        "state": advance(state, StudyEvent.INSTANCE_RECEIVED),
        "completed_at": None,
        "finished_at": None,
        "lease_owner": None,
        "lease_until": None,
    }
    if state not in _UNDECIDED:
        changes["opened_at"] = now
    connection.execute(sa.update(studies).where(studies.c.id == study_id).values(changes))
