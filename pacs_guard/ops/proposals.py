"""What retraining proposed, as files that the training process wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal.

    Attributes
    ----------
    name, version : str
    outcome : str
        ``recommended``, ``not recommended`` or ``too few``.
    at : float
        Seconds since the epoch.
    """

    name: str
    version: str
    outcome: str
    at: float


def proposal_file(folder: Path, name: str, version: str, suffix: str = ".json") -> Path:
    """Return where the proposal of a version lies."""
    return folder / f"{name}-{version}{suffix}"


def latest_proposals(folder: Path) -> dict[str, Proposal]:
    """Return the newest proposal of each detector; files that are none are passed over."""
    newest: dict[str, Proposal] = {}
    for path in folder.glob("*.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            at = datetime.fromisoformat(content["made_at"]).timestamp()
            found = Proposal(str(content["name"]), str(content["version"]), str(content["outcome"]), at)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found.name not in newest or newest[found.name].at < found.at:
            newest[found.name] = found
    return newest
