"""Labels that people give studies, recorded for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.labels import Label
from pacs_guard.errors import NotFoundError
from pacs_guard.queue.proofrows import lock_study
from pacs_guard.queue.schema import actions, instances, labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pacs_guard.domain.labels import Place
    from pacs_guard.queue.database import Database


class Labels:
    """What people say studies are, for training; it changes nothing about where a study stands.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, study_id: int, label: Label, places: Sequence[Place] = (), *, who: str, reason: str) -> None:
        """Label a study; the newest of labels, releases and rejections counts.

        Parameters
        ----------
        study_id : int
        label : Label
        places : sequence of Place
            Where it was altered, instead of what the detector found.
        who, reason : str

        Raises
        ------
        NotFoundError
            If there is no such study, or a place lies in no instance of it.
        ValueError
            If places are given with another label than `Label.TAMPERED`.
        """
        if places and label is not Label.TAMPERED:
            raise ValueError(f"places were given with label {label}; expected {Label.TAMPERED}")
        recorded = {"study_id": study_id, "who": who, "reason": reason, "at": self._clock()}
        with self._database.write() as connection:
            lock_study(connection, study_id)
            own = sa.select(instances.c.sop_uid).where(instances.c.study_id == study_id)
            known = set(connection.execute(own).scalars()) if places else set()
            for place in places:
                if place.sop_uid not in known:
                    raise NotFoundError(f"study {study_id} has no instance {place.sop_uid}")
            connection.execute(
                sa.insert(labels).values(label=label, places=[place.as_dict() for place in places], **recorded)
            )
            connection.execute(sa.insert(actions).values(action=f"label {label}", **recorded))
