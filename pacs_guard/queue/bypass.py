"""Switches by which a person has a source's studies forwarded unjudged; every use is recorded for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.errors import LifecycleError
from pacs_guard.queue.auditing import note
from pacs_guard.queue.outbox import announce
from pacs_guard.queue.schema import bypass_switches

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database


@dataclass(frozen=True, slots=True)
class BypassSwitch:
    """One turn of a switch.

    Attributes
    ----------
    source : str
    switched_on : bool
    who, reason : str
    at : float
        Seconds since the epoch.
    """

    source: str
    switched_on: bool
    who: str
    reason: str
    at: float


def active_bypasses(connection: Connection) -> dict[str, BypassSwitch]:
    """Return what is switched on, by source."""
    newest = sa.select(sa.func.max(bypass_switches.c.id)).group_by(bypass_switches.c.source)
    query = sa.select(bypass_switches).where(bypass_switches.c.id.in_(newest), bypass_switches.c.switched_on)
    rows = connection.execute(query.order_by(bypass_switches.c.source)).mappings()
    return {row["source"]: _switch(row) for row in rows}


class Bypasses:
    """The switches.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def switch(self, source: str, *, on: bool, who: str, reason: str) -> None:
        """Turn a source's switch, record and announce it.

        Raises
        ------
        LifecycleError
            If it stands so already.
        """
        now = self._clock()
        with self._database.write() as connection:
            if (source in active_bypasses(connection)) == on:
                raise LifecycleError(f"the bypass of {source} is {'on' if on else 'off'} already")
            values: dict[str, Any] = {"source": source, "who": who, "reason": reason}
            connection.execute(sa.insert(bypass_switches).values(switched_on=on, at=now, **values))
            note(connection, AuditEvent.BYPASS_ON if on else AuditEvent.BYPASS_OFF, now, **values)
            announce(connection, None, "bypass_on" if on else "bypass_off", {"sources": [source], **values}, now)

    def active(self) -> dict[str, BypassSwitch]:
        """Return what is switched on, by source."""
        with self._database.read() as connection:
            return active_bypasses(connection)

    def history(self) -> list[BypassSwitch]:
        """Return every turn there ever was, in order."""
        query = sa.select(bypass_switches).order_by(bypass_switches.c.id)
        with self._database.read() as connection:
            return [_switch(row) for row in connection.execute(query).mappings()]


def _switch(row: sa.RowMapping) -> BypassSwitch:
    return BypassSwitch(row["source"], row["switched_on"], row["who"], row["reason"], row["at"])
