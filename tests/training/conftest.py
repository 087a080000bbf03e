import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.domain.volume import Volume


@pytest.fixture(scope="session")
def chest():
    """Two oval lungs in a body, 24 slices of 2.5 mm, 1 mm pixels, noise with a grain, and a small bright vessel."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:260, :260] - 130.0
    hu = np.full((24, 260, 260), -1000.0)
    hu[:, (x / 125) ** 2 + (y / 95) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[:, ((x - side * 58) / 44) ** 2 + (y / 68) ** 2 < 1] = -860
    hu[10:13, 100:107, 180:187] = 20
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0.3, 0.9, 0.9))
    hu = np.rint(hu + 18 * noise / noise.std()).astype(np.int16)
    positions = np.array([[0.0, 0.0, 2.5 * i] for i in range(24)])
    uids = tuple(f"1.{i + 1}" for i in range(24))
    return Volume(hu, None, (2.5, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), positions, uids, "1", "2")
