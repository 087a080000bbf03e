"""Champion against challenger on patients that the challenger never saw, judged as the node judges them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.domain.verdict import Severity
from training.labelled import CLEAN, PRESUMED, TAMPERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pacs_guard.detect.detector import Detector, DetectorResult
    from pacs_guard.domain.volume import AssembledSeries
    from training.labelled import LabelledStudy

HIT_MM = 20.0


@dataclass(frozen=True, slots=True)
class Judged:
    """What both say of one study.

    Attributes
    ----------
    patient, label : str
    champion, challenger : bool
        Whether it is suspected.
    champion_hit, challenger_hit : bool
        Whether a finding lies within 20 mm of a labelled place.
    """

    patient: str
    label: str
    champion: bool
    challenger: bool
    champion_hit: bool = False
    challenger_hit: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A share of patients.

    Attributes
    ----------
    count, n : int
        So many of n patients.
    low, high : float
        Exact 95 % interval (Clopper and Pearson 1934).
    """

    count: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, flags: Sequence[bool]) -> Share:
        """Count patients.

        Examples
        --------
        >>> Share.of([False] * 10)
        Share(count=0, n=10, low=0.0, high=0.308)
        """
        from scipy.stats import binomtest  # noqa: PLC0415  # slow to import

        if not flags:
            return cls(0, 0, 0.0, 1.0)
        interval = binomtest(sum(flags), len(flags)).proportion_ci(0.95, method="exact")
        return cls(sum(flags), len(flags), round(float(interval.low), 3), round(float(interval.high), 3))

    def __str__(self) -> str:
        if not self.n:
            return "none"
        return f"{self.count} of {self.n} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both do on one kind of patients.

    Attributes
    ----------
    of : str
        Which patients, and what counts of them.
    champion, challenger : Share
    gained, lost : int
        Patients that only the challenger, and only the champion counts.
    p_value : float
        Of the exact McNemar test that both count alike, two-sided; 1 where they differ on nobody.
    """

    of: str
    champion: Share
    challenger: Share
    gained: int
    lost: int
    p_value: float

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def judge_both(
    studies: Iterable[LabelledStudy], champion: Detector, challenger: Detector, say: Callable[[str], None]
) -> list[Judged]:
    """Have both judge whole studies; a study counts as suspected if any of its series is."""
    judged = []
    for study in studies:
        flags, hits = [False, False], [False, False]
        for series in study.series():
            if series.volume is None:
                continue
            for number, detector in enumerate((champion, challenger)):
                result = detector.assess(series)
                suspects = [one for one in result.findings if one.severity is Severity.SUSPECT]
                flags[number] |= bool(suspects)
                hits[number] |= _hit(series, result, study)
        judged.append(Judged(study.patient, study.label, flags[0], flags[1], hits[0], hits[1]))
        say(f"{study.folder.name} ({study.label}): champion {_word(flags[0])}, challenger {_word(flags[1])}")
    return judged


def compare(judged: Sequence[Judged]) -> dict[str, Comparison]:
    """Return figures by patient: an altered patient is found if every altered study is, a clean one if any is."""
    return {
        "found": _compared(judged, (TAMPERED,), "altered patients suspected", all),
        "placed": _compared(judged, (TAMPERED,), f"altered patients with a finding within {HIT_MM:g} mm", all, "_hit"),
        "false_alarms": _compared(judged, (CLEAN,), "reviewed clean patients suspected", any),
        "passed": _compared(judged, (PRESUMED,), "patients that passed unreviewed, suspected", any),
    }


def outcome(figures: dict[str, Comparison]) -> tuple[str, str]:
    """Return what to propose, and why: no altered patient may be lost, and something must be gained.

    The confirmed studies were suspected by a champion before anyone looked, so that a challenger can only lose them
    and the false alarms it can only end; what passed shows the false alarms that it begins.
    """
    found, ended, begun = figures["found"], figures["false_alarms"], figures["passed"]
    if found.lost:
        return "not recommended", f"the challenger loses {found.lost} altered patients that the champion finds"
    fewer = ended.lost - ended.gained - (begun.gained - begun.lost)
    if fewer < 0:
        return "not recommended", f"the challenger raises {-fewer} more false alarms than the champion"
    if not fewer and not found.gained:
        return "not recommended", "the challenger is no better on anyone held back"
    return "recommended", f"{found.gained} more altered patients found, {fewer} fewer false alarms, none lost"


def what_n_allows(altered: int, clean: int) -> str:
    """Say what so few held-back patients can show at the very best.

    Examples
    --------
    >>> what_n_allows(3, 10)
    'with 3 altered and 10 clean patients, finding all cannot show more than 0.29, no false alarm no less than 0.31'
    """
    most = Share.of([True] * altered).low if altered else 0.0
    least = Share.of([False] * clean).high if clean else 1.0
    return (
        f"with {altered} altered and {clean} clean patients, finding all cannot show more than {most:.2f}, "
        f"no false alarm no less than {least:.2f}"
    )


def _compared(
    judged: Sequence[Judged], labels: tuple[str, ...], of: str, join: Callable[[Iterable[bool]], bool], what: str = ""
) -> Comparison:
    from scipy.stats import binomtest  # noqa: PLC0415  # slow to import

    patients: dict[str, list[Judged]] = {}
    for one in judged:
        if one.label in labels:
            patients.setdefault(one.patient, []).append(one)
    champion, challenger = (
        [join(getattr(one, side + what) for one in own) for own in patients.values()]
        for side in ("champion", "challenger")
    )
    gained = sum(new and not old for old, new in zip(champion, challenger, strict=True))
    lost = sum(old and not new for old, new in zip(champion, challenger, strict=True))
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Comparison(of, Share.of(champion), Share.of(challenger), gained, lost, round(p_value, 4))


def _hit(series: AssembledSeries, result: DetectorResult, study: LabelledStudy) -> bool:
    volume = series.volume
    assert volume is not None  # noqa: S101  # the caller passes over others
    order = {uid: index for index, uid in enumerate(volume.sop_uids)}
    places = [
        volume.position_of(order[one["sop_uid"]], float(one["x"]), float(one["y"]))
        for one in study.places
        if one["sop_uid"] in order
    ]
    at = [one.position_mm for one in result.findings if one.position_mm is not None]
    return any(float(np.linalg.norm(np.subtract(one, place))) <= HIT_MM for one in at for place in places)


def _word(suspected: bool) -> str:
    return "suspects" if suspected else "passes"
