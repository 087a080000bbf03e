import numpy as np
import pytest

from pacs_guard.detect.lungs import lung_mask
from pacs_guard.domain.verdict import FindingKind
from training.attack import ATTACKS, alter, find_attack, simulate_series

EVERY = [(attack.name, kind) for attack in ATTACKS.values() for kind in attack.kinds or (None,)]
EVERY.remove(("ctgan-june", FindingKind.FM))  # slow, and the same steps as its removals


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_every_attack_changes_its_place_and_the_same_seed_gives_the_same_pixels(chest, name, kind):
    one, two = (list(simulate_series(chest, name, kind, 1, seed=2)) for _ in range(2))
    assert len(one) == len(two) == 1
    assert one[0].site == two[0].site
    assert np.array_equal(one[0].change.hu, two[0].change.hu)
    z, y, x = one[0].site
    slab, (here, _, _) = one[0].slab()
    old = chest.hu[z, y - 5 : y + 6, x - 5 : x + 6]
    assert not np.array_equal(slab.hu[here, y - 5 : y + 6, x - 5 : x + 6], old)


@pytest.mark.parametrize("kind", [FindingKind.FB, FindingKind.FM])
def test_sites_lie_in_the_lungs(chest, kind):
    for altered in simulate_series(chest, "mask-only", kind, 12, seed=1):
        z, y, x = altered.site
        assert lung_mask(chest.hu[z], chest.spacing_mm[1:])[y, x]


def test_the_slab_is_the_whole_series_around_the_site(chest):
    (altered,) = simulate_series(chest, "mask-only", FindingKind.FB, 1, seed=0)
    whole, (slab, site) = altered.whole(), altered.slab()
    first = altered.site[0] - site[0]
    assert np.array_equal(slab.hu, whole.hu[first : first + len(slab.hu)])
    assert np.array_equal(slab.positions_mm, chest.positions_mm[first : first + len(slab.hu)])
    assert (whole.hu != chest.hu).any()
    assert set(whole.sop_uids + slab.sop_uids).isdisjoint(chest.sop_uids)
    assert whole.series_uid != chest.series_uid


def test_an_attack_is_not_asked_for_what_it_cannot_do(chest):
    with pytest.raises(ValueError, match="splice cannot do FB; it does FM"):
        alter(chest, find_attack("splice"), FindingKind.FB, (12, 130, 72), seed=0)
    with pytest.raises(ValueError, match="sham-ball cannot do FM; it does SHAM"):
        list(simulate_series(chest, "sham-ball", FindingKind.FM, 1, seed=0))
    with pytest.raises(ValueError, match="expected at least 6"):
        next(simulate_series(chest.part(0, 5), "ctgan", FindingKind.FB, 1, seed=0))
