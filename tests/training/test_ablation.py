from dataclasses import replace

import numpy as np
import pytest

import training.ablation
import training.crossval
from pacs_guard.domain.verdict import FindingKind
from training.ablation import BOTH, FEATURES, NETWORK, Shown, ablation, ablation_table, places_of, untouched_figure
from training.crossval import HeadScore, ScoredSlice
from training.examples import measure
from training.residual import PATCH, Effort, build_network, fit_network, log_odds_at, log_odds_map
from training.sources import Case, Label
from training.whitening import white_slice


def altered(chest, index, x, y, kind):
    """Return a slice with white noise around a place: over the lung for FB, on a disc for FM."""
    rng = np.random.default_rng((index, x, y))
    one = chest.part(index, index + 1)
    rows, columns = np.mgrid[:260, :260]
    distance = np.hypot(rows - y, columns - x)
    hu = one.hu[0].astype(float)
    if kind is FindingKind.FM:
        hu[distance < 10] = 30 + 25 * rng.standard_normal(int((distance < 10).sum()))
    else:
        hu[distance < 16] = -860 + 25 * rng.standard_normal(int((distance < 16).sum()))
    return replace(one, hu=np.rint(hu).astype(np.int16)[None])


@pytest.fixture(scope="module")
def slices(chest):
    """Six patients with an altered slice each, and four clean ones with three slices."""
    cases = []
    for number in range(6):
        kind = (FindingKind.FB, FindingKind.FM)[number % 2]
        x, y = 70 + 6 * (number % 3), 110 + 4 * number
        part = altered(chest, 2 * number, x, y, kind)
        cases.append(Case("ctgan", str(number), str(number), part, (Label(kind, x, y),)))
    cases += [Case("clean", f"clean:{i}", str(i), chest.part(4 * i, 4 * i + 3)) for i in range(4)]
    return list(measure(cases))


def test_a_network_learns_to_tell_another_grain_and_one_pass_answers_like_patches(chest):
    image = white_slice(altered(chest, 3, 72, 130, FindingKind.FB), 0)
    case = Case("ctgan", "a", "a", altered(chest, 3, 72, 130, FindingKind.FB), (Label(FindingKind.FB, 72, 130),))
    (measured,) = measure([case])
    places = places_of([Shown(measured, image)], seed=0)
    assert {one.altered for one in places if one.output == 0} == {True, False}
    network = fit_network(places, seed=0, effort=Effort(steps=60, batch=32))
    answers = log_odds_map(network, image)[..., 0]
    here, there = log_odds_at(answers, image, np.array([130, 130]), np.array([72, 188]))
    assert here > there + 2
    row, column = image.origin[0] + 4 * 20, image.origin[1] + 4 * 15
    patch = [part[None] for part in image.patch(row, column, PATCH)]
    alone = np.asarray(network(patch, training=False))[0, 0, 0, 0]
    assert answers[20, 15] == pytest.approx(alone, abs=1e-3)


def test_the_network_is_small_and_the_same_seed_gives_the_same_weights():
    one, other = build_network(3), build_network(3)
    assert one.count_params() < 20_000
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_every_variant_is_judged_on_the_same_slices(slices, monkeypatch):
    for module in (training.ablation, training.crossval):
        monkeypatch.setattr(module, "FOLDS", 2)
    taught = []

    def untrained(places, *, seed, effort):
        """Take the place of training, which another test shows."""
        taught.append((len(places), sum(one.altered for one in places), effort))
        return build_network(seed)

    monkeypatch.setattr(training.ablation, "fit_network", untrained)
    copies = [replace(one, case=replace(one.case, source="simulated")) for one in slices[:4]]
    variants = ablation(slices, copies, seed=0, networks=1, effort=Effort(steps=6, batch=16), say=lambda _: None)
    assert [(one.parts, one.simulated) for one in variants] == [
        (parts, simulated) for simulated in (True, False) for parts in (FEATURES, NETWORK, BOTH)
    ]
    for one in variants:
        first = one.figures[0]
        assert first.name == "FB first guess within 16 mm"
        assert first.n.endswith("of 3 slices of 3 patients")
    assert len(taught) == 4
    assert all(0 < altered < places and effort.steps == 6 for places, altered, effort in taught)
    assert taught[0][0] > taught[2][0]
    assert next(one for one in variants if one.parts == FEATURES).figures[2].value > 0.6
    table = ablation_table(variants).splitlines()
    assert table[0].count("simulated edits") == 6
    assert len(table) == 2 + len(variants[0].figures)


def test_a_source_that_gives_itself_away_by_what_nobody_altered_is_seen():
    def scored(source, number, far, labels=()):
        marks = {FindingKind.FB: (HeadScore(9.0, 50, 50), HeadScore(far, 200, 200)), FindingKind.FM: ()}
        return ScoredSlice(source, f"{source}{number}", "a", 0, None, labels, (1.0, 1.0), {}, marks)

    label = (Label(FindingKind.FB, 52, 52),)
    clean = [scored("clean:", number, 1.0) for number in range(3)]
    assert untouched_figure([*(scored("ctgan", n, 20.0, label) for n in range(3)), *clean], seed=0).value == 1.0
    assert untouched_figure([*(scored("ctgan", n, 2.0, label) for n in range(3)), *clean], seed=0).value == 0.0
