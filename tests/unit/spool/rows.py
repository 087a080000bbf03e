"""Rows that reconciliation asks."""

from __future__ import annotations


class FakeRows:
    def __init__(self, rows):
        self.rows = rows  # path -> (id, size)
        self.missing = {}

    def expected_files(self):
        yield from ((number, path, size) for path, (number, size) in self.rows.items())

    def known_paths(self, paths):
        return set(paths) & set(self.rows)

    def needed_in(self, segment):
        return {path for path in self.rows if path.startswith(f"{segment}/")}

    def mark_missing(self, instance_ids, *, missing):
        self.missing |= dict.fromkeys(instance_ids, missing)
