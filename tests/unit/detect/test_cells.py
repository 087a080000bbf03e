import numpy as np
import pytest

from pacs_guard.detect.cells import usual_of


@pytest.mark.parametrize("shape", [(20, 30), (200, 310)])
def test_usual_values_are_median_and_robust_deviation_of_what_is_inside(shape):
    rng = np.random.default_rng(0)
    strength = np.stack([rng.normal(3.0, 0.5, shape), rng.normal(-1.0, 2.0, shape)]).astype(np.float32)
    where = np.zeros(shape, bool)
    where[:, : shape[1] // 2] = True
    strength[:, ~where] = 50.0
    middle, spread = usual_of(strength, where)
    assert middle == pytest.approx([3.0, -1.0], abs=0.3)
    assert spread == pytest.approx([0.52, 2.02], rel=0.12)


def test_nothing_inside_gives_no_scale():
    middle, spread = usual_of(np.ones((2, 4, 4), np.float32), np.zeros((4, 4), bool))
    assert (middle == 0).all()
    assert (spread == 1).all()
