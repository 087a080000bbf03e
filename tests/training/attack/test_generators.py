from dataclasses import replace

import numpy as np
import pytest

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.attack import fit as fitting
from training.attack.cubes import CUT_MM, augmented, training_cubes
from training.attack.fit import Plan, fit_generators
from training.attack.weights import load_generator
from training.sources import Case

PLAN = Plan(width=4, steps=2, batch=2, cubes=4, seed=3)


@pytest.fixture
def data(chest, tmp_path, monkeypatch):
    (tmp_path / "data" / "clean").mkdir(parents=True)
    monkeypatch.setattr("training.attack.cubes.clean_series", lambda _: [Case("clean", "clean:a", "a", chest)])
    return tmp_path / "data"


def test_cubes_are_lung_or_have_a_nodule_in_the_middle(data):
    lung = training_cubes(data, FindingKind.FB, 3, seed=0)
    nodules = training_cubes(data, FindingKind.FM, 3, seed=0)
    assert lung.shape == nodules.shape == (3, CUT_MM, CUT_MM, CUT_MM)
    middle = (slice(None), *(slice(21, 24),) * 3)
    assert lung[middle].max() < -600
    assert nodules[middle].mean(axis=(1, 2, 3)).min() > -200


def test_without_series_there_is_nothing_to_train_on(tmp_path):
    with pytest.raises(ConfigurationError, match="clean is missing"):
        training_cubes(tmp_path, FindingKind.FB, 3, seed=0)


def test_augmentation_keeps_the_middle_within_four_voxels():
    cube = np.zeros((CUT_MM,) * 3, np.int16)
    cube[20:24, 20:24, 20:24] = 1000
    middles = []
    for seed in range(20):
        made = augmented(cube, np.random.default_rng(seed))
        assert made.shape == (32, 32, 32)
        middles.append(np.array(np.nonzero(made > 500)).mean(axis=1))
    assert np.abs(np.array(middles) - 15.5).max() <= 4.6
    assert np.std(middles) > 1


def test_training_goes_on_where_it_stopped_and_ends_at_the_same_weights(data, tmp_path, monkeypatch):
    monkeypatch.delitem(fitting.FILES, FindingKind.FM)  # one of the two is enough, and takes half the time
    said = []
    fit_generators(data, tmp_path / "whole", PLAN, say=said.append)
    fit_generators(data, tmp_path / "parts", replace(PLAN, steps=1), say=said.append)
    fit_generators(data, tmp_path / "parts", PLAN, say=said.append)
    assert any("going on after step 1" in line for line in said)
    one, two = (load_generator(tmp_path / name) for name in ("whole", "parts"))
    cube = np.random.default_rng(0).normal(-850, 30, (32, 32, 32)).astype(np.float32)
    first, second = (made.rendered(cube, FindingKind.FB, 10, np.random.default_rng(0)) for made in (one, two))
    assert first.shape == (32, 32, 32)
    assert np.abs(first - second).max() < 1
    assert np.std(first) > 0
    assert "width 4, 2 steps" in one.name
    with pytest.raises(ConfigurationError, match="begun with width 4"):
        fit_generators(data, tmp_path / "parts", replace(PLAN, width=8), say=said.append)


def test_training_moves_generator_and_critic_each_in_its_turn(monkeypatch):
    from training.attack.gan import build_gan  # noqa: PLC0415  # slow to import

    gan = build_gan(4, 0)
    real = np.zeros((2, 32, 32, 32, 1), np.float32)
    before = [one.copy() for one in gan.values()]
    gan.train(real + 0.3, real)
    moved = [not np.array_equal(a, b) for a, b in zip(before, gan.values(), strict=True)]
    generator, critic = len(gan.generator.variables), len(gan.critic.variables)
    assert any(moved[:generator])
    assert any(moved[generator : generator + critic])
    frozen = gan.critic.get_weights()
    monkeypatch.setattr(gan.critic, "train_on_batch", lambda *_: 0.0)
    gan.train(real + 0.3, real)
    assert all(np.array_equal(a, b) for a, b in zip(frozen, gan.critic.get_weights(), strict=True))
    with pytest.raises(ValueError, match="width is 6"):
        build_gan(6, 0)


def test_a_folder_without_generators_or_with_something_else_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"removal\.npz is missing"):
        load_generator(tmp_path)
    for name in fitting.FILES.values():
        (tmp_path / name).write_bytes(b"no array")
    with pytest.raises(ConfigurationError, match="is no generator"):
        load_generator(tmp_path)
