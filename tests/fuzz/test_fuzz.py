"""A short while of `python -m tests.fuzz` for every target, the same inputs each time."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from tests.fuzz.engines import by_chance, changed
from tests.fuzz.targets import TARGETS

SECONDS = 0.5
FINDINGS = sorted((Path(__file__).parent / "findings").glob("*-*"))


@pytest.mark.parametrize("name", TARGETS)
def test_no_promise_is_broken_by_changed_inputs(name, tmp_path):
    campaign = by_chance(TARGETS[name], SECONDS, 0, tmp_path)
    assert campaign.findings == {}
    assert campaign.inputs > 2


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.name)
def test_what_was_found_once_is_mended(path):
    TARGETS[path.name.partition("-")[0]].check(path.read_bytes())


def test_a_broken_promise_is_found_and_its_input_kept(tmp_path):
    target = TARGETS["wire"]

    def check(data):
        if b"\xff\xff\xff\xff" in data:
            raise ValueError("four bytes")

    found = by_chance(dataclasses.replace(target, check=check), 0.3, 0, tmp_path)
    [(name, kind)] = found.findings.items()
    assert "four bytes" in kind
    assert b"\xff\xff\xff\xff" in (tmp_path / name).read_bytes()


def test_inputs_can_be_made_again():
    seeds = TARGETS["wire"].seeds()
    assert [changed(random.Random(3), seeds) for _ in range(5)] == [changed(random.Random(3), seeds) for _ in range(5)]
