from pacs_guard.detect.preprocess import ORIGINAL
from training.augmentation import all_transforms, some_transforms


def test_the_paper_s_copies_are_all_there_and_none_twice():
    every = all_transforms()
    assert len(every) == len(set(every)) == 1 + 3 + 8 + 59
    assert every[0] == ORIGINAL
    assert {(one.dx, one.dy) for one in every} == {(x, y) for x in (-4, 0, 4) for y in (-4, 0, 4)}
    assert {one.degrees for one in every} == set(range(0, 360, 6))


def test_some_copies_are_drawn_by_seed_and_the_original_always_comes_first():
    assert some_transforms(5, seed=1) == some_transforms(5, seed=1)
    assert some_transforms(5, seed=1) != some_transforms(5, seed=2)
    assert len(some_transforms(70, seed=0)) == 71
    assert some_transforms(3, seed=0)[0] == ORIGINAL
