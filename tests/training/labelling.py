"""Phantom patients of whom some are altered, written as a node receives them, for tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread

from pacs_guard.simulate import inject_nodule, make_phantom, remove_nodule, suggest_site, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.domain.volume import Volume

Places = list[tuple[str, tuple[int, int, int]]]


@cache
def _anatomy(number: int) -> Volume:
    return make_phantom(slices=12, size=128, slice_mm=4.0, seed=number)


def clean(seed: int) -> Volume:
    """Return a small phantom: one of a few anatomies, so that many are made in little time, with noise of its own."""
    volume = _anatomy(seed % 3)
    noise = np.random.default_rng(seed).normal(0.0, 8.0, volume.hu.shape)
    return replace(volume, hu=np.clip(volume.hu + noise, -1024, 3071).astype(np.int16))


def altered(seed: int) -> tuple[Volume, Places]:
    """Return a phantom with a removal and an injection on another slice, and slice, row and column of both."""
    volume = clean(seed)
    removed = suggest_site(volume, "FB")
    sites = (suggest_site(volume, "FM", seed=seed + 1000 * turn) for turn in count())
    injected = next(site for site in sites if site[0] != removed[0])
    volume = remove_nodule(volume, removed, seed=seed, noise="gaussian")
    volume = inject_nodule(volume, injected, seed=seed, noise="gaussian")
    return volume, [("FB", removed), ("FM", injected)]


def is_held_back(number: int) -> bool:
    """Whether the patient of this number is one that no challenger learns from."""
    return int(hashlib.sha256(f"\0SIM-{number}".encode()).hexdigest()[:8], 16) < 0.4 * 2**32


def write_patient(volume: Volume, places: Places, number: int, folder: Path) -> tuple[str, list[dict]]:
    """Write a phantom as a study of the patient of this number; return its UID and the places as findings say them."""
    uids = []
    for path in write_series(volume, folder):
        ds = dcmread(path)
        ds.PatientID = f"SIM-{number}"
        ds.save_as(path)
        uids.append(ds.SOPInstanceUID)
    found = [{"kind": kind, "sop_uid": uids[at], "x": column, "y": row} for kind, (at, row, column) in places]
    return str(ds.StudyInstanceUID), found
