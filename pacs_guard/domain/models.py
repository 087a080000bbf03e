"""Which version of a detector's model is in force: promotions and rollbacks as a stack."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SwitchAction(StrEnum):
    """What a person did."""

    PROMOTE = "promote"
    """Put a version in force."""
    ROLL_BACK = "rollback"
    """Went back to what was in force before it."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model.

    Attributes
    ----------
    name, version : str
        As its bundle says.
    sha256 : str
        Of its ``bundle.json``, which holds the hashes of all its files.
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.sha256[:12]})"


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """One promotion or rollback, as recorded.

    Attributes
    ----------
    action : SwitchAction
    name : str
    to : ModelVersion or None
        What is in force since; None for the one that the settings name.
    who, reason : str
    at : float
        Seconds since the epoch.
    """

    action: SwitchAction
    name: str
    to: ModelVersion | None
    who: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a detector worker judges by.

    Attributes
    ----------
    name, version : str
    sha256 : str or None
        None for rules, which have no bundle, and for a detector that could not be loaded.
    error : str or None
        Why it is not the one that is in force, if it is not.
    """

    name: str
    version: str
    sha256: str | None
    error: str | None = None


def promoted(history: Iterable[ModelSwitch]) -> dict[str, list[ModelVersion]]:
    """Return the versions promoted and not rolled back, by name, the one in force last.

    Names of which nothing is left stand with an empty list: the settings say what is in force.

    Examples
    --------
    >>> one = ModelVersion("forensic", "2", "ab")
    >>> there = ModelSwitch(SwitchAction.PROMOTE, "forensic", one, "Dr. Jones", "fewer false alarms", 0.0)
    >>> back = ModelSwitch(SwitchAction.ROLL_BACK, "forensic", None, "Dr. Jones", "misses one", 1.0)
    >>> promoted([there]), promoted([there, back])
    ({'forensic': [ModelVersion(name='forensic', version='2', sha256='ab')]}, {'forensic': []})
    """
    stacks: dict[str, list[ModelVersion]] = {}
    for switch in history:
        stack = stacks.setdefault(switch.name, [])
        if switch.action is SwitchAction.PROMOTE and switch.to is not None:
            stack.append(switch.to)
        elif stack:
            stack.pop()
    return stacks
