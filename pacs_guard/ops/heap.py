"""How a process with many threads keeps its memory small."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_one_heap() -> bool:
    """Have all threads of this process allocate from one heap, and return whether the C library takes that on.

    Without it glibc gives each thread a heap of its own, and each keeps the room of the largest piece of work that its
    thread ever did: periodic work that takes turns on ten threads ends up holding ten times what it needs. Meant for
    processes that spend their time waiting; threads that allocate at the same time wait for one another.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (OSError, AttributeError):  # not glibc
        return False


def give_back_memory() -> None:
    """Give pages of the heap in which nothing is any more back to the system; a millisecond or two every so often.

    By itself glibc gives back the heap's end only, and a single object that stays there keeps everything below it.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return
