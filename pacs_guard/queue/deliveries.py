"""A study's deliveries as a whole: their beginning, and the end of the study once the last of them has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyEvent, StudyState, advance
from pacs_guard.domain.selftest import routed
from pacs_guard.queue.schema import deliveries, delivery_items, instances, studies
from pacs_guard.queue.statements import Lasting, insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

_LOCK_STATE = Lasting(
    lambda _: sa.select(studies.c.state).where(studies.c.id == sa.bindparam("study")).with_for_update()
)
_SELECT_ENDS = Lasting(lambda _: sa.select(deliveries.c.state).where(deliveries.c.study_id == sa.bindparam("study")))
_END_STUDY = Lasting(
    lambda _: (
        sa.update(studies)
        .where(studies.c.id == sa.bindparam("study"))
        .values(state=sa.bindparam("v_state"), finished_at=sa.bindparam("now"))
    )
)


def enqueue_deliveries(connection: Connection, study_id: int, destinations: Sequence[str], now: float) -> None:
    """Give every instance of a study that no destination has yet a place in each destination's queue."""
    sources = sa.select(instances.c.source).where(instances.c.study_id == study_id).distinct()
    destinations = routed(connection.execute(sources).scalars().all(), destinations)
    for destination in destinations:
        connection.execute(
            insert_or_ignore(connection.dialect, deliveries).values(
                study_id=study_id,
                destination=destination,
                state=ItemState.PENDING,
                attempts=0,
                not_before=now,
                started_at=now,
            )
        )
    members = (
        sa.select(deliveries.c.id, instances.c.id, sa.literal(str(ItemState.PENDING)), sa.literal(0))
        .join(instances, instances.c.study_id == deliveries.c.study_id)
        .where(
            deliveries.c.study_id == study_id,
            deliveries.c.destination.in_(destinations),
            instances.c.purged_at.is_(None),
        )
    )
    connection.execute(
        insert_or_ignore(connection.dialect, delivery_items).from_select(
            ["delivery_id", "instance_id", "state", "attempts"], members
        )
    )
    with_pending = sa.select(delivery_items.c.delivery_id).where(
        delivery_items.c.delivery_id == deliveries.c.id, delivery_items.c.state == ItemState.PENDING
    )
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.study_id == study_id, with_pending.exists())
        .values(
            # a lease from before would let an old attempt end this delivery without the new instances
            state=ItemState.PENDING,
            attempts=0,
            not_before=now,
            finished_at=None,
            lease_owner=None,
            lease_until=None,
        )
    )
    finish_study(connection, study_id, now)


def locked_state(connection: Connection, study_id: int) -> StudyState:
    """Lock a study's row, and return where it stands."""
    [(state,)] = _LOCK_STATE.on(connection).execute(connection, study=study_id)
    return StudyState(state)


def finish_study(connection: Connection, study_id: int, now: float) -> StudyState:
    """Close a study whose deliveries have all ended, and return where it stands."""
    state = locked_state(connection, study_id)
    ends = {end for (end,) in _SELECT_ENDS.on(connection).execute(connection, study=study_id)}
    if state is not StudyState.FORWARDING or not ends or ItemState.PENDING in ends:
        return state
    event = StudyEvent.GIVEN_UP if ItemState.FAILED in ends else StudyEvent.ALL_DELIVERED
    state = advance(state, event)
    _END_STUDY.on(connection).count(connection, study=study_id, v_state=str(state), now=now)
    return state
