"""Notifications wait here until they are sent, so that none is lost with a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.queue.rows import Notification
from pacs_guard.queue.schema import notifications, studies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database


def announce(connection: Connection, study_id: int | None, event: str, payload: dict[str, Any], now: float) -> None:
    """Queue a notification in the transaction of what it announces."""
    connection.execute(
        sa.insert(notifications).values(
            study_id=study_id,
            event=event,
            channel="log",
            payload={"event": event, "study": study_id, "time": now, **payload},
            attempts=0,
            not_before=now,
            created_at=now,
            given_up=False,
        )
    )


class Outbox:
    """The queue of notifications.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def due(self, channel: str = "log", limit: int = 20) -> list[Notification]:
        """Return notifications that are to be sent over a channel now, the oldest first."""
        query = (
            sa.select(notifications, studies.c.study_uid)
            .outerjoin(studies, studies.c.id == notifications.c.study_id)
            .where(
                notifications.c.channel == channel,
                notifications.c.sent_at.is_(None),
                sa.not_(notifications.c.given_up),
                notifications.c.not_before <= self._clock(),
            )
            .order_by(notifications.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            Notification(
                id=row["id"],
                event=row["event"],
                payload=row["payload"],
                attempts=row["attempts"],
                created_at=row["created_at"],
                study_uid=row["study_uid"],
            )
            for row in rows
        ]

    def hand_on(self, notification: Notification, channels: Sequence[str]) -> None:
        """Note that a notification is in the log, and queue it for other channels."""
        copied = [
            notifications.c.study_id,
            notifications.c.event,
            notifications.c.payload,
            notifications.c.created_at,
            notifications.c.not_before,
        ]
        with self._database.write() as connection:
            for channel in channels:
                columns = [*copied, sa.literal(channel), sa.literal(0), sa.false()]
                source = sa.select(*columns).where(notifications.c.id == notification.id)
                names = [*(column.name for column in copied), "channel", "attempts", "given_up"]
                connection.execute(sa.insert(notifications).from_select(names, source))
            changes = {"sent_at": self._clock(), "attempts": notification.attempts + 1}
            connection.execute(sa.update(notifications).where(notifications.c.id == notification.id).values(**changes))

    def sent(self, notification: Notification) -> None:
        """Note that a notification arrived."""
        self._update(notification, sent_at=self._clock(), attempts=notification.attempts + 1, last_error=None)

    def failed(self, notification: Notification, error: str, retry_in: float | None) -> None:
        """Note a failed attempt; `retry_in` is the seconds to wait, None gives up."""
        changes: dict[str, object] = {"attempts": notification.attempts + 1, "last_error": error}
        if retry_in is None:
            changes["given_up"] = True
        else:
            changes["not_before"] = self._clock() + retry_in
        self._update(notification, **changes)

    def _update(self, notification: Notification, **changes: object) -> None:
        with self._database.write() as connection:
            connection.execute(sa.update(notifications).where(notifications.c.id == notification.id).values(**changes))
