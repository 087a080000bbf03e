from __future__ import annotations

import pytest

from pacs_guard.detect.unavailable import UnavailableDetector
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import DetectorError


def test_it_says_on_every_series_why_it_is_not_there():
    detector = UnavailableDetector("forensic", "weights.npz is not the file that the bundle lists")
    assert (detector.name, detector.version) == ("forensic", "unavailable")
    with pytest.raises(DetectorError, match=r"weights\.npz is not the file"):
        detector.assess(AssembledSeries("1.2", "1.2.3", ()))
