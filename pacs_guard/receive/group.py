"""Work of several threads done together: whoever comes first does it for all who came meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Ticket(Generic[Item, Result]):
    """One item on its way through a group; its thread sleeps until it is done, or has to lead."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | Exception | None = None
        self.is_done = False
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()


class Group(Generic[Item, Result]):
    """Commits items in groups.

    Nobody waits for others to come: a group is what gathered while the one before it was committed, so that a single
    thread is as fast as it would be alone, and nobody waits longer than for two commits.

    Parameters
    ----------
    commit : callable
        Takes a sequence of items, and returns a result or an exception for each of them. Called by one thread at a
        time.
    largest : int
        How many items are committed together at most.
    """

    def __init__(self, commit: Callable[[Sequence[Item]], Sequence[Result | Exception]], *, largest: int = 64) -> None:
        self._commit = commit
        self._largest = largest
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._has_leader = False
        self._lock = threading.Lock()

    def submit(self, item: Item) -> Result:
        """Commit an item, together with those of other threads, and return its result.

        Raises
        ------
        Exception
            What `commit` gave for this item.
        """
        ticket: _Ticket[Item, Result] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            leads = not self._has_leader
            self._has_leader = True
        if not leads:
            ticket.wait()
        if not ticket.is_done:
            self._lead(ticket)
        if isinstance(ticket.result, Exception):
            raise ticket.result
        return ticket.result  # type: ignore[return-value]  # it is done, so there is one

    def _lead(self, own: _Ticket[Item, Result]) -> None:
        """Commit what is waiting, and hand the lead to the first of those who came meanwhile."""
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
        try:
            results = self._commit([ticket.item for ticket in group])
            if len(results) != len(group):
                raise ValueError(f"{len(results)} results for a group of {len(group)}")  # noqa: TRY301  # told to all
        except Exception as error:  # noqa: BLE001  # every thread learns of it
            results = [error] * len(group)
        for ticket, result in zip(group, results, strict=True):
            ticket.result = result
            ticket.is_done = True
            if ticket is not own:
                ticket.wake()
        with self._lock:
            self._has_leader = bool(self._waiting)
            if self._waiting:
                self._waiting[0].wake()
