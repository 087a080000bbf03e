"""When a study counts as whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompletenessRule:
    """DICOM has no end-of-study message, so a study is whole once it has been quiet, or has waited long enough.

    Attributes
    ----------
    quiet_seconds : float
        Time without a new instance and without an association that is still sending the study.
    longest_wait_seconds : float
        Time after the first instance of this round at which the study counts as whole in any case.
    """

    quiet_seconds: float = 30.0
    longest_wait_seconds: float = 1800.0

    def is_complete(self, *, now: float, opened_at: float, last_instance_at: float, still_sending: bool) -> bool:
        """Whether the study is whole at `now`; all times in seconds of one clock."""
        if now - opened_at >= self.longest_wait_seconds:
            return True
        return not still_sending and now - last_instance_at >= self.quiet_seconds
