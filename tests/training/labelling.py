"""Phantom studies as a node exports them with their labels, for tests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from pacs_guard.assemble import find_instances
from pacs_guard.simulate import inject_nodule, make_phantom, remove_nodule, suggest_site, write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.domain.volume import Volume


def altered(seed: int) -> tuple[Volume, list[dict]]:
    """Return a phantom with a removal and an injection, and the places of both."""
    volume = clean(seed)
    removed = suggest_site(volume, "FB")
    sites = (suggest_site(volume, "FM", seed=seed + 1000 * turn) for turn in count())
    injected = next(site for site in sites if site[0] != removed[0])
    volume = remove_nodule(volume, removed, seed=seed, noise="gaussian")
    volume = inject_nodule(volume, injected, seed=seed, noise="gaussian")
    places = [
        {"kind": kind, "sop_uid": volume.sop_uids[index], "x": column, "y": row}
        for kind, (index, row, column) in (("FB", removed), ("FM", injected))
    ]
    return volume, places


def clean(seed: int) -> Volume:
    """Return a small phantom."""
    return make_phantom(slices=12, size=128, slice_mm=4.0, seed=seed)


def add_study(export: Path, number: int, volume: Volume, label: str, places=(), action: str = "label") -> None:
    """Write a study into an export, and its label."""
    folder = export / f"study-{number}"
    write_series(volume, folder)
    instances = [
        {"file": str(one.path).removeprefix(str(export) + "/"), "sop_uid": one.key.sop_uid, "sha256": one.key.sha256}
        for one in find_instances([folder])[0]
    ]
    path = export / "labels.json"
    whole = json.loads(path.read_text()) if path.exists() else {"format": 1, "exported_at": "", "studies": []}
    whole["studies"].append(
        {
            "folder": folder.name,
            "label": label,
            "action": action,
            "by": "dr. rad",
            "reason": "looked",
            "at": "",
            "places": list(places) if label == "tampered" else [],
            "found": [],
            "instances": instances,
        }
    )
    path.write_text(json.dumps(whole))


def is_held_back(number: int) -> bool:
    """Whether the patient of this number is one that no challenger learns from."""
    who = f"\0SIM-{100_000_000_000 + number}"
    return int(hashlib.sha256(who.encode()).hexdigest()[:8], 16) < 0.4 * 2**32


def with_patient(volume: Volume, number: int) -> Volume:
    """Return the volume as one of the patient of this number."""
    return replace(volume, study_uid=f"1.2.826.0.1.{100_000_000_000 + number}")


def export_phantoms(export: Path, *, learnt: int = 5, held: int = 2) -> None:
    """Fill an export with so many altered and so many clean patients of each part."""
    number = 0
    for label in ("tampered", "clean"):
        wanted = {False: learnt, True: held}
        while any(wanted.values()):
            number += 1
            part = is_held_back(number)
            if not wanted[part]:
                continue
            wanted[part] -= 1
            volume, places = altered(number) if label == "tampered" else (clean(number), [])
            add_study(export, number, with_patient(volume, number), label, places)
