import numpy as np

from pacs_guard.detect.classifier import Classifier
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.detect.features import Raster, Sites, SliceMeasurements
from pacs_guard.detect.forensic import HEADS, Head
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import Volume
from training.examples import MeasuredSlice
from training.nodules import nodule_figures
from training.sources import Case, Label

RASTER = Raster((3, 3), (1.0, 1.0), (30, 30), (3.0, 3.0))


def heads():
    made = {}
    for kind in HEADS:
        width = len(FEATURE_NAMES[kind])
        weights = np.zeros((width, 1), np.float32)
        weights[0] = 1.0
        layers = ((weights, np.zeros(1, np.float32)),)
        made[kind] = Head(Classifier(np.zeros(width, np.float32), np.ones(width, np.float32), 50, (layers,)))
    return made


def measured(group, suspicion, source="clean", **known):
    """Return a slice that is suspicious around column 46, row 46, and nowhere else."""
    rows, columns = (grid.ravel() for grid in np.mgrid[:30, :30])
    volume = Volume(np.zeros((1, 90, 90), np.int16), None, (1.0,) * 3, (1.0,) * 6, np.zeros((1, 3)), ("1",), "1", "2")

    def sites(kind):
        features = np.zeros((900, len(FEATURE_NAMES[kind])), np.float32)
        features[np.hypot(rows - 15, columns - 15) < 3, 0] = suspicion
        return Sites(columns, rows, features)

    case = Case(source, group, group, volume, **known)
    return MeasuredSlice(case, 0, RASTER, SliceMeasurements(sites(FindingKind.FB), sites(FindingKind.FM)))


def injected(group, suspicion):
    return measured(group, suspicion, "ctgan", labels=(Label(FindingKind.FM, 46, 46),))


def test_injections_are_set_against_marked_and_drawn_nodules_apart():
    real = [injected("a", 5.0), injected("b", 3.0), measured("clean:c", 4.0, nodules={0: ((46.0, 46.0), (80.0, 80.0))})]
    drawn = [measured("clean:c", 0.5, "sham", hard=((46, 46),))]
    by_patient = dict.fromkeys(("a", "b", "clean:c"), heads())
    marked, added = nodule_figures(real, drawn, by_patient)
    assert marked.name == "FM against real nodules, AUC"
    assert marked.value == 0.75  # one of two injections over the suspicious one, both over the other
    assert marked.n == "2 injections, 2 places of 1 patients"
    assert added.value == 1.0


def test_without_nodules_there_is_no_figure():
    assert nodule_figures([injected("a", 5.0)], [], {"a": heads()}) == []
