"""What a transport of C-STORE has to do, and the choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pacs_guard.deliver.fast import FastChannel
from pacs_guard.deliver.stock import StockChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pacs_guard.config import DestinationSettings, Transport
    from pacs_guard.deliver.command import StoreRequest, StoreResponse
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.spool.store import StoredFiles


class Channel(Protocol):
    """An established association, used by one thread; whatever goes wrong in an exchange ends it."""

    accepted: tuple[tuple[int, str, str], ...]
    """Context ID, SOP class and transfer syntax of each accepted presentation context."""

    @property
    def is_open(self) -> bool:
        """Whether another instance can be sent."""

    def exchange(
        self, request: StoreRequest, data: StoredInstance | bytes, following: StoredInstance | None = None
    ) -> StoreResponse:
        """Send one C-STORE request with its data set and return the response.

        Parameters
        ----------
        request : StoreRequest
        data : StoredInstance or bytes
            An instance, whose spooled bytes are compared with their hash first and sent as they are; or an encoded
            data set.
        following : StoredInstance, optional
            What is likely to be sent next as it is; it may be read while the response is awaited.

        Raises
        ------
        SpoolCorruptError
            If the spooled bytes are not those that were received; nothing whole was sent then.
        TransientDeliveryError
            If there was no answer; the association is closed then.
        """

    def close(self) -> None:
        """Release the association; nothing happens if it is closed already."""


_CHANNELS: dict[Transport, Callable[..., Channel]] = {"fast": FastChannel, "stock": StockChannel}


def open_channel(
    transport: Transport,
    destination: DestinationSettings,
    calling_ae: str,
    contexts: Sequence[tuple[str, Sequence[str]]],
    spool: StoredFiles,
    alive: Callable[[], None],
) -> Channel:
    """Open an association with a destination.

    Parameters
    ----------
    transport : str
        ``fast`` or ``stock``.
    destination : DestinationSettings
    calling_ae : str
        AE title to call with.
    contexts : sequence of (str, sequence of str)
        Abstract syntax and transfer syntaxes of each presentation context.
    spool : StoredFiles
        Where the instances lie.
    alive : callable
        Called every now and then while an instance is under way; what it raises ends the association.

    Raises
    ------
    TransientDeliveryError
        If it is out of reach, silent, or rejects the association.
    PermanentDeliveryError
        If it accepts none of the contexts.
    """
    return _CHANNELS[transport](destination, calling_ae, contexts, spool, alive)
