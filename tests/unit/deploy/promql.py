"""Just enough of PromQL to see which series an expression asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"\b([a-z_][a-z0-9_]*)\s*(?:\{([^}]*)\})?")
_LABELS = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
_WORDS = {
    *(
        "sum",
        "max",
        "min",
        "avg",
        "count",
        "rate",
        "delta",
        "increase",
        "histogram_quantile",
        "label_values",
        "offset",
        "time",
    ),
    *("and", "or", "unless", "bool", "absent", "s", "m", "h", "d", "by", "on", "ignoring", "without", "le"),
}


def unknown(expression: str, exported: Mapping[str, set[str]]) -> list[str]:
    """Return every metric, and every label of one, that nothing exports."""
    bare = _STRING.sub("", expression)
    grouped = {label.strip() for found in _LABELS.findall(bare) for label in found.split(",")} - {""}
    bare = re.sub(r"\[[^]]*\]", "", _LABELS.sub("", bare))
    problems = []
    known: set[str] = set()
    for name, matchers in _SELECTOR.findall(bare):
        if name in _WORDS or name.startswith("_"):
            continue
        if name not in exported:
            problems.append(f"{name} is not exported")
            continue
        known |= exported[name]
        used = {matcher.strip(" =!~") for matcher in matchers.split(",")} - {""}
        problems += [f"{name} has no label {label}" for label in sorted(used - exported[name])]
    return problems + [f"nothing has the label {label}" for label in sorted(grouped - known)]
