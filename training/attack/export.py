"""Altered series as DICOM that says so, with labels as the public set has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from pacs_guard.simulate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from training.attack.series import Altered

LABELS = "labels.json"
DERIVATION = "altered on purpose to test a detector, not for diagnosis"


def write_altered(altered: Altered, folder: Path, *, seed: int, generator: str) -> Path:
    """Write an altered series, marked as simulated in every image, and ``labels.json`` beside it.

    Every image gets new UIDs, an invented patient, a DERIVED image type, Quality Control Image YES and descriptions
    that begin with SIMULATED; there is no way to write one without.

    Parameters
    ----------
    altered : Altered
    folder : Path
        Made if absent.
    seed : int
        For the labels.
    generator : str
        Name of the generator, for the labels.

    Returns
    -------
    Path
        Of the labels.
    """
    description = f"{altered.attack.name} {altered.label}"
    images = write_series(altered.whole(), folder, description=description, derivation=DERIVATION)
    uuid = str(dcmread(images[0], stop_before_pixels=True).SeriesInstanceUID)
    path = folder / LABELS
    path.write_text(json.dumps(_sheet(altered, uuid, seed, generator), indent=1) + "\n", encoding="utf-8")
    return path


def label_row(altered: Altered, uuid: str) -> dict[str, Any]:
    """Return the altered place as a row of the public set's label file.

    `slice` is the InstanceNumber, from 1; `x` the column and `y` the row, from 0.
    """
    index, row, column = altered.site
    return {"type": altered.label, "uuid": uuid, "slice": index + 1, "x": column, "y": row}


def _sheet(altered: Altered, uuid: str, seed: int, generator: str) -> dict[str, Any]:
    z, y, x = ([part.start, part.stop] for part in altered.change.box)
    return {
        "simulated": True,
        "attack": altered.attack.name,
        "says": altered.attack.says,
        "generator": generator,
        "seed": seed,
        "diameter_mm": round(altered.diameter_mm, 1),
        "changed": {"slices": z, "rows": y, "columns": x},
        "labels": [label_row(altered, uuid)],
    }
