"""The instances of a series to a volume, or to a refusal with its reason.

- A localizer in the series is left out and noted; it is no slice of anything.
- For the node, every other instance must be a slice of one regular stack; otherwise the series is refused, because a
  volume with something missing must not be called clean.
- With ``split_gaps`` (for files at hand, which may be a part of a series) each regular stack, down to a single slice,
  becomes a series of its own, and what is no slice is refused apart.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.assemble.geometry import Stack, same_orientation, stack_all, stack_runs
from pacs_guard.assemble.reading import ReadInstance, read_instance
from pacs_guard.domain.text import printable
from pacs_guard.domain.volume import AssembledSeries, Volume
from pacs_guard.errors import AssemblyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pacs_guard.assemble.planes import Plane
    from pacs_guard.domain.instance import StoredInstance

_MOST_LOCALIZERS = 4


def assemble_study(
    instances: Iterable[StoredInstance], root: Path, *, split_gaps: bool = False, from_network: bool = True
) -> Iterator[AssembledSeries]:
    """Assemble one series after the other, so that memory holds one series at a time.

    Parameters
    ----------
    instances : iterable of StoredInstance
        Of one study or of several.
    root : Path
        Folder that their paths are relative to.
    split_gaps : bool
        Whether a series with gaps becomes several, instead of a refusal.
    from_network : bool
        Whether this node wrote the file meta information. From others, a series is also kept apart by folder, since
        copies of one header in many files give all of them the same UIDs.

    Yields
    ------
    AssembledSeries
        In the order of first appearance.
    """
    for group in by_series(instances, from_network=from_network):
        yield from assemble_series(group, root, split_gaps=split_gaps, from_network=from_network)


def by_series(instances: Iterable[StoredInstance], *, from_network: bool) -> list[list[StoredInstance]]:
    """Return instances of one study or of several, grouped as `assemble_study` does."""
    groups: dict[tuple[str, ...], list[StoredInstance]] = defaultdict(list)
    for instance in instances:
        folder = "" if from_network else instance.path.rpartition("/")[0]
        groups[instance.key.study_uid, instance.key.series_uid, folder].append(instance)
    return list(groups.values())


def assemble_series(
    instances: Sequence[StoredInstance], root: Path, *, split_gaps: bool = False, from_network: bool = True
) -> Iterator[AssembledSeries]:
    """Assemble the instances of one series: one result, or with `split_gaps` one for each regular stack.

    Parameters
    ----------
    instances : sequence of StoredInstance
        All of one study and series; byte-identical duplicates are read once.
    root, split_gaps, from_network
        As for `assemble_study`.

    Yields
    ------
    AssembledSeries
        With a volume or a refusal.

    Raises
    ------
    SpoolError
        If a file cannot be opened.
    """
    once = {(instance.key.sop_uid, instance.key.sha256): instance for instance in instances}
    read = [read_instance(instance, root, from_network=from_network) for instance in once.values()]
    if split_gaps:
        yield from _pieces(read)
    else:
        yield _whole(read)


def _whole(read: list[ReadInstance]) -> AssembledSeries:
    try:
        planes = _planes(read)
        _refuse_mixtures(planes)
        stack = _located(planes)
        return _assembled(read, _volume(read[0], planes, stack), notes=_notes(read, planes))
    except AssemblyError as error:
        return _assembled(read, refusal=printable(str(error)))


def _pieces(read: list[ReadInstance]) -> Iterator[AssembledSeries]:
    refused: dict[str, list[ReadInstance]] = defaultdict(list)
    alike: list[list[Plane]] = []
    for one in read:
        if one.refusal is not None:
            refused[one.refusal].append(one)
    for plane in _first_of_each([plane for one in read for plane in one.planes]):
        fitting = [group for group in alike if _fit(group[0], plane)]
        if fitting:
            fitting[0].append(plane)
        else:
            alike.append([plane])
    for group in alike:
        for stack in _stacks(group):
            planes = [group[i] for i in stack.order]
            uids = {plane.sop_uid for plane in planes}
            members = [one for one in read if one.facts.sop_uid in uids]
            volume = _volume(members[0], group, stack)
            yield _assembled(members, volume, notes=_notes(members, planes))
    for reason, members in refused.items():
        yield _assembled(members, refusal=_counted(reason, len(members), len(members)))


def _planes(read: list[ReadInstance]) -> list[Plane]:
    """Return the slices of the series; refuse it if an instance other than a localizer has none."""
    refused = [one for one in read if one.refusal is not None]
    counting = [one for one in refused if not one.localizer]
    if counting or len(refused) == len(read):
        first = (counting or refused)[0]
        same = sum(one.refusal == first.refusal for one in refused)
        raise AssemblyError(_counted(str(first.refusal), same, len(read)))
    return _first_of_each([plane for one in read for plane in one.planes])


def _counted(reason: str, count: int, total: int) -> str:
    if total == 1:
        return f"not judged: {reason}"
    return f"not judged, {count} of {total} instances: {reason}"


def _first_of_each(planes: list[Plane]) -> list[Plane]:
    """Drop slices whose SOPInstanceUID another instance had at the same position; the conflict is in the facts."""
    return list({(plane.sop_uid, plane.position_mm): plane for plane in reversed(planes)}.values())[::-1]


def _fit(one: Plane, other: Plane) -> bool:
    return (
        one.hu.shape == other.hu.shape
        and np.allclose(one.pixel_mm, other.pixel_mm, rtol=1e-3, atol=0)
        and same_orientation(one.orientation, other.orientation)
    )


def _refuse_mixtures(planes: list[Plane]) -> None:
    first = planes[0]
    for plane in planes:
        if plane.hu.shape != first.hu.shape:
            raise AssemblyError(f"its slices have mixed sizes: {_size(first)} and {_size(plane)} pixels")
        if not same_orientation(plane.orientation, first.orientation):
            raise AssemblyError(f"its slices have different orientations: {first.orientation} and {plane.orientation}")
        if not _fit(first, plane):
            raise AssemblyError(f"its slices have mixed PixelSpacing: {first.pixel_mm} and {plane.pixel_mm} mm")


def _size(plane: Plane) -> str:
    rows, columns = plane.hu.shape
    return f"{columns} x {rows}"


def _located(planes: list[Plane]) -> Stack:
    """Stack the slices; a single one needs no position."""
    if len(planes) == 1:
        return Stack((0,), None)
    missing = sum(plane.position_mm is None for plane in planes)
    if missing:
        raise AssemblyError(
            f"{missing} of {len(planes)} slices have no ImagePositionPatient or ImageOrientationPatient"
        )
    return stack_all(_positions(planes), planes[0].orientation, pixel_mm=min(planes[0].pixel_mm))


def _stacks(planes: list[Plane]) -> Iterator[Stack]:
    placed = [i for i, plane in enumerate(planes) if plane.position_mm is not None]
    if placed:
        here = [planes[i] for i in placed]
        pixel, thickness = min(here[0].pixel_mm), here[0].thickness_mm
        for stack in stack_runs(_positions(here), here[0].orientation, pixel_mm=pixel, thickness_mm=thickness):
            yield Stack(tuple(placed[i] for i in stack.order), stack.step_mm)
    yield from (Stack((i,), None) for i, plane in enumerate(planes) if plane.position_mm is None)


def _positions(planes: Sequence[Plane]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([plane.position_mm or (0.0, 0.0, 0.0) for plane in planes], dtype=np.float64)


def _volume(member: ReadInstance, planes: list[Plane], stack: Stack) -> Volume:
    chosen = [planes[i] for i in stack.order]
    first = chosen[0]
    padding = None
    if any(plane.padding is not None for plane in chosen):
        padding = np.stack([np.zeros(p.hu.shape, np.bool_) if p.padding is None else p.padding for p in chosen])
    return Volume(
        hu=np.stack([plane.hu for plane in chosen]),
        padding=padding,
        spacing_mm=(stack.step_mm or first.thickness_mm or 1.0, *first.pixel_mm),
        orientation=first.orientation,
        positions_mm=_positions(chosen),
        sop_uids=tuple(plane.sop_uid for plane in chosen),
        study_uid=member.facts.study_uid,
        series_uid=member.facts.series_uid,
    )


def _notes(read: list[ReadInstance], planes: list[Plane]) -> tuple[str, ...]:
    notes = []
    localizers = sum(one.localizer for one in read)
    if localizers:
        notes.append(f"{localizers} localizers were left out")
    if len(planes) == 1:
        notes.append("it is one slice")
        if planes[0].position_mm is None:
            notes.append("the slice has no position; it was placed at 0, 0, 0")
        if planes[0].thickness_mm is None:
            notes.append("the slice has no SliceThickness; 1 mm was assumed")
    return tuple(notes)


def _assembled(
    read: list[ReadInstance],
    volume: Volume | None = None,
    *,
    refusal: str | None = None,
    notes: tuple[str, ...] = (),
) -> AssembledSeries:
    facts = read[0].facts
    return AssembledSeries(
        study_uid=facts.study_uid,
        series_uid=facts.series_uid,
        instances=tuple(one.facts for one in read),
        volume=volume,
        refusal=refusal,
        files={one.facts.sop_uid: one.file for one in reversed(read)},
        notes=notes,
        out_of_scope=volume is None and _is_out_of_scope(read),
    )


def _is_out_of_scope(read: list[ReadInstance]) -> bool:
    # a header that says "localizer" must not exempt a whole stack of slices
    localizers = sum(one.localizer for one in read)
    return all(one.out_of_scope for one in read) and localizers <= _MOST_LOCALIZERS
