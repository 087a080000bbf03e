"""A disk that really is full, until somebody makes room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.benchmarks.loads import loads
from tests.recovery.rounds import CrashTest
from tests.recovery.small_disk import NoMountError, small_disk

DISK = 6 << 20
INSTANCES = 10
"""Of half a mebibyte, in each of two studies."""


def test_what_was_acknowledged_before_the_disk_was_full_is_kept_and_the_rest_comes_later(tmp_path):
    with ExitStack() as stack:
        try:
            resize = stack.enter_context(small_disk(tmp_path / "data", DISK))
        except NoMountError as error:
            pytest.skip(f"no disk can be mounted: {error}")
        crash_test = CrashTest(tmp_path, loads()["ct"], INSTANCES)
        stack.callback(crash_test.close)
        outcome = crash_test.fill_up(lambda: resize(16 * DISK))
        assert outcome.refused
        crash_test.look_at_the_spool()
