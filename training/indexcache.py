"""What was read of a folder, kept until one of its files changes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from training.index import Index, IndexRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FORMAT = 1


class IndexCache:
    """Remembers the rows of folders.

    Parameters
    ----------
    folder : Path or None
        Where; nothing is remembered without it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, of: Path, asked: str, reader: Callable[[], Index]) -> Index:
        """Return what `reader` makes of a folder, from memory if it was asked the same and no file has changed.

        A file counts as changed if its path, size or time of modification (in nanoseconds) is another one.

        Parameters
        ----------
        of : Path
            The folder, with everything under it.
        asked : str
            What else decides the answer.
        reader : callable
        """
        if self._folder is None:
            return reader()
        path = self._folder / "index" / f"{_hash(str(of.resolve()))[:24]}.json"
        key = _hash(repr((_FORMAT, asked, _listing(of))))
        known = _read(path, key)
        if known is not None:
            return known
        found = reader()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(
            json.dumps({"key": key, "problems": found.problems, "rows": [asdict(row) for row in found.rows]}),
            encoding="utf-8",
        )
        partial.replace(path)
        return found


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118  # a hundred thousand files: plain strings are quicker
            status = os.stat(path)  # noqa: PTH116  # as above
            found.append((path, status.st_size, status.st_mtime_ns))
    return sorted(found)


def _read(path: Path, key: str) -> Index | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # not there, or cut off: it is read again
    if kept.get("key") != key:
        return None
    return Index(tuple(IndexRow(**row) for row in kept["rows"]), tuple(kept["problems"]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
