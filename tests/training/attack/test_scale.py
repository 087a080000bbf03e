import numpy as np
import pytest

from training.attack.scale import Scale


def test_equalising_and_normalising_are_undone_exactly():
    rng = np.random.default_rng(0)
    cube = np.concatenate([rng.normal(-850, 30, 4000), rng.normal(40, 20, 1000)]).reshape(10, 20, 25)
    scale = Scale.fitted([cube])
    assert np.allclose(scale.to_hu(scale.to_network(cube)), cube, atol=0.3)  # 32 bits


def test_values_of_few_levels_get_the_shares_that_they_have():
    # half the voxels are -1000, a quarter each 0 and 1000: their shares up to and with each are 0.5, 0.75 and 1
    scale = Scale.fitted([np.array([-1000.0, -1000.0, 0.0, 1000.0])])
    assert (scale.hu[0], scale.hu[-1]) == (-1000, 1000)
    assert np.allclose(scale.share, [0, 0.5, 0.75, 1])
    made = scale.to_network(np.array([-1000.0, 1000.0]))
    assert made[1] - made[0] == pytest.approx(1.0)


def test_what_lies_beyond_the_training_set_is_cut_off():
    scale = Scale.fitted([np.linspace(-1000, 1000, 500)])
    assert scale.to_hu(scale.to_network(np.array([-3000.0, 3000.0]))) == pytest.approx([-1000, 1000])


def test_a_constant_training_set_is_refused():
    with pytest.raises(ValueError, match="all 8 voxels are 3 HU"):
        Scale.fitted([np.full((2, 2, 2), 3.0)])
