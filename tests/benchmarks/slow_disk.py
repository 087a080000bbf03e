"""Runs `pacs-guard` with every fsync and fdatasync delayed, as on a hospital's disks.

    python -m tests.benchmarks.slow_disk MILLISECONDS run receive --config FILE

SQLite's own syncs happen in C, where they cannot be delayed: each durable commit waits before its transaction ends
instead.
"""

from __future__ import annotations

import os
import sys
import time

import sqlalchemy as sa

from pacs_guard.cli import main
from pacs_guard.queue.database import Database


def delay(seconds: float) -> None:
    """Slow down every sync of this process from now on."""
    for name in ("fsync", "fdatasync"):
        sync = getattr(os, name)

        def slow(descriptor, sync=sync):
            time.sleep(seconds)
            return sync(descriptor)

        setattr(os, name, slow)
    prepare = Database.__init__

    def with_slow_commits(database, url):
        prepare(database, url)

        def wait(connection):
            options = connection.get_execution_options()
            if options.get("durable", True) and not options.get("read_only", False):
                time.sleep(seconds)

        sa.event.listen(database.engine, "commit", wait)

    Database.__init__ = with_slow_commits


if __name__ == "__main__":
    delay(float(sys.argv[1]) / 1000)
    del sys.argv[1]
    main()
