"""How a process that measures slice after slice spares itself asking for memory each time."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20
_KEPT = 128 << 20


def keep_freed_memory() -> bool:
    """Have the C library keep up to 128 MiB for each thread that were freed, and return whether it takes that on.

    A slice's measurements come and go in pieces of a few MiB. By default glibc gives these back to the system and asks
    for them again at the next slice, which has to clear every page: a fifth of all the time. Volumes are larger, and
    are given back as before.
    """
    try:
        library = ctypes.CDLL(None)
        return bool(library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and library.mallopt(_M_TRIM_THRESHOLD, _KEPT))
    except (OSError, AttributeError):  # not glibc
        return False
