from __future__ import annotations

import pytest

from pacs_guard.simulate import make_phantom


@pytest.fixture(scope="session")
def phantom():
    """A chest of 24 coarse slices."""
    return make_phantom(slices=24, size=256, slice_mm=5.0, seed=4)
