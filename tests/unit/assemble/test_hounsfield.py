from __future__ import annotations

import numpy as np
import pytest

from pacs_guard.assemble.hounsfield import Rescale, to_hounsfield
from pacs_guard.errors import AssemblyError


def test_slope_and_intercept_are_applied_and_the_result_rounded():
    hu, padding = to_hounsfield(np.array([[0, 1, 3]], dtype=np.uint16), Rescale(0.5, -1000.0))
    assert hu.tolist() == [[-1000, -1000, -998]]  # halves go to the even number
    assert hu.dtype == np.int16
    assert padding is None


def test_values_beyond_int16_are_clipped_not_wrapped():
    hu, _ = to_hounsfield(np.array([[60000]], dtype=np.uint16), Rescale(1.0, 0.0))
    assert hu.tolist() == [[32767]]


@pytest.mark.parametrize("fill", [-2000, -2048, -3024])
def test_values_below_any_substance_are_padding(fill):
    hu, padding = to_hounsfield(np.array([[fill, 40]], dtype=np.int16), Rescale(1.0, 0.0))
    assert hu.tolist() == [[-1024, 40]]
    assert padding.tolist() == [[True, False]]


def test_declared_padding_is_masked():
    hu, padding = to_hounsfield(np.array([[0, 5, 10, 1000]], dtype=np.int16), Rescale(1.0, -1024.0, (0.0, 10.0)))
    assert padding.tolist() == [[True, True, True, False]]
    assert hu.tolist() == [[-1024, -1024, -1024, -24]]


def test_padding_declared_over_tissue_hides_nothing():
    hu, padding = to_hounsfield(np.array([[1064, 0]], dtype=np.int16), Rescale(1.0, -1024.0, (0.0, 3000.0)))
    assert hu.tolist() == [[40, -1024]]
    assert padding.tolist() == [[False, True]]


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(AssemblyError, match="not finite"):
        to_hounsfield(np.array([[np.nan]], dtype=np.float32), Rescale(1.0, 0.0))


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_rescale_that_says_nothing_is_refused(slope, intercept):
    with pytest.raises(AssemblyError, match="RescaleSlope"):
        Rescale(slope, intercept)
