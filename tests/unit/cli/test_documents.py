"""What is generated: the conformance statement's tables, and the bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pynetdicom.sop_class import CTImageStorage

from pacs_guard.cli.conformance import TABLES, show_conformance, with_tables
from pacs_guard.errors import PacsGuardError

STATEMENT = Path(__file__).parents[3] / "docs" / "conformance.md"


def test_the_conformance_statement_is_up_to_date_and_has_every_table():
    document = STATEMENT.read_text()
    assert with_tables(document) == document, "run: pacs-guard conformance --update docs/conformance.md"
    assert set(re.findall(r"<!-- table: ([a-z-]+) -->", document)) == set(TABLES)


def test_the_tables_say_what_the_code_does():
    assert f"| CT Image Storage | `{CTImageStorage}` | yes | yes |" in TABLES["sop-classes"]()
    assert "| JPEG Baseline (Process 1) | `1.2.840.10008.1.2.4.50` | yes | yes, as received | no |" in (
        TABLES["transfer-syntaxes"]()
    )
    assert "| disk watermark | rejected-transient | service-provider (presentation) | 2 |" in TABLES["rejections"]()


def test_an_old_table_is_replaced_and_an_unknown_one_refused(tmp_path, capsys):
    file = tmp_path / "statement.md"
    file.write_text("before\n<!-- table: fallback -->\nold\n<!-- end -->\nafter\n")
    show_conformance(file)
    assert file.read_text().startswith("before\n<!-- table: fallback -->\n| order |")
    assert "old" not in file.read_text()
    with pytest.raises(PacsGuardError, match="no tables nothing; expected implementation"):
        with_tables("<!-- table: nothing -->\n<!-- end -->")
    show_conformance(None)
    assert capsys.readouterr().out.count("<!-- table:") == len(TABLES)


def test_the_bill_of_materials_lists_what_is_installed_and_is_valid():
    command = [sys.executable, "-m", "pacs_guard", "sbom"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    bill = json.loads(shown)
    assert bill["metadata"]["component"]["name"] == "pacs-guard"
    components = {component["name"]: component for component in bill["components"]}
    assert components["pynetdicom"]["purl"].startswith("pkg:pypi/pynetdicom@3")
    assert components["pynetdicom"]["licenses"]
    assert components["forensic"]["type"] == "machine-learning-model"
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    own = needs[bill["metadata"]["component"]["bom-ref"]]
    assert any(ref.startswith("pynetdicom@") for ref in own)
    assert not any(ref.startswith("pytest@") for ref in own)
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415  # only here
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(shown) is None
