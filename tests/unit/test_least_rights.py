"""No shell, no evaluation and no pickle near DICOM data, and nothing is readable by others."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pacs_guard.spool.store import Spool

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "pacs_guard").rglob("*.py"))
# a shell, or code or objects made of data
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.spawnl", "os.spawnv"),
    *("yaml.load", "yaml.unsafe_load", "pickle.load", "pickle.loads", "marshal.loads", "joblib.load", "dill.loads"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "keras.config.enable_unsafe_deserialization"),
}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jinja2", "mako"}
FORBIDDEN_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("safe_mode", False)}
CONFIG = """
[node]
data_dir = "{folder}/data"
[[sources]]
name = "ct-1"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
port = 4242
"""


def dangers(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: {name}")
            found += [
                f"line {node.lineno}: {argument.arg}={argument.value.value}"
                for argument in node.keywords
                if isinstance(argument.value, ast.Constant)
                and (argument.arg, argument.value.value) in FORBIDDEN_ARGUMENTS
            ]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"line {node.lineno}: {name}" for name in modules if name.split(".")[0] in FORBIDDEN_IMPORTS]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_evaluates_unpickles_or_starts_a_shell(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "import pickle",
        "from joblib import load",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(c, shell=True)",
        "os.system(c)",
        "yaml.load(f)",
    ],
)
def test_the_search_finds_what_is_forbidden(source):
    assert len(dangers(source)) == 1


def modes(folder: Path) -> dict[str, str]:
    """Return every file and folder that somebody else than its owner may use."""
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    return {str(path): oct(mode) for path, mode in found.items() if mode & 0o077}


def test_what_the_commands_write_is_their_users_alone(tmp_path):
    """Under the most open mask that there is."""
    file = tmp_path / "pacs-guard.toml"
    file.write_text(CONFIG.format(folder=tmp_path))
    command = [sys.executable, "-m", "pacs_guard", "ledger", "--config", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60, umask=0)
    assert (tmp_path / "data" / "queue.sqlite").exists()
    assert modes(tmp_path / "data") == {}


def test_a_received_instance_is_the_nodes_alone_whatever_the_mask(tmp_path):
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "data" / "spool")
        incoming = spool.receive(b"preamble")
        incoming.write(b"data set")
        path = spool.path_for("1.2.3")
        incoming.commit(path)
        refused = spool.receive(b"preamble")
        refused.set_aside()
    finally:
        os.umask(before)
    assert (spool.root / path).exists()
    assert modes(spool.root) == {}
