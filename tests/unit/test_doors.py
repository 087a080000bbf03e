"""Who may import whom: every import of the project is walked and compared with the list of doors."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("receive", "assemble", "detect", "deliver")
ROOM_DOORS = {"domain", "spool", "queue", "errors", "tls", "confined"}
DOORS = {
    "errors": set(),
    "domain": {"errors"},
    "confined": {"errors"},
    "tls": {"errors"},
    "queue": {"domain", "errors"},
    "spool": {"domain", "errors"},
    **{room: ROOM_DOORS | {room} for room in ROOMS},
    "simulate": {"domain", "errors"},
    "ops": {"domain", "queue", "spool", "errors", "tls"},
    "config": {"domain", "errors"},
}
WIRING = {"cli", "ops/supervisor.py", "__main__.py"}
TRAINING_DOORS = {"domain", "assemble", "detect", "simulate", "errors"}
HEAVY = {"tensorflow", "keras", "onnxruntime", "onnx", "sklearn", "skops", "joblib"}


def imports(path):
    """Yield (module, whether for type checkers only) of every import, however late."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in typing_only


def place(path):
    """Return the room of a source file: ``domain``, ``cli``, ``errors``…"""
    return path.relative_to(ROOT / "pacs_guard").parts[0].removesuffix(".py")


def violations(path):
    relative = path.relative_to(ROOT).as_posix()
    training = relative.startswith("training/")
    room = "training" if training else place(path)
    inside = relative.removeprefix("pacs_guard/")
    wires = any(inside == door or inside.startswith(f"{door}/") for door in WIRING) and not training
    allowed = TRAINING_DOORS if training else DOORS.get(room, set()) | {room}
    for name, typing_only in imports(path):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        settings_type = target == "config" and typing_only  # settings are passed in, so their types may be named
        if top == "pacs_guard" and target not in {*allowed, "__version__"} and not wires and not settings_type:
            yield f"{relative} imports {name}"
        if top == "training" and not training:
            yield f"{relative} imports {name}"
        if top in HEAVY and room not in {"detect", "training"}:
            yield f"{relative} imports {name}"
        numpy_types = inside == "domain/volume.py" and top == "numpy" and typing_only
        if room == "domain" and top not in {*sys.stdlib_module_names, "pacs_guard"} and not numpy_types:
            yield f"{relative} imports {name}"


def sources():
    return sorted([*(ROOT / "pacs_guard").rglob("*.py"), *(ROOT / "training").rglob("*.py")])


def test_every_import_goes_through_a_door():
    found = sources()
    assert len(found) > 30
    assert [violation for path in found for violation in violations(path)] == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("receive", "import pacs_guard.deliver.scu"),
        ("assemble", "from pacs_guard import detect"),
        ("queue", "from pacs_guard.spool.store import Spool"),
        ("spool", "from ..queue import rows"),
        ("domain", "import numpy"),
        ("domain", "def f():\n    from sqlalchemy import select"),
        ("receive", "def f():\n    import tensorflow"),
        ("ops", "from sklearn.svm import SVC"),
        ("cli", "import training.export"),
        ("simulate", "from pacs_guard.queue import rows"),
        ("deliver", "from pacs_guard.config import Settings"),
    ],
)
def test_door_that_is_not_in_the_list_is_found(tmp_path, monkeypatch, where, line):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "pacs_guard" / where / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(list(violations(path))) == 1
