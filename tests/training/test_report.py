import pytest

from pacs_guard.domain.verdict import FindingKind
from training.crossval import HeadScore, Scored, ScoredSeries, ScoredSlice, comparable
from training.report import clean_scores, detections_of, figures_of
from training.sources import Label

FB, FM = FindingKind.FB, FindingKind.FM


def tampered(name, kind, fb, fm, x=10.0):
    label = Label(kind, 10, 10)
    heads = {FB: HeadScore(fb, x, 10.0), FM: HeadScore(fm, x, 10.0)}
    return ScoredSlice("ctgan", name, name, int(name[-1]) % 5, label, (label,), (1.0, 1.0), heads)


def clean(name, fb, fm):
    heads = {FB: HeadScore(fb, 0.0, 0.0), FM: HeadScore(fm, 0.0, 0.0)}
    return ScoredSlice("some", f"clean:{name}", name, int(name[-1]) % 5, None, (), (1.0, 1.0), heads)


@pytest.fixture
def scored():
    slices = [tampered(f"b{i}", FB, 3.0 - i, -2.0 + 0.1 * i) for i in range(5)]
    slices += [tampered(f"m{i}", FM, -2.0, 2.5 - i, x=10.0 if i else 90.0) for i in range(5)]
    slices += [clean(f"c{i}", -3.0 - 0.2 * i, -3.0 + 0.2 * i) for i in range(5)]
    slices += [clean("c0", -1.0, -4.0)]
    series = [
        ScoredSeries("some", "clean:c0", "one", 0, 40, False, {FB: -1.0, FM: 0.5}),
        ScoredSeries("some", "clean:c0", "two", 0, 40, False, {FB: 0.25, FM: 0.0}),
        ScoredSeries("some", "clean:c1", "single", 0, 1, False, {FB: 9.0, FM: 9.0}),
        ScoredSeries("ctgan", "b0", "b0", 0, 40, True, {FB: 9.0, FM: 9.0}),
    ]
    return Scored(slices, series, [])


def test_a_slice_is_suspected_when_either_head_reaches_its_point(scored):
    removals, injections = detections_of(scored, {"fb": 1.0, "fm": 0.5})
    assert removals.value == pytest.approx(3 / 5)
    assert injections.value == pytest.approx(3 / 5)
    assert removals.n == "3 of 5 slices of 5 patients"
    either, _ = detections_of(scored, {"fb": 9.0, "fm": -1.75})
    assert either.value == pytest.approx(2 / 5)


def test_hits_are_counted_by_distance_to_the_label(scored):
    figures = {one.name: one.value for one in figures_of(scored)}
    assert figures["FB first guess within 16 mm"] == 1.0
    assert figures["FM first guess within 16 mm"] == pytest.approx(4 / 5)


def test_a_patient_with_two_series_counts_once_and_single_slices_are_no_series(scored):
    series = clean_scores(scored)["series"]
    assert series == [{"patient": "c0", "fb": [0.25], "fm": [0.5]}]


def test_every_clean_slice_is_kept_under_its_patient(scored):
    slices = clean_scores(scored)["slice"]
    assert [one["patient"] for one in slices] == [f"c{i}" for i in range(5)]
    assert slices[0] == {"patient": "c0", "fb": [-3.0, -1.0], "fm": [-3.0, -4.0]}


def test_each_fold_s_heads_get_the_line_of_the_other_folds(scored):
    from pacs_guard.detect.forensic import Head  # noqa: PLC0415  # beside its only use

    heads = [{FB: Head(None), FM: Head(None)} for _ in range(5)]
    after = comparable(Scored(scored.slices, scored.series, heads))
    for before, one in zip(scored.slices, after.slices, strict=True):
        head = after.heads[one.fold][FB]
        assert one.heads[FB].score == pytest.approx(head.slope * before.heads[FB].score + head.intercept)
    assert len({after.heads[fold][FB].intercept for fold in range(5)}) > 1
