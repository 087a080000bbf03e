"""Contradictions within a series: rules on headers and pixel hashes, no learning.

What holds a study (suspect) and what is only recorded (notice): ordinary archives are full of formal faults (UIDs with
leading zeros, stale file meta information, several phases at one position), and nobody may wait for a scan because of
them. Only what tells of changed or copied pixels, and does not come about by ordinary routing, is suspect:

========================================================  ========
the same SOPInstanceUID with other pixels                 suspect
equal pixels, not blank, at different positions           suspect
the same SOPInstanceUID, other content, pixels equal or   notice
not comparable (header corrections, re-encoding)
equal pixels at the same or an unknown position (re-sent  notice
with new UIDs)
a UID that PS3.5 9.1 does not allow                       notice
file meta information that contradicts the data set       notice
several instances at one position                         notice
positions that contradict InstanceNumber, SliceLocation   notice
========================================================  ========

Each rule gives one finding with a count, however many instances break it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.detector import DetectorResult
from pacs_guard.domain.identifiers import is_uid
from pacs_guard.domain.verdict import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pacs_guard.domain.volume import AssembledSeries, InstanceFacts

_SAME_POSITION_MM = 0.01
_LOCATION_TOLERANCE_MM = 1.0

Breach = tuple[Severity, str, str]
"""Severity, sentence, and SOPInstanceUID of the first instance concerned."""


class IntegrityDetector:
    """Find instances that contradict themselves or one another.

    It judges every series, also one without a volume, and scores no slices.

    Examples
    --------
    >>> from pacs_guard.domain.volume import AssembledSeries, InstanceFacts
    >>> facts = InstanceFacts(
    ...     sop_uid="1.02.3", series_uid="1.2", study_uid="1.3", sop_class_uid="1.4", content_sha256="ab"
    ... )
    >>> result = IntegrityDetector().assess(AssembledSeries("1.3", "1.2", (facts,)))
    >>> print(result.findings[0].sentence)
    1 of 1 instances has a UID that PS3.5 9.1 does not allow, first SOPInstanceUID '1.02.3'
    """

    name = "integrity"
    version = "1"

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:  # noqa: ARG002  # facts need no picture
        """Judge one series by every rule; see `pacs_guard.detect.detector.Detector`."""
        breaches = [breach for rule in _RULES for breach in rule(series.instances)]
        return DetectorResult(findings=tuple(_finding(breach, series.series_uid) for breach in breaches))


def _finding(breach: Breach, series_uid: str) -> Finding:
    severity, sentence, sop_uid = breach
    return Finding(
        kind=FindingKind.INTEGRITY,
        detector=IntegrityDetector.name,
        sentence=sentence,
        severity=severity,
        series_uid=series_uid,
        sop_uid=sop_uid,
    )


def _same_uid_other_content(instances: Sequence[InstanceFacts]) -> Iterable[Breach]:
    other_pixels: list[str] = []
    other_header: list[str] = []
    for members in _grouped(instances, lambda facts: facts.sop_uid).values():
        if len({facts.content_sha256 for facts in members}) > 1:
            pixels = {facts.pixel_sha256 for facts in members} - {None}
            (other_pixels if len(pixels) > 1 else other_header).append(members[0].sop_uid)
    if other_pixels:
        yield (
            Severity.SUSPECT,
            (
                f"{_count(other_pixels, 'SOPInstanceUID')} came with different pixels: one version was altered, "
                f"first {other_pixels[0]}"
            ),
            other_pixels[0],
        )
    if other_header:
        yield (
            Severity.NOTICE,
            (
                f"{_count(other_header, 'SOPInstanceUID')} came with different content; the pixels are equal or not "
                f"comparable, first {other_header[0]}"
            ),
            other_header[0],
        )


def _equal_pixels(instances: Sequence[InstanceFacts]) -> Iterable[Breach]:
    moved: list[list[InstanceFacts]] = []
    resent: list[list[InstanceFacts]] = []
    comparable = [facts for facts in instances if facts.pixel_sha256 and not facts.blank]
    for members in _grouped(comparable, lambda facts: facts.pixel_sha256).values():
        if len({facts.sop_uid for facts in members}) > 1:
            (moved if _lie_apart(members) else resent).append(members)
    if moved:
        first, other = _two_apart(moved[0])
        yield (
            Severity.SUSPECT,
            (
                f"{_count(moved, 'slice')} lies at two positions, pixel for pixel: a slice was copied, first "
                f"{first.sop_uid} at {_place(first)} and {other.sop_uid} at {_place(other)}"
            ),
            first.sop_uid,
        )
    if resent:
        yield (
            Severity.NOTICE,
            (
                f"{_count(resent, 'image')} came again under another SOPInstanceUID, position equal or unknown, "
                f"first {resent[0][0].sop_uid} and {resent[0][1].sop_uid}"
            ),
            resent[0][0].sop_uid,
        )


def _malformed_uids(instances: Sequence[InstanceFacts]) -> Iterable[Breach]:
    bad = []
    for facts in instances:
        uids = {
            "SOPInstanceUID": facts.sop_uid,
            "SeriesInstanceUID": facts.series_uid,
            "StudyInstanceUID": facts.study_uid,
        }
        bad.extend([(facts, f"{name} {uid!r}") for name, uid in uids.items() if not is_uid(uid)][:1])
    if bad:
        verb = "has" if len(bad) == 1 else "have"
        yield (
            Severity.NOTICE,
            f"{len(bad)} of {len(instances)} instances {verb} a UID that PS3.5 9.1 does not allow, first {bad[0][1]}",
            bad[0][0].sop_uid,
        )


def _file_meta(instances: Sequence[InstanceFacts]) -> Iterable[Breach]:
    bad = []
    for facts in instances:
        pairs = (
            ("MediaStorageSOPInstanceUID", facts.meta_sop_uid, facts.sop_uid),
            ("MediaStorageSOPClassUID", facts.meta_sop_class_uid, facts.sop_class_uid),
        )
        bad.extend([(facts, *pair) for pair in pairs if pair[1] is not None and pair[1] != pair[2]][:1])
    if bad:
        facts, name, meta, own = bad[0]
        yield (
            Severity.NOTICE,
            (
                f"the file meta information of {len(bad)} of {len(instances)} instances contradicts the data set: "
                f"{name} {meta} where the data set says {own}"
            ),
            facts.sop_uid,
        )


def _geometry(instances: Sequence[InstanceFacts]) -> Iterable[Breach]:
    # the same UID twice is another rule's business
    placed = [
        (depth, facts)
        for facts in {facts.sop_uid: facts for facts in instances}.values()
        if (depth := _depth(facts)) is not None and _parallel(facts, instances)
    ]
    placed.sort(key=lambda pair: pair[0])
    yield from _shared_positions(placed)
    yield from _contradicted_order(placed)
    yield from _contradicted_location(placed)


def _shared_positions(placed: list[tuple[float, InstanceFacts]]) -> Iterable[Breach]:
    shared = [later for (one, _), (other, later) in itertools.pairwise(placed) if other - one < _SAME_POSITION_MM]
    if shared:
        yield (
            Severity.NOTICE,
            f"{len(shared)} of {len(placed)} instances lie where another one lies, first at {_place(shared[0])}",
            shared[0].sop_uid,
        )


def _contradicted_order(placed: list[tuple[float, InstanceFacts]]) -> Iterable[Breach]:
    numbered = [(depth, facts, facts.instance_number) for depth, facts in placed if facts.instance_number is not None]
    if len({depth for depth, _, _ in numbered}) < len(numbered):
        return
    steps = np.diff([number for _, _, number in numbered])
    against = np.flatnonzero(steps <= 0 if np.sum(steps > 0) >= np.sum(steps < 0) else steps >= 0)
    if len(against):
        first = numbered[int(against[0]) + 1]
        yield (
            Severity.NOTICE,
            (
                f"InstanceNumber runs against the positions at {len(against)} of {len(numbered)} instances, first "
                f"{first[2]:g} at {_place(first[1])}"
            ),
            first[1].sop_uid,
        )


def _contradicted_location(placed: list[tuple[float, InstanceFacts]]) -> Iterable[Breach]:
    located = [(depth, facts, facts.slice_location) for depth, facts in placed if facts.slice_location is not None]
    if len(located) < 2:
        return
    depth = np.array([one[0] for one in located])
    location = np.array([one[2] for one in located])
    # SliceLocation has a free zero and either direction (PS3.3 C.7.6.2.1.2)
    sign = 1.0 if float((depth - depth.mean()) @ (location - location.mean())) >= 0 else -1.0
    off = np.abs((location - sign * depth) - np.median(location - sign * depth))
    wrong = np.flatnonzero(off > _LOCATION_TOLERANCE_MM)
    if len(wrong):
        first = located[int(wrong[0])]
        yield (
            Severity.NOTICE,
            (
                f"SliceLocation contradicts ImagePositionPatient at {len(wrong)} of {len(located)} instances, first "
                f"{first[2]:g} at {_place(first[1])}"
            ),
            first[1].sop_uid,
        )


_RULES: tuple[Callable[[Sequence[InstanceFacts]], Iterable[Breach]], ...] = (
    _same_uid_other_content,
    _equal_pixels,
    _malformed_uids,
    _file_meta,
    _geometry,
)


def _grouped(
    instances: Iterable[InstanceFacts], key: Callable[[InstanceFacts], str | None]
) -> dict[str | None, list[InstanceFacts]]:
    groups: dict[str | None, list[InstanceFacts]] = defaultdict(list)
    for facts in instances:
        groups[key(facts)].append(facts)
    return groups


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" if len(things) == 1 else f"{len(things)} {noun}s"


def _depth(facts: InstanceFacts) -> float | None:
    if facts.position_mm is None or facts.orientation is None:
        return None
    normal = np.cross(facts.orientation[:3], facts.orientation[3:])
    return float(normal @ np.array(facts.position_mm))


def _parallel(facts: InstanceFacts, instances: Sequence[InstanceFacts]) -> bool:
    first = next(one.orientation for one in instances if one.orientation is not None)
    return facts.orientation is not None and bool(np.allclose(facts.orientation, first, atol=1e-3))


def _lie_apart(members: Sequence[InstanceFacts]) -> bool:
    return _distance(*_two_apart(members)) >= _SAME_POSITION_MM


def _two_apart(members: Sequence[InstanceFacts]) -> tuple[InstanceFacts, InstanceFacts]:
    other = max(members[1:], key=lambda facts: _distance(members[0], facts))
    return members[0], other


def _distance(one: InstanceFacts, other: InstanceFacts) -> float:
    if one.position_mm is None or other.position_mm is None:
        return 0.0
    return float(np.linalg.norm(np.subtract(one.position_mm, other.position_mm)))


def _place(facts: InstanceFacts) -> str:
    if facts.position_mm is None:
        return "an unknown position"
    return "({:g}, {:g}, {:g}) mm".format(*facts.position_mm)
