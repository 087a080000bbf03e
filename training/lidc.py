"""The radiologists' marks of LIDC-IDRI, read from its XML (Armato et al. 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_LEAST_REACH = 5.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A nodule's outline on one slice: its middle (column, row) and largest extent, in pixels."""

    x: float
    y: float
    extent: float


@dataclass(frozen=True, slots=True)
class Nodule:
    """A nodule as one or more radiologists marked it.

    Attributes
    ----------
    readers : int
        How many radiologists did.
    marks : dict of str to Mark
        By SOPInstanceUID; the mean over the radiologists who marked that slice.
    """

    readers: int
    marks: dict[str, Mark]


def read_nodules(path: Path) -> list[Nodule]:
    """Read one file; marks of several radiologists that overlap on a slice are one nodule.

    Raises
    ------
    ConfigurationError
        If it is not well-formed, or a coordinate is no number.
    """
    try:
        # the files come with the data set that the user chose to train on
        root = ET.parse(path).getroot()  # noqa: S314  # no entities are expanded from a local research file
    except (ET.ParseError, OSError) as error:
        raise ConfigurationError([f"{path}: is no readable XML ({error})"]) from error
    if not root.tag.endswith("LidcReadMessage"):
        return []
    groups: list[list[tuple[int, dict[str, Mark]]]] = []
    for reader, session in enumerate(root.iterfind("{*}readingSession")):
        for found in session.iterfind("{*}unblindedReadNodule"):
            try:
                marks = _marks(found)
            except ValueError as error:
                raise ConfigurationError([f"{path}: a nodule's outline has no numbers ({error})"]) from error
            _join(groups, reader, marks)
    return [_merged(group) for group in groups if any(marks for _, marks in group)]


def _join(groups: list[list[tuple[int, dict[str, Mark]]]], reader: int, marks: dict[str, Mark]) -> None:
    """Put an outline with those that it touches; if these were apart, it shows that they are one nodule."""
    same = [group for group in groups if any(_touch(marks, other) for _, other in group)]
    if not same:
        groups.append([(reader, marks)])
        return
    first, *rest = same
    first += [*(mark for group in rest for mark in group), (reader, marks)]
    groups[:] = [group for group in groups if not any(group is other for other in rest)]


def _marks(nodule: ET.Element) -> dict[str, Mark]:
    marks = {}
    for roi in nodule.iterfind("{*}roi"):
        if (roi.findtext("{*}inclusion") or "TRUE").strip().upper() != "TRUE":
            continue  # a hole in the nodule
        points = [
            (float(edge.findtext("{*}xCoord") or "nan"), float(edge.findtext("{*}yCoord") or "nan"))
            for edge in roi.iterfind("{*}edgeMap")
        ]
        uid = (roi.findtext("{*}imageSOP_UID") or "").strip()
        if uid and points and np.isfinite(points).all():
            low, high = np.min(points, axis=0), np.max(points, axis=0)
            middle = (low + high) / 2
            marks[uid] = Mark(float(middle[0]), float(middle[1]), float(np.hypot(*(high - low)) / np.sqrt(2)))
    return marks


def _touch(one: dict[str, Mark], other: dict[str, Mark]) -> bool:
    return any(
        np.hypot(one[uid].x - other[uid].x, one[uid].y - other[uid].y)
        <= max(_LEAST_REACH, one[uid].extent / 2, other[uid].extent / 2)
        for uid in one.keys() & other.keys()
    )


def _merged(group: list[tuple[int, dict[str, Mark]]]) -> Nodule:
    uids = sorted({uid for _, marks in group for uid in marks})
    mean = {}
    for uid in uids:
        every = [marks[uid] for _, marks in group if uid in marks]
        mean[uid] = Mark(*(float(np.mean([getattr(one, part) for one in every])) for part in ("x", "y", "extent")))
    return Nodule(len({reader for reader, _ in group}), mean)
