"""What a person is told of an event: the fields of a notification as text, and templates that can name only those."""

from __future__ import annotations

from datetime import UTC, datetime
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = {
    "study_quarantined": "study quarantined",
    "late_finding": "LATE FINDING in a study that was already forwarded",
    "bypass_on": "bypass switched on: studies are forwarded unjudged",
    "bypass_off": "bypass switched off",
    "daily_report": "daily report",
    "model_promoted": "another version of a model is in force",
    "model_rolled_back": "a model was rolled back",
    "retraining_done": "retraining is done",
}
FIELDS = frozenset(
    {
        "event",
        "title",
        "node",
        "time",
        "study",
        "verdict",
        "kinds",
        "reason",
        "sources",
        "instances",
        "detectors",
        "who",
    }
)
"""What a template may name; nothing in them identifies a patient."""
STUDY_UID = "study_uid"
"""Leads to the patient for whoever has the PACS; a site says whether it may leave the node."""

SUBJECT = "$node: $title"
BODY = """\
$title

study      $study (the node's number; pacs-guard quarantine show $study)
verdict    $verdict $kinds
why        $reason
from       $sources, $instances instances
detectors  $detectors
when       $time
by         $who

This message comes from a machine that looks for altered pixels. It is no diagnosis.
"""


def problems(template: str, *, study_uid: bool) -> list[str]:
    """Return what is wrong with a template, one sentence each."""
    parsed = Template(template)
    if not parsed.is_valid():
        return ["a $ stands alone; expected a field such as $study, or $$ for the sign itself"]
    allowed = FIELDS | ({STUDY_UID} if study_uid else set())
    unknown = sorted(set(parsed.get_identifiers()) - allowed)
    known = ", ".join(sorted(allowed))
    hint = " (set include_study_uid for it)" if unknown == [STUDY_UID] else ""
    return [f"${name} was given{hint}; expected one of {known}" for name in unknown]


def fill(template: str, payload: Mapping[str, Any], *, node: str, study_uid: str | None = None) -> str:
    """Return a template with the payload's values in the place of its fields; nothing else in it is looked at.

    Examples
    --------
    >>> fill("$study: $kinds$$", {"study": 7, "kinds": ["FB", "FM"]}, node="PACSGUARD")
    '7: FB FM$'
    """
    event = str(payload.get("event", ""))
    values = {name: _text(payload.get(name)) for name in FIELDS}
    values |= {
        "title": TITLES.get(event, event.replace("_", " ")),
        "node": node,
        "time": _moment(payload.get("time")),
        STUDY_UID: study_uid or "",
    }
    return Template(template).substitute(values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return str(value)


def _moment(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
