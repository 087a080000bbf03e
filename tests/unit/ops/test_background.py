import sys
import threading
import time

import pytest

from pacs_guard.errors import RetrainingError
from pacs_guard.ops.background import run_in_background


def run(code, tmp_path, **changes):
    command = [sys.executable, "-c", code]
    return run_in_background(command, tmp_path / "log", **({"nice": 7, "limit_seconds": 30.0} | changes))


def test_it_stands_back_and_what_it_says_is_kept(tmp_path):
    code = "import os, sys, time\nwhile os.nice(0) < 7: time.sleep(0.01)\nprint('ok'); sys.exit(3)"
    assert run(code, tmp_path) == 3
    assert (tmp_path / "log").read_text() == "ok\n"


def test_it_ends_with_everything_it_started_when_the_node_stops(tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )
    stop = threading.Event()

    def when_started():
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=when_started).start()
    with pytest.raises(RetrainingError, match="the node stops"):
        run(code, tmp_path, stop=stop)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _lives(pid):
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123  # a file of the kernel
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def test_what_takes_too_long_dies_or_cannot_be_started_is_said(tmp_path):
    with pytest.raises(RetrainingError, match=r"took longer than 0\.2 s"):
        run("import time; time.sleep(60)", tmp_path, limit_seconds=0.2)
    with pytest.raises(RetrainingError, match="ended by signal SIGKILL"):
        run("import os; os.kill(os.getpid(), 9)", tmp_path)
    with pytest.raises(RetrainingError, match="cannot be started"):
        run_in_background([str(tmp_path / "none")], tmp_path / "log", nice=0, limit_seconds=1.0)
