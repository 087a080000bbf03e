"""What the receiver counts; whoever starts it says how."""

from __future__ import annotations

from typing import Protocol


class ReceiveMetrics(Protocol):
    """Counters and timings of the receiver. Called from many threads; must not raise."""

    def instance(self, source: str, outcome: str, status: int, length: int, seconds: float) -> None:
        """Count an answered C-STORE request.

        Parameters
        ----------
        source : str
            Name of the configured source.
        outcome : str
            A value of `pacs_guard.queue.rows.Outcome`.
        status : int
            The C-STORE status answered.
        length : int
            Bytes of its data set.
        seconds : float
            From its first fragment to the answer.
        """
        ...

    def association_opened(self, source: str) -> None:
        """Count an accepted association."""
        ...

    def association_closed(self, source: str, seconds: float) -> None:
        """Count the end of an association that was open for `seconds`."""
        ...

    def association_refused(self, reason: str) -> None:
        """Count a rejected association; `reason` is a value of `pacs_guard.receive.admission.Reason`."""
        ...

    def certificate(self, source: str, expires: float) -> None:
        """Note until when the certificate holds that a source has shown, in seconds since the epoch."""
        ...
