"""Structured logs: JSON for machines, coloured lines for people, and no patient's name in either."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from pacs_guard.domain.text import printable

_LONGEST_VALUE = 16384
_QUIET_LIBRARIES = (
    "highdicom",
    "pynetdicom",
    "pydicom",
    "apscheduler",
    "httpx",
    "httpcore",
    "alembic",
    "absl",
    "tensorflow",
)


def configure_logging(*, form: str, level: str, role: str | None = None) -> None:
    """Set up logging for this process, libraries included.

    Parameters
    ----------
    form : str
        ``json`` or ``console``.
    level : str
        ``debug``, ``info``, ``warning`` or ``error``.
    role : str, optional
        Added to every line.
    """
    threshold = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [structlog.processors.format_exc_info, _printable]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, *last],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in _QUIET_LIBRARIES:
        # what these libraries say of a message may hold its contents
        logging.getLogger(name).setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            *last,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    if role is not None:
        structlog.contextvars.bind_contextvars(role=role)


def set_level(level: str) -> None:
    """Log from `level` on; the libraries stay quiet."""
    logging.getLogger().setLevel(level.upper())


def _printable(_logger: object, _method: str, event: Any) -> Any:
    """Replace control characters, so that no peer can forge a line or a terminal's commands."""
    for key, value in event.items():
        if not key.startswith("_"):  # what the library keeps for itself
            # both forms show a value's new lines as \n, but not those of the event itself
            event[key] = _clean(value, keep="" if key == "event" else "\n")
    return event


def _clean(value: Any, *, keep: str) -> Any:
    if isinstance(value, str):
        return printable(value, keep=keep, longest=_LONGEST_VALUE)
    if isinstance(value, dict):
        return {_clean(key, keep=keep): _clean(one, keep=keep) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(one, keep=keep) for one in value]
    return value
