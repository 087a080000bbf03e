"""Disk against rows, in both directions."""

from __future__ import annotations

import os

import pytest

from pacs_guard.spool.reconcile import reconcile
from tests.unit.spool.rows import FakeRows

NOW = 2_000_000_000.0


@pytest.fixture
def put(spool):
    def put(content=b"1234", age=1000.0):
        incoming = spool.receive(b"")
        incoming.write(content)
        path = spool.path_for("1")
        incoming.commit(path)
        os.utime(spool.root / path, (NOW - age, NOW - age))
        return path

    return put


def test_rows_without_their_bytes_are_marked_and_healed(spool, put):
    whole, short = put(), put(b"12")
    rows = FakeRows({whole: (1, 4), short: (2, 4), "instances/none": (3, 4)})
    found = reconcile(spool, rows, now=NOW, grace_seconds=0)
    assert (found.missing, found.orphans) == ((2, 3), ())
    assert rows.missing == {1: False, 2: True, 3: True}


def test_old_files_without_a_row_are_set_aside_and_young_ones_left(spool, put):
    known, orphan, young = put(), put(), put(age=10)
    found = reconcile(spool, FakeRows({known: (1, 4)}), now=NOW, grace_seconds=60)
    assert [os.path.basename(path) for path in found.orphans] == [os.path.basename(orphan)]  # noqa: PTH119  # of text
    assert not (spool.root / orphan).exists()
    assert all((spool.root / path).exists() for path in (known, young, *found.orphans))


def test_orphan_that_is_removed_meanwhile_is_no_fault(spool, put):
    orphan = put()

    class Racing(FakeRows):
        def known_paths(self, paths):
            spool.remove(orphan)
            return super().known_paths(paths)

    assert reconcile(spool, Racing({}), now=NOW, grace_seconds=0).orphans == ()


def test_unfinished_files_are_removed_once_old(spool):
    for age in (1000, 10):
        incoming = spool.receive(b"x")
        incoming.reader()
        os.utime(incoming._path, (NOW - age, NOW - age))
    assert reconcile(spool, FakeRows({}), now=NOW, grace_seconds=60).unfinished == 1
    assert len(list((spool.root / "incoming").iterdir())) == 1
