"""The node's test of itself: what it is called, and where its studies go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SELF_TEST = "self-test"
"""Name of the source that the node's own test studies come from, and of the destination that they go to."""
DESTINATION_AE_TITLE = "SELFTEST-PACS"


def is_self_test(sources: Collection[str]) -> bool:
    """Whether a study came from the node's own test and from nowhere else."""
    return set(sources) == {SELF_TEST}


def routed(sources: Collection[str], destinations: Sequence[str]) -> list[str]:
    """Return those of `destinations` that a study goes to: test studies to the test's own, all others to all others.

    Examples
    --------
    >>> routed(["ct-1"], ["pacs", "self-test"])
    ['pacs']
    """
    return [one for one in destinations if (one == SELF_TEST) == is_self_test(sources)]
