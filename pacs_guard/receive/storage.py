"""From a whole data set to an answer: checked, durable, written down, and only then acknowledged (PS3.4 B.2.3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pacs_guard.errors import (
    CommitUnknownError,
    DataSetError,
    QueueError,
    QueueUnavailableError,
    SpoolError,
    SpoolFullError,
)
from pacs_guard.queue.rows import Outcome
from pacs_guard.receive.group import Group
from pacs_guard.receive.origin import Origin
from pacs_guard.receive.reception import Reception, StoreRequest
from pacs_guard.receive.structure import DOES_NOT_MATCH, NOT_UNDERSTOOD, Identity, identify
from pacs_guard.spool.records import LONGEST_ORIGIN
from pacs_guard.spool.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.intake import Intake
    from pacs_guard.queue.recording import Arrival
    from pacs_guard.receive.metrics import ReceiveMetrics
    from pacs_guard.spool.folders import Folder
    from pacs_guard.spool.store import Incoming, Spool

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700

_LONGEST_COMMENT = 64
_LOGGER = logging.getLogger("pacs_guard.receive")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a C-STORE request is answered with.

    Attributes
    ----------
    status : int
    comment : str
        Error Comment (0000,0902), at most 64 characters; empty for success.
    """

    status: int
    comment: str = ""


class _Kept(NamedTuple):
    """An arrival whose content is written; in a segment it is durable only once that is synced.

    Attributes
    ----------
    arrival : Arrival
    segment : Segment or None
        Where it lies, unless in a file of its own.
    is_recorded : bool
        Whether its record says all that its row does, so that the row can be written again.
    """

    arrival: Arrival
    segment: Segment | None = None
    is_recorded: bool = False


class Storage:
    """Takes data sets in, one at a time for each association.

    Parameters
    ----------
    spool : Spool
    intake : Intake
    metrics : ReceiveMetrics
    log : structlog logger
    min_free_bytes : int
        With less room than this in the spool nothing is taken.
    max_refused_bytes : int
        How much of what was refused is kept aside.
    """

    def __init__(
        self,
        spool: Spool,
        intake: Intake,
        metrics: ReceiveMetrics,
        log: Any,
        *,
        min_free_bytes: int,
        max_refused_bytes: int,
    ) -> None:
        self._spool = spool
        self._intake = intake
        self._metrics = metrics
        self._log = log
        self._min_free = min_free_bytes
        self._max_refused = max_refused_bytes
        self._group: Group[_Kept, Outcome] = Group(self._write_down, self._sync)

    def limit(self, *, min_free_bytes: int, max_refused_bytes: int) -> None:
        """Use other limits for every later data set."""
        self._min_free = min_free_bytes
        self._max_refused = max_refused_bytes

    def begin(self, request: StoreRequest) -> Reception:
        """Return what the fragments of a request's data set are to be written to."""
        return Reception(self._spool, request, self._min_free)

    def finish(self, reception: Reception) -> Answer:
        """Store a data set that is complete, and say what to answer. Never raises."""
        try:
            return self._store(reception)
        except DataSetError as error:
            return self.refuse(reception, error.status, str(error))
        except SpoolFullError as error:
            return self.refuse(reception, OUT_OF_RESOURCES, str(error), keep=False)
        except QueueUnavailableError as error:
            # to write the refusal down too would only let the sender wait once more
            reception.drop()
            return self._refused(reception, OUT_OF_RESOURCES, str(error), None)
        except Exception as error:  # noqa: BLE001  # the sender gets an answer whatever happens
            self._log_of(reception).exception("instance not stored")
            return self.refuse(reception, PROCESSING_FAILURE, f"{type(error).__name__}: {error}")

    def refuse(self, reception: Reception, status: int, reason: str, *, keep: bool = True) -> Answer:
        """Write down that an object is answered with a failure. Never raises.

        Parameters
        ----------
        reception : Reception
        status : int
        reason : str
            One sentence, without anything that identifies a patient.
        keep : bool
            Whether what was received is kept aside.
        """
        request = reception.request
        path = self._set_aside(reception) if keep else None
        reception.drop()
        try:
            self._intake.record_refusal(
                source=request.sender.source,
                calling_ae=request.sender.calling_ae,
                sop_uid=request.sop_uid,
                status=status,
                reason=reason,
                path=path,
                length=reception.length,
                association_id=request.sender.association_id,
            )
        except QueueError as error:
            self._log_of(reception).warning("refusal not written down", reason=str(error))
        return self._refused(reception, status, reason, path)

    def _refused(self, reception: Reception, status: int, reason: str, path: str | None) -> Answer:
        self._log_of(reception).warning(
            "instance refused", status=f"{status:04X}", reason=reason, kept=path, length=reception.length
        )
        self._count(reception, Outcome.REFUSED, status)
        return Answer(status, _comment(reason))

    def _store(self, reception: Reception) -> Answer:
        if reception.error is not None:
            raise reception.error
        if reception.file is None:
            raise DataSetError("the data set is empty", status=NOT_UNDERSTOOD)
        identity = identify(reception.file.reader(), reception.length, reception.request.transfer_syntax_uid)
        _check_command(reception.request, identity)
        instance, outcome = self._keep(reception, reception.file, identity)
        if outcome is Outcome.CONFLICT:
            log = self._log_of(reception).bind(study=identity.study_uid)
            log.warning("instance stored; another one has its SOP Instance UID and other content")
        if _LOGGER.isEnabledFor(logging.DEBUG):  # asked first: to put together what nobody wants takes too long here
            self._log.debug(
                "instance received",
                association=reception.request.sender.association_id,
                source=instance.source,
                instance=identity.sop_uid,
                study=identity.study_uid,
                outcome=str(outcome),
                length=reception.length,
            )
        self._count(reception, outcome, SUCCESS)
        return Answer(SUCCESS)

    def _keep(self, reception: Reception, file: Incoming, identity: Identity) -> tuple[StoredInstance, Outcome]:
        """Make the content durable, then its row; content that no row will know is removed."""
        origin = _origin(reception.request, identity)
        encoded = origin.encoded()
        placed = file.place(self._spool.path_for(identity.study_uid), encoded)
        reception.file = None
        arrival = origin.arrival(placed.path, offset=file.offset, length=file.length, sha256=file.sha256)
        instance = arrival.instance
        try:
            outcome = self._settle(arrival, placed.holder, is_recorded=len(encoded) <= LONGEST_ORIGIN)
            if outcome is Outcome.DUPLICATE:
                self._remove(instance.path)
        except CommitUnknownError:  # a row may know it; reconciliation finds out
            raise
        except (QueueUnavailableError, SpoolError):
            self._remove(instance.path)
            raise
        finally:
            placed.holder.settle()
        return instance, outcome

    def _settle(self, arrival: Arrival, holder: Folder | Segment, *, is_recorded: bool) -> Outcome:
        if isinstance(holder, Segment):
            return self._group.submit(_Kept(arrival, holder, is_recorded))
        self._spool.sync(holder)  # here, so that the folders of several studies are synced side by side
        return self._group.submit(_Kept(arrival))

    def _sync(self, kept: Sequence[_Kept]) -> list[Exception | None]:
        """Make the content of a group durable, each segment with one sync."""
        failures: dict[Segment | None, SpoolError] = {}
        for segment in {one.segment for one in kept if one.segment is not None}:
            try:
                self._spool.sync(segment)
            except SpoolError as error:
                failures[segment] = error
        return [failures.get(one.segment) for one in kept]

    def _write_down(self, kept: Sequence[_Kept]) -> list[Outcome | Exception]:
        """Write rows: all together, or each alone if one of them fails.

        Where all can be written again, they need not be synced (`pacs_guard.receive.recovery`).
        """
        durable = not all(one.is_recorded for one in kept)
        try:
            return list(self._intake.record_all([one.arrival for one in kept], durable=durable))
        except QueueUnavailableError as error:  # to wait for it once more for each would only add up
            return [error] * len(kept)
        except Exception as error:  # noqa: BLE001  # the one that fails must not fail its neighbours
            if len(kept) == 1:
                return [error]
            return [outcome for one in kept for outcome in self._write_down([one])]

    def _remove(self, path: str) -> None:
        try:
            self._spool.remove(path)
        except SpoolError as error:  # reconciliation finds it
            self._log.warning("file left behind", path=path, reason=str(error))

    def _set_aside(self, reception: Reception) -> str | None:
        if reception.file is None:
            return None
        try:
            path = reception.file.set_aside()
            reception.file = None
            self._spool.limit_refused(self._max_refused)
        except (SpoolError, OSError) as error:
            self._log_of(reception).warning("refused object not kept", reason=str(error))
            return None
        return path

    def _count(self, reception: Reception, outcome: Outcome, status: int) -> None:
        source = reception.request.sender.source
        self._metrics.instance(source, str(outcome), status, reception.length, reception.seconds)

    def _log_of(self, reception: Reception) -> Any:
        request = reception.request
        return self._log.bind(
            association=request.sender.association_id, source=request.sender.source, instance=request.sop_uid
        )


def _check_command(request: StoreRequest, identity: Identity) -> None:
    for name, in_data_set, in_command in (
        ("SOPClassUID", identity.sop_class_uid, request.sop_class_uid),
        ("SOPInstanceUID", identity.sop_uid, request.sop_uid),
    ):
        if in_data_set != in_command:
            raise DataSetError(
                f"{name} differs from the command's: {in_data_set}, expected {in_command}", status=DOES_NOT_MATCH
            )


def _origin(request: StoreRequest, identity: Identity) -> Origin:
    sender = request.sender
    return Origin(
        study_uid=identity.study_uid,
        series_uid=identity.series_uid,
        sop_uid=identity.sop_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=request.transfer_syntax_uid,
        source=sender.source,
        calling_ae=sender.calling_ae,
        association_id=sender.association_id,
    )


def _comment(reason: str) -> str:
    """Return text that fits an LO of the default character repertoire."""
    text = "".join(character if " " <= character <= "~" and character != "\\" else "?" for character in reason)
    return text[:_LONGEST_COMMENT].strip()
