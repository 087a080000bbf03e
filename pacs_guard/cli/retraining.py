"""``model retrain``: labels and proposals of retraining, and the process that trains."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pacs_guard.config import Settings
    from pacs_guard.detect.bundle import Bundle

PROPOSAL = "proposal.json"


def outcome_of(settings: Settings, bundle: Bundle) -> str | None:
    """Return what a version's proposal came to, in a few words; None where there is none."""
    path = settings.proposals_dir / f"{bundle.name}-{bundle.version}.json"
    try:
        proposal: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(proposal.get("outcome"))
