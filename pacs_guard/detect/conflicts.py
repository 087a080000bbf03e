"""The same SOP Instance UID in another series or study: evidence of tampering if the pixels differ."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pacs_guard.domain.verdict import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.domain.volume import AssembledSeries, InstanceFacts

DETECTOR = "integrity"


def uid_conflicts(
    series: AssembledSeries,
    conflicting: Iterable[StoredInstance],
    pixels: Mapping[str, str | None],
) -> tuple[Finding, ...]:
    """Return findings on instances whose SOP Instance UID another series or study has with other content.

    Other pixels are a reason to hold the study. The same pixels under another header are what a correction of the
    patient's data leaves, and are only noted, as is another instance that is no longer here to compare.

    Parameters
    ----------
    series : AssembledSeries
        The series that is judged.
    conflicting : iterable of StoredInstance
        What the queue knows elsewhere under one of its UIDs.
    pixels : mapping of str to str or None
        SHA-256 of the decoded pixels of those that could be read, by content hash.
    """
    own = {facts.sop_uid: facts for facts in series.instances}
    groups: dict[tuple[Severity, str], list[str]] = defaultdict(list)
    for other in conflicting:
        facts = own.get(other.key.sop_uid)
        if facts is not None and other.key.series_uid != series.series_uid:
            groups[_compared(facts, other, pixels, same_study=other.key.study_uid == series.study_uid)].append(
                facts.sop_uid
            )
    return tuple(
        Finding(
            kind=FindingKind.INTEGRITY,
            detector=DETECTOR,
            sentence=f"{len(uids)} SOP Instance UID(s) {what}, first {uids[0]}",
            severity=severity,
            series_uid=series.series_uid,
            sop_uid=uids[0],
        )
        for (severity, what), uids in groups.items()
    )


def _compared(
    facts: InstanceFacts, other: StoredInstance, pixels: Mapping[str, str | None], *, same_study: bool
) -> tuple[Severity, str]:
    where = "in another series of this study" if same_study else "in another study"
    theirs = pixels.get(other.key.sha256)
    if theirs is None or facts.pixel_sha256 is None:
        return Severity.NOTICE, f"came {where} with other content, which cannot be compared any more"
    if theirs == facts.pixel_sha256:
        return Severity.NOTICE, f"came {where} with the same pixels under another header"
    return Severity.SUSPECT, f"came {where} with other pixels: one of the two was altered"
