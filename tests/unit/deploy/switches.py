"""Settings that a deployment has ready as comments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def with_tls(settings: Path, folder: Path) -> Path:
    """Write a copy of settings in which the comment marks before DICOM over TLS are removed."""
    before, head, after = settings.read_text().partition("# [tls]\n")
    assert head, f"{settings} has no [tls] in comments"
    lines = after.splitlines()
    count = next(number for number, line in enumerate(lines) if not line.startswith("# "))
    switched = ["[tls]", *(line.removeprefix("# ") for line in lines[:count]), *lines[count:]]
    copy = folder / settings.name
    copy.write_text(before + "\n".join(switched) + "\n")
    return copy
