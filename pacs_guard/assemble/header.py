"""Values of a data set as plain numbers and texts, or None where they are absent or malformed."""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

from pacs_guard.domain.text import printable

if TYPE_CHECKING:
    from pydicom import Dataset


def text(ds: Dataset, keyword: str) -> str:
    """Return the value of `keyword` as printable text, empty where absent."""
    value = _value(ds, keyword)
    return "" if value is None else printable(str(value).strip("\0 "))


def words(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a multi-valued `keyword` that are text, upper case."""
    value = _value(ds, keyword)
    values = value if isinstance(value, MutableSequence) else [value]
    return tuple(one.strip().upper() for one in values if isinstance(one, str))


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return exactly `count` finite numbers of `keyword`, or None."""
    try:
        value = _value(ds, keyword)
        values = [float(v) for v in ([value] if isinstance(value, (str, int, float)) else value or ())]
    except (TypeError, ValueError, OverflowError):
        return None
    return tuple(values) if len(values) == count and all(map(math.isfinite, values)) else None


def number(ds: Dataset, keyword: str) -> float | None:
    """Return the one finite number of `keyword`, or None."""
    found = numbers(ds, keyword, 1)
    return found[0] if found else None


def _value(ds: Dataset, keyword: str) -> Any:
    try:
        return ds.get(keyword)
    except Exception:  # noqa: BLE001  # pydicom lets nearly any exception out of malformed bytes; they count as absent
        return None
