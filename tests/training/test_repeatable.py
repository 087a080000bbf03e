"""The same data and seed give the same bundle, to the byte, whatever order Python's sets have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scipy import ndimage

from pacs_guard.domain.verdict import FindingKind
from tests.training.test_recalibrate import chest
from training import forensic
from training.examples import measure
from training.sources import Case, Label

_ROOT = Path(__file__).parents[2]


def _altered(seed: int) -> Case:
    volume, kind = chest(seed, 1), FindingKind.FB if seed % 2 else FindingKind.FM
    x = 144 if kind is FindingKind.FB else 56
    part = volume.hu[0, 86:114, x - 14 : x + 14]
    if kind is FindingKind.FM:
        part[8:20, 8:20] = 30
    part[:] = ndimage.gaussian_filter(part, 1.2)
    return Case("ctgan", f"t{seed}", f"t{seed}", volume, (Label(kind, x, 100),))


def fit_small(out: Path) -> None:
    """Fit on a few drawn chests, with everything that a bundle states but the trials, which take minutes."""
    cases = [*map(_altered, range(100, 110)), *(Case("own", f"clean:{n}", f"c{n}", chest(n)) for n in range(5))]
    slices = forensic.Measured(list(measure(cases)), [])
    forensic.measured_slices = lambda *_, **__: slices
    forensic.NETWORKS, forensic.FAMILIES = 1, ()
    forensic.fit(out, out, seed=0, say=lambda _: None)


def test_two_processes_write_the_same_bundle(tmp_path):
    running = []
    for number in range(2):
        command = [sys.executable, "-W", "ignore", __file__, str(tmp_path / str(number))]
        environment = os.environ | {
            "PYTHONHASHSEED": str(number + 1),
            "PYTHONPATH": str(_ROOT),
            "OPENBLAS_NUM_THREADS": "1",
        }
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    files = [sorted((tmp_path / str(number)).iterdir()) for number in range(2)]
    assert [one.name for one in files[0]] == ["MODEL_CARD.md", "bundle.json", "weights.npz"]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


if __name__ == "__main__":
    fit_small(Path(sys.argv[1]))
