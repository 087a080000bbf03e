"""What a sender needs of its queue; studies and results have one each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pacs_guard.domain.lifecycle import ResultState, StudyState
    from pacs_guard.queue.rows import ClaimedDelivery, DeliveredItem


class SendQueue(Protocol):
    """Claims and progress of deliveries; see `pacs_guard.queue.forwarding.Forwarding`."""

    def is_due(self, destination: str) -> bool:
        """Whether something waits for `destination`."""

    def claim(self, destination: str, owner: str, seconds: float) -> ClaimedDelivery | None:
        """Lease the next delivery, or return None."""

    def release_leases(self, owner_prefix: str) -> None:
        """Give back what an earlier life had leased."""

    def renew(self, delivery: ClaimedDelivery, seconds: float) -> None:
        """Extend the lease."""

    def items_delivered(self, delivery: ClaimedDelivery, items: Sequence[DeliveredItem], *, seconds: float) -> None:
        """Write down what the destination has, and extend the lease."""

    def item_failed(
        self,
        delivery: ClaimedDelivery,
        instance_id: int,
        *,
        status: int | None,
        error: str,
        permanent: bool,
        seconds: float,
    ) -> None:
        """Write down what the destination did not take, and extend the lease."""

    def finish(
        self, delivery: ClaimedDelivery, *, error: str | None, retry_in: float | None
    ) -> StudyState | ResultState:
        """End an attempt."""

    def postpone(self, delivery: ClaimedDelivery) -> None:
        """Give the lease back without an attempt."""
