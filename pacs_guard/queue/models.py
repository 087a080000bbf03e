"""Models in force: promotions and rollbacks, recorded for good, and what each worker has loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.models import LoadedModel, ModelSwitch, ModelVersion, SwitchAction, promoted
from pacs_guard.errors import LifecycleError
from pacs_guard.queue.auditing import note
from pacs_guard.queue.outbox import announce
from pacs_guard.queue.schema import loaded_models, model_switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database

SILENT_SECONDS = 3600.0
"""A worker not heard of for so long no longer counts; it says what it has loaded between studies."""


class Models:
    """The switches, and the workers' answers to them.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def promote(self, model: ModelVersion, *, who: str, reason: str) -> None:
        """Put a version in force, record, audit and announce it; workers take it before their next study.

        Raises
        ------
        LifecycleError
            If it is in force already by a promotion.
        """
        with self._database.write() as connection:
            stack = promoted(_history(connection)).get(model.name, [])
            if stack and stack[-1] == model:
                raise LifecycleError(f"{model} is in force already")
            self._switch(connection, SwitchAction.PROMOTE, model.name, model, who, reason)

    def roll_back(self, name: str, *, who: str, reason: str) -> ModelVersion | None:
        """Go back to what was in force before the last promotion, record, audit and announce it.

        Returns
        -------
        ModelVersion or None
            What is in force now; None for the model that the settings name.

        Raises
        ------
        LifecycleError
            If no promotion is in force.
        """
        with self._database.write() as connection:
            stack = promoted(_history(connection)).get(name, [])
            if not stack:
                raise LifecycleError(f"no promotion of {name} is in force; the settings say which model is")
            before = stack[-2] if len(stack) > 1 else None
            self._switch(connection, SwitchAction.ROLL_BACK, name, before, who, reason)
            return before

    def _switch(
        self, connection: Connection, action: SwitchAction, name: str, to: ModelVersion | None, who: str, reason: str
    ) -> None:
        now = self._clock()
        chosen = {"version": to.version if to else None, "sha256": to.sha256 if to else None}
        values = {"name": name, "who": who, "reason": reason}
        connection.execute(sa.insert(model_switches).values(action=action, at=now, **chosen, **values))
        version = to.version if to else "as the settings say"
        note(connection, AuditEvent.MODELS, now, models={name: version}, action=str(action), who=who, reason=reason)
        event = "model_promoted" if action is SwitchAction.PROMOTE else "model_rolled_back"
        announce(connection, None, event, {"detectors": {name: version}, "who": who, "reason": reason}, now)

    def announce_proposal(self, name: str, version: str, outcome: str) -> None:
        """Tell people what retraining came to."""
        payload = {"detectors": {name: version}, "reason": outcome, "who": "retraining"}
        with self._database.write() as connection:
            announce(connection, None, "retraining_done", payload, self._clock())

    def in_force(self) -> dict[str, ModelVersion]:
        """Return what is promoted, by name; of all others the settings say what is in force."""
        with self._database.read() as connection:
            return {name: stack[-1] for name, stack in promoted(_history(connection)).items() if stack}

    def history(self) -> list[ModelSwitch]:
        """Return every promotion and rollback there ever was, in order."""
        with self._database.read() as connection:
            return _history(connection)

    def report(self, worker: str, loaded: Iterable[LoadedModel]) -> None:
        """Write down what a worker judges by from now on, instead of what it said before."""
        now = self._clock()
        rows = [
            {
                "worker": worker,
                "name": one.name,
                "version": one.version,
                "sha256": one.sha256,
                "error": one.error,
                "seen_at": now,
            }
            for one in loaded
        ]
        with self._database.write() as connection:
            silent = loaded_models.c.seen_at < now - SILENT_SECONDS
            connection.execute(sa.delete(loaded_models).where(sa.or_(loaded_models.c.worker == worker, silent)))
            if rows:
                connection.execute(sa.insert(loaded_models), rows)

    def loaded(self) -> list[tuple[str, LoadedModel]]:
        """Return what each worker judges by, with its name."""
        heard = loaded_models.c.seen_at >= self._clock() - SILENT_SECONDS
        query = sa.select(loaded_models).where(heard).order_by(loaded_models.c.name, loaded_models.c.worker)
        with self._database.read() as connection:
            return [
                (row["worker"], LoadedModel(row["name"], row["version"], row["sha256"], row["error"]))
                for row in connection.execute(query).mappings()
            ]


def _history(connection: Connection) -> list[ModelSwitch]:
    rows = connection.execute(sa.select(model_switches).order_by(model_switches.c.id)).mappings()
    return [
        ModelSwitch(
            action=SwitchAction(row["action"]),
            name=row["name"],
            to=ModelVersion(row["name"], row["version"], row["sha256"]) if row["version"] is not None else None,
            who=row["who"],
            reason=row["reason"],
            at=row["at"],
        )
        for row in rows
    ]
