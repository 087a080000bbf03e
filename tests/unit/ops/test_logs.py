from __future__ import annotations

import json
import logging

import pytest
import structlog

from pacs_guard.ops.logs import configure_logging


@pytest.fixture(autouse=True)
def _restored():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_json_lines_carry_role_and_fields(capsys):
    configure_logging(form="json", level="info", role="receive")
    structlog.get_logger("x").info("instance stored", study=7)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["role"], line["study"], line["level"]) == ("instance stored", "receive", 7, "info")


def test_a_peer_cannot_forge_a_line_or_a_terminal_command(capsys):
    configure_logging(form="console", level="info")
    structlog.get_logger("x").warning("refused", calling_ae="CT1\x1b[2J\rroot login ok")
    shown = capsys.readouterr().err
    assert "\x1b[2J" not in shown
    assert "\r" not in shown


HOSTILE = "CT1\x1b[2J\r\n2026-11-25 [info] root login ok\x07\x9b\u2028"


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "say",
    [
        lambda log: log.warning("refused", reason=HOSTILE),
        lambda log: log.warning("refused", reasons=[HOSTILE, {"why": HOSTILE}]),
        lambda log: log.warning(HOSTILE),
        lambda _log: logging.getLogger("library").warning(HOSTILE),
    ],
    ids=["value", "inner value", "event", "library"],
)
def test_nothing_a_peer_says_leaves_its_place_in_a_line(capsys, form, say):
    configure_logging(form=form, level="info")
    say(structlog.get_logger("x"))
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u2028"} & set(shown)


@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_in_an_exceptions_text_commands_a_terminal(capsys, form):
    configure_logging(form=form, level="info")
    for log in (structlog.get_logger("x"), logging.getLogger("library")):
        try:
            int(HOSTILE)
        except ValueError:
            log.exception("failed")
    shown = capsys.readouterr().err
    assert "root login ok" in shown
    assert not {"\x1b", "\r", "\x07", "\x9b", "\u2028"} & set(shown)


def test_libraries_that_would_log_what_they_receive_are_quiet(capsys):
    configure_logging(form="json", level="debug")
    logging.getLogger("pynetdicom.acse").info("Patient DOE^JOHN")
    logging.getLogger("pydicom").warning("Patient DOE^JOHN")
    assert "DOE" not in capsys.readouterr().err


def test_debug_is_off_unless_asked_for(capsys):
    configure_logging(form="json", level="info")
    structlog.get_logger("x").debug("detail")
    assert capsys.readouterr().err == ""
