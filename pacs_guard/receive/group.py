"""Work of several threads done together: whoever comes first does it for all who came meanwhile."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pacs_guard.receive.company import Company

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Ticket(Generic[Item, Result]):
    """One item on its way; its thread sleeps until that is done, or it is its turn to prepare or commit for all."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | Exception | None = None
        self.is_prepared = False
        self.is_done = False
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()


class Group(Generic[Item, Result]):
    """Commits items in groups, in two steps.

    On a quick disk nobody waits for others to come: a group is what gathered while the one before was prepared and
    committed, so that a single thread is as fast as it would be alone. Where preparing takes long, one group is
    prepared while another is committed, and before that those are waited for, a short time, who were here lately and
    are about to come again.

    Parameters
    ----------
    commit : callable
        Takes a sequence of items, and returns a result or an exception for each of them. Called by one thread at a
        time.
    prepare : callable, optional
        Takes a sequence of items before that, and returns None or an exception for each of them; those with an
        exception are not committed. Called by one thread at a time.
    largest : int
        How many items are prepared or committed together at most.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        prepare: Callable[[Sequence[Item]], Sequence[Exception | None]] | None = None,
        *,
        largest: int = 64,
    ) -> None:
        self._commit = commit
        self._prepare = prepare
        self._largest = largest
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._prepared: deque[_Ticket[Item, Result]] = deque()
        self._is_preparing = False
        self._is_committing = False
        self._lock = threading.Lock()
        self._company = Company()

    def submit(self, item: Item) -> Result:
        """Commit an item, together with those of other threads, and return its result.

        Raises
        ------
        Exception
            What `prepare` or `commit` gave for this item.
        """
        ticket: _Ticket[Item, Result] = _Ticket(item)
        with self._lock:
            self._company.comes()
            self._waiting.append(ticket)
            is_its_turn = not self._is_preparing
            self._is_preparing = True
        if not is_its_turn:
            ticket.wait()
        if not ticket.is_prepared and not ticket.is_done:
            self._prepare_waiting(ticket)
            if not ticket.is_done:
                ticket.wait()
        while not ticket.is_done:
            self._commit_prepared(ticket)
            if not ticket.is_done:  # the group was too large
                ticket.wait()
        with self._lock:
            self._company.leaves()
        if isinstance(ticket.result, Exception):
            raise ticket.result
        return ticket.result  # type: ignore[return-value]  # it is done, so there is one

    def _prepare_waiting(self, own: _Ticket[Item, Result]) -> None:
        """Prepare what is waiting, have somebody do the same with what came meanwhile, and commit if nobody does."""
        overlaps = self._company.is_worth_waiting_for
        if overlaps:
            self._company.gather(self._lock)
        ready = self._prepared_of(self._first_of(self._waiting), own)
        with self._lock:
            for ticket in ready:
                ticket.is_prepared = True
            self._prepared += ready
            is_its_turn = bool(ready) and not self._is_committing
            self._is_committing = self._is_committing or is_its_turn
        if overlaps:
            self._hand_over_preparing()
        if is_its_turn:
            self._commit_prepared(own)
        if not overlaps:
            self._hand_over_preparing()

    def _hand_over_preparing(self) -> None:
        with self._lock:
            self._is_preparing = bool(self._waiting)
            if self._waiting:
                self._waiting[0].wake()

    def _prepared_of(
        self, group: Sequence[_Ticket[Item, Result]], own: _Ticket[Item, Result]
    ) -> Sequence[_Ticket[Item, Result]]:
        """Return those of a group that are ready to be committed; the others are done."""
        if self._prepare is None:
            return group
        started = time.monotonic()
        failures = _for_each(self._prepare, group)
        self._company.preparing_took(time.monotonic() - started)
        for ticket, failure in zip(group, failures, strict=True):
            if failure is not None:
                _finish(ticket, failure, own)
        return [ticket for ticket in group if not ticket.is_done]

    def _commit_prepared(self, own: _Ticket[Item, Result]) -> None:
        """Commit what is prepared, and wake the first of those that were prepared meanwhile to do the same."""
        group = self._first_of(self._prepared)
        for ticket, result in zip(group, _for_each(self._commit, group), strict=True):
            _finish(ticket, result, own)
        with self._lock:
            self._is_committing = bool(self._prepared)
            if self._prepared:
                self._prepared[0].wake()

    def _first_of(self, queue: deque[_Ticket[Item, Result]]) -> list[_Ticket[Item, Result]]:
        with self._lock:
            return [queue.popleft() for _ in range(min(self._largest, len(queue)))]


def _for_each(
    step: Callable[[Sequence[Item]], Sequence[Result | Exception]], group: Sequence[_Ticket[Item, Any]]
) -> Sequence[Result | Exception]:
    """Return what a step gives for each ticket; if it raises, that is told to all."""
    try:
        results = step([ticket.item for ticket in group])
        if len(results) != len(group):
            raise ValueError(f"{len(results)} results for a group of {len(group)}")  # noqa: TRY301  # told to all
    except Exception as error:  # noqa: BLE001  # every thread learns of it
        return [error] * len(group)
    return results


def _finish(ticket: _Ticket[Any, Result], result: Result | Exception, own: _Ticket[Any, Result]) -> None:
    ticket.result = result
    ticket.is_done = True
    if ticket is not own:
        ticket.wake()
