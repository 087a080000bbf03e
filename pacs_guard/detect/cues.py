"""What spoke for a finding, measured where it lies and said in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.features import dense_feature_names, lung_feature_names, measure_slice
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import DetectorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.detect.scoremap import Peak
    from pacs_guard.domain.volume import Volume

FEATURE_NAMES = {FindingKind.FB: lung_feature_names(), FindingKind.FM: dense_feature_names()}

_CLAIMS = {
    FindingKind.FB: ("lung tissue", "as where a tumour was removed"),
    FindingKind.FM: ("soft tissue", "as where a tumour was injected"),
}
# name, its logarithm against the tissue's usual value, and the same in standard deviations of the tissue
_CUES = {
    FindingKind.FB: (
        ("noise", "lung dog0.8 energy 10 mm", "lung dog0.8 energy z 10 mm"),
        ("grain", "lung dog1.2 16 mm", "lung dog1.2 z"),
        ("finest", "lung corner 16 mm", "lung corner z"),
    ),
    FindingKind.FM: (
        ("noise", "dense dog0.8 energy 7 mm", "dense dog0.8 energy z 7 mm"),
        ("grain", "dense dog1.2 10 mm", "dense dog1.2 z"),
        ("finest", "dense corner 10 mm", "dense corner z"),
    ),
}
_SAID = {"noise": "noise", "grain": "grain", "finest": "finest pattern"}
_DROP = 3.0
_REACH_MM = 30.0


def cues_at(volume: Volume, kind: FindingKind, peak: Peak) -> dict[str, float]:
    """Measure a finding's slice again and return what spoke there.

    Returns
    -------
    dict of str to float
        ``..._ratio``, to the same tissue of that slice, and ``..._deviations``, how many standard deviations of that
        tissue this lies from usual, of ``noise`` (its strength), ``grain`` (coarser texture) and ``finest`` (the
        pattern from pixel to pixel).

    Raises
    ------
    DetectorError
        If the slice shows no lung.
    """
    measured = measure_slice(volume.hu[peak.index], volume.spacing_mm[1:])
    if measured is None:
        raise DetectorError(f"slice {peak.index} had lung when it was scored, and has none now")
    sites = measured.lung if kind is FindingKind.FB else measured.dense
    here = sites.features[int(np.flatnonzero((sites.rows == peak.row) & (sites.columns == peak.column))[0])]
    names, cues = FEATURE_NAMES[kind], {}
    for cue, logarithm, deviations in _CUES[kind]:
        cues[f"{cue}_ratio"] = round(float(np.exp(here[names.index(logarithm)])), 4)
        cues[f"{cue}_deviations"] = round(float(here[names.index(deviations)]), 2)
    return cues


def sentence_of(kind: FindingKind, place: str, cues: dict[str, float]) -> str:
    """Return what the cues say; `place` is put after "The noise at".

    Examples
    --------
    >>> cues = {"noise_ratio": 0.46, "grain_ratio": 0.4, "finest_ratio": 1.8}
    >>> cues |= {"noise_deviations": -3.1, "grain_deviations": -4.0, "finest_deviations": 6.2}
    >>> print(sentence_of(FindingKind.FB, "column 90, row 160", cues))
    ... # doctest: +NORMALIZE_WHITESPACE
    The noise at column 90, row 160 is not the scanner's: noise here is 46 % (3.1 deviations too weak), its grain is
    40 % (4.0 deviations too weak) and its finest pattern is 180 % (6.2 deviations too strong) of that in the lung
    tissue of the same slice, as where a tumour was removed.
    """
    tissue, claim = _CLAIMS[kind]
    said = []
    for cue, words in _SAID.items():
        deviations = cues[f"{cue}_deviations"]
        way = "weak" if deviations < 0 else "strong"
        name = f"{words} here" if cue == "noise" else f"its {words}"
        said.append(f"{name} is {100 * cues[f'{cue}_ratio']:.0f} % ({abs(deviations):.1f} deviations too {way})")
    listed = f"{', '.join(said[:-1])} and {said[-1]}"
    return f"The noise at {place} is not the scanner's: {listed} of that in the {tissue} of the same slice, {claim}."


def extent_of(maps: NDArray[np.float32], peak: Peak, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    """Return how far the suspicion reaches around a peak.

    Parameters
    ----------
    maps : ndarray of float32, shape (slices, rows, columns) of the raster
        Agreed scores.
    peak : Peak
    spacing_mm : tuple of float
        Of the maps.

    Returns
    -------
    dict of str to float
        ``extent_z_mm``, ``extent_y_mm`` and ``extent_x_mm`` of the places in one piece with the peak that score at
        most three less (a twentieth of its odds); ``slices``, how many these are.
    """
    centre = (peak.index, peak.row, peak.column)
    reach = [int(np.ceil(_REACH_MM / spacing)) for spacing in spacing_mm]
    box = tuple(slice(max(0, at - far), at + far + 1) for at, far in zip(centre, reach, strict=True))
    inside = (maps[box] > NOTHING) & (maps[box] >= peak.score - _DROP)
    labels, _ = ndimage.label(inside, np.ones((3, 3, 3)))
    own = labels == labels[tuple(at - part.start for at, part in zip(centre, box, strict=True))]
    sizes = [int(own.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
    extents = {
        f"extent_{name}_mm": round(size * spacing, 1)
        for name, size, spacing in zip("zyx", sizes, spacing_mm, strict=True)
    }
    return {**extents, "slices": float(sizes[0])}
