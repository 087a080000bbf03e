from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.assemble.geometry import checked_orientation, depths, stack_all, stack_runs
from pacs_guard.errors import AssemblyError

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def along_z(*z):
    return np.array([(0.0, 0.0, value) for value in z])


def test_slices_are_ordered_by_position_not_as_given():
    stack = stack_all(along_z(5, 0, 2.5), AXIAL, pixel_mm=0.7)
    assert stack.order == (1, 2, 0)
    assert stack.step_mm == pytest.approx(2.5)


def test_a_gap_is_refused_and_named():
    with pytest.raises(AssemblyError, match=r"gap of 5\.00 mm between slices 3 and 4, expected 2\.50 mm"):
        stack_all(along_z(0, 2.5, 5, 10, 12.5, 15), AXIAL, pixel_mm=0.7)


def test_two_slices_at_one_position_are_refused():
    with pytest.raises(AssemblyError, match=r"1 of 4 slices lie where another lies, first at 2\.50 mm"):
        stack_all(along_z(0, 2.5, 2.5, 5), AXIAL, pixel_mm=0.7)


def test_positions_rounded_by_the_scanner_are_uniform():
    assert stack_all(along_z(0, 0.63, 1.25, 1.88, 2.5), AXIAL, pixel_mm=0.7).step_mm == pytest.approx(0.625)


def test_a_slice_shifted_sideways_is_refused():
    positions = along_z(0, 1, 2, 3, 4)
    positions[2, 0] = 3.0
    with pytest.raises(AssemblyError, match=r"slice 3 is shifted sideways by 3\.00 mm"):
        stack_all(positions, AXIAL, pixel_mm=0.7)


def test_a_tilted_gantry_is_one_stack():
    positions = np.array([(0.0, 0.3 * i, 2.0 * i) for i in range(6)])
    assert stack_all(positions, AXIAL, pixel_mm=0.7).step_mm == pytest.approx(2.0)


def test_depth_runs_along_the_normal():
    assert depths(np.array([[7.0, 3.0, 1.0]]), CORONAL).tolist() == pytest.approx([3.0])


@pytest.mark.parametrize("cosines", [(1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (1, 0, 0), (0, 0, 0, 0, 0, 0)])
def test_cosines_that_span_no_plane_are_refused(cosines):
    with pytest.raises(AssemblyError, match="ImageOrientationPatient"):
        checked_orientation(cosines)


def runs(z, thickness=2.5):
    stacks = stack_runs(along_z(*z), AXIAL, pixel_mm=0.7, thickness_mm=thickness)
    return [[z[i] for i in stack.order] for stack in stacks]


def test_a_series_with_gaps_splits_into_runs():
    assert runs([0, 2.5, 5, 20, 22.5, 25]) == [[0, 2.5, 5], [20, 22.5, 25]]


def test_slices_far_apart_are_single():
    assert runs([0, 17.5], thickness=0.625) == [[0], [17.5]]


def test_two_neighbours_by_their_thickness_stay_together():
    assert runs([0, 2.5, 80]) == [[0, 2.5], [80]]


def test_a_regular_series_of_spaced_slices_stays_whole():
    assert runs([0, 10, 20, 30], thickness=1.0) == [[0, 10, 20, 30]]


def test_a_second_phase_at_the_same_positions_is_a_run_of_its_own():
    assert runs([0, 0, 2.5, 2.5, 5, 5, 7.5, 7.5]) == [[0, 2.5, 5, 7.5], [0, 2.5, 5, 7.5]]


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=40), st.sampled_from([None, 0.6, 2.5]))
def test_every_slice_is_in_exactly_one_run(z, thickness):
    stacks = stack_runs(along_z(*z), AXIAL, pixel_mm=0.7, thickness_mm=thickness)
    assert sorted(i for stack in stacks for i in stack.order) == list(range(len(z)))
    assert all((stack.step_mm is None) == (len(stack.order) == 1) for stack in stacks)
