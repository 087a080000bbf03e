from __future__ import annotations

from rich.table import Table

from pacs_guard.cli import output

HOSTILE = "1.2[/b]\x1b[2J\x9b31m[link=file:///etc/passwd]\r"


def test_what_peers_wrote_neither_commands_the_terminal_nor_is_markup(capsys):
    table = Table("study", "reason")
    table.add_row(HOSTILE, HOSTILE)
    output.console().print(table)
    output.console().print(f"reason: {HOSTILE}")
    shown = capsys.readouterr().out
    assert shown.count("[/b]") == shown.count("[link=file:///etc/passwd]") == 3
    assert not {"\x1b", "\x9b", "\r"} & set(shown)
