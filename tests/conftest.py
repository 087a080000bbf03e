"""What many tests share: a clock they move, a spool, and a database of each supported kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pacs_guard.spool.store import Spool

if TYPE_CHECKING:
    from pathlib import Path


class MovingClock:
    """Seconds since the epoch that stand still until a test moves them."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> float:
        self.now += seconds
        return self.now


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")
