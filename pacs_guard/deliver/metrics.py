"""What the deliverer tells of its work; implemented where the metrics are exposed."""

from __future__ import annotations

from typing import Literal, Protocol


class DeliverMetrics(Protocol):
    """Counts and durations of deliveries and notifications; called from several threads."""

    def delivered(self, destination: str, seconds: float, length: int, *, transcoded: bool) -> None:
        """Count one instance of `length` bytes that arrived after `seconds`."""

    def failed(self, destination: str, kind: Literal["transient", "permanent"]) -> None:
        """Count one instance, or a whole attempt before its first instance, that failed."""

    def study_delivered(self, destination: str, seconds: float) -> None:
        """Count one attempt that delivered all that was pending of a study, within `seconds`."""

    def notification(self, result: Literal["sent", "failed", "given_up"]) -> None:
        """Count one attempt at a notification."""

    def thread_error(self, thread: str) -> None:
        """Count an error that nobody expected; the thread goes on."""
