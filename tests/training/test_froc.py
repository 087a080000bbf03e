import pytest

from pacs_guard.detect.forensic import HEADS
from pacs_guard.domain.verdict import FindingKind
from training.crossval import HeadScore, Scored, ScoredSlice
from training.froc import froc_of
from training.sources import Label

FB, FM = FindingKind.FB, FindingKind.FM


def one(name, marks, label=None):
    """Return a slice of one patient; `marks` are (score, x) of the FB head, the other head has none."""
    places = {FB: tuple(HeadScore(score, x, 50.0) for score, x in marks), FM: ()}
    heads = {kind: places[kind][0] if places[kind] else HeadScore(-20.0, 0.0, 0.0) for kind in HEADS}
    labels = (label,) if label else ()
    source, group = ("ctgan", name) if label else ("some", f"clean:{name}")
    return ScoredSlice(source, group, name, 0, label, labels, (1.0, 1.0), heads, places)


@pytest.fixture(scope="module")
def figures():
    label = Label(FB, 50, 50)
    slices = [
        one("a", [(5.0, 55.0), (1.0, 120.0)], label),
        one("b", [(4.0, 120.0), (2.0, 48.0)], label),
        *(one("c", [(3.0, 10.0)] if number == 0 else [(0.0, 10.0)]) for number in range(20)),
    ]
    return {figure.name: figure for figure in froc_of(Scored(slices, [], []))}


def test_few_false_marks_leave_only_the_surest_place(figures):
    assert figures["FB marked within 16 mm at 0.05 false marks a clean slice"].value == 1.0
    # of the patient's 20 slices one mark in 20 is allowed: the one of 3.0


def test_a_mark_far_from_the_label_finds_nothing():
    label = Label(FB, 50, 50)
    scored = Scored([one("a", [(9.0, 90.0)], label), one("c", [(0.0, 10.0)])], [], [])
    found = {figure.name: figure.value for figure in froc_of(scored)}
    assert found["FB marked within 16 mm at 1 false marks a clean slice"] == 0.0


def test_the_place_is_set_against_the_highest_place_elsewhere(figures):
    # here 5 and 2, elsewhere 1 and 4: of four pairs three are the right way round
    assert figures["FB place against untouched lung of the same slices, AUC"].value == 0.75
