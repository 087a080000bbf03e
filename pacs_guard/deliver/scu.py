"""One association to one destination, as a Storage SCU that sends spooled bytes as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import UID

from pacs_guard.deliver.channel import open_channel
from pacs_guard.deliver.command import StoreRequest
from pacs_guard.deliver.contexts import choose
from pacs_guard.deliver.transcode import transcode
from pacs_guard.errors import PermanentDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pacs_guard.config import DestinationSettings, Transport
    from pacs_guard.deliver.contexts import ProposedContext
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.spool.store import StoredFiles


@dataclass(frozen=True, slots=True)
class Stored:
    """A destination's answer to one instance.

    Attributes
    ----------
    status : int
        Of the C-STORE response.
    comment : str
        Its Error Comment, empty where there is none.
    transcoded_to : str or None
        Transfer syntax that it was sent in, if that is not its own.
    """

    status: int
    comment: str = ""
    transcoded_to: str | None = None


class StoreAssociation:
    """An established association; used by one thread.

    Parameters
    ----------
    transport : str
        ``fast`` or ``stock``.
    destination : DestinationSettings
    calling_ae : str
        The node's AE title.
    contexts : sequence of ProposedContext
        What to propose, at most 128.
    spool : StoredFiles
        Where the instances lie.
    alive : callable
        Called every now and then while an instance is under way; what it raises ends the association.

    Raises
    ------
    TransientDeliveryError
        If the destination is out of reach or rejects the association. A rejection called permanent is not the
        instances' fault and ends when somebody registers the node there, so that it is retried too.
    PermanentDeliveryError
        If it accepts none of the presentation contexts.
    """

    def __init__(
        self,
        transport: Transport,
        destination: DestinationSettings,
        calling_ae: str,
        contexts: Sequence[ProposedContext],
        spool: StoredFiles,
        alive: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._spool = spool
        self._message_id = 0
        self._choices: dict[tuple[str, str], tuple[int, str] | None] = {}
        self._channel = open_channel(
            transport,
            destination,
            calling_ae,
            [(context.sop_class_uid, context.transfer_syntaxes) for context in contexts],
            spool,
            alive,
        )

    @property
    def is_open(self) -> bool:
        """Whether another instance can be sent."""
        return self._channel.is_open

    def close(self) -> None:
        """Release the association; nothing happens if it is closed already."""
        self._channel.close()

    def store(self, instance: StoredInstance, following: StoredInstance | None = None) -> Stored:
        """Send one instance and wait for the answer.

        Parameters
        ----------
        instance : StoredInstance
        following : StoredInstance, optional
            The one that comes after it.

        Raises
        ------
        SpoolCorruptError
            If its bytes are not those that were received.
        PermanentDeliveryError
            If no accepted presentation context can carry it.
        TransientDeliveryError
            If there was no answer; the association is closed then.
        """
        choice = self._choice(instance)
        if choice is None:
            raise PermanentDeliveryError(self._refused(instance))
        context_id, syntax = choice
        self._message_id = self._message_id % 0xFFFF + 1
        request = StoreRequest(context_id, self._message_id, instance.sop_class_uid, instance.key.sop_uid)
        if syntax == instance.transfer_syntax_uid:
            answer = self._channel.exchange(request, instance, self._if_as_it_is(following))
            return Stored(answer.status, answer.comment)
        self._spool.verify(instance)
        answer = self._channel.exchange(request, transcode(self._spool, instance, syntax))
        return Stored(answer.status, answer.comment, syntax)

    def _choice(self, instance: StoredInstance) -> tuple[int, str] | None:
        kind = instance.sop_class_uid, instance.transfer_syntax_uid
        if kind not in self._choices:
            self._choices[kind] = choose(instance, self._channel.accepted, transcode=self._destination.transcode)
        return self._choices[kind]

    def _if_as_it_is(self, following: StoredInstance | None) -> StoredInstance | None:
        """Return an instance if its bytes will be sent unchanged."""
        choice = self._choice(following) if following is not None else None
        return following if following and choice and choice[1] == following.transfer_syntax_uid else None

    def _refused(self, instance: StoredInstance) -> str:
        text = (
            f"{self._destination.name} accepts no presentation context for {UID(instance.sop_class_uid).name} "
            f"in {UID(instance.transfer_syntax_uid).name}"
        )
        if not self._destination.transcode:
            return f"{text}, and transcoding is switched off"
        if any(sop_class == instance.sop_class_uid for _, sop_class, _ in self._channel.accepted):
            return f"{text}, and that syntax is never transcoded because it may be lossy"
        return text
