"""The operating system's errors in this package's words."""

from __future__ import annotations

import errno

from pacs_guard.errors import SpoolError, SpoolFullError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def translated(error: OSError, doing: str) -> SpoolError:
    """Return the error to raise `from` this one; a disk without room is told from every other fault."""
    kind = SpoolFullError if error.errno in _FULL else SpoolError
    return kind(f"{doing}: {error.strerror or error}")
