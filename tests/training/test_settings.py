import pytest

from pacs_guard.errors import ConfigurationError
from training.classifiers import TITLES, estimator
from training.settings import CONFIGURATION, SIZES, Form, ProtocolName, read_experiments, read_size


def test_the_six_tables_of_the_paper_are_there():
    found = read_experiments()
    assert list(found) == [f"table{n}" for n in range(2, 8)]
    assert [one.form for one in found.values()] == [Form.RAW] + 2 * [Form.LOCALISED] + 3 * [Form.DELOCALISED]
    assert [one.augmented for one in found.values()] == [False, False, True, False, True, True]
    assert found["table7"].classes == ("untampered", "FB", "FM")
    assert found["table6"].published["forest"] == 0.987
    assert all(set(one.published) <= set(TITLES) for one in found.values())


@pytest.mark.parametrize("name", ["small", "full"])
def test_every_grid_fits_its_classifier(name):
    size = read_size(name)
    for classifier in TITLES:
        grid = size.grids[classifier if classifier in size.grids else "network"]
        for values in zip(*grid.values(), strict=False):
            estimator(classifier, 0, dict(zip(grid, values, strict=True)))


def test_full_is_the_paper_s_own_amount():
    size = read_size("full")
    assert size.copies == 70
    assert size.shapes == {Form.RAW: (512, 512), Form.LOCALISED: (128, 128), Form.DELOCALISED: (266, 340)}
    assert size.step == 1


def test_what_is_wrong_in_a_file_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no experiment"):
        read_experiments(tmp_path)
    (tmp_path / "mine.toml").write_text('title = "x"\nform = "round"\n')
    with pytest.raises(ConfigurationError, match="'round' is not a valid Form"):
        read_experiments(tmp_path)
    (tmp_path / "mine.toml").write_text('title = "x"\nform = "raw"\nclasses = ["a"]\n')
    with pytest.raises(ConfigurationError, match=r"classes are \['a'\]"):
        read_experiments(tmp_path)
    (tmp_path / SIZES).write_text("[tiny]\ncopies = 1\n")
    with pytest.raises(ConfigurationError, match="has no size 'small'; it has tiny"):
        read_size("small", tmp_path)
    with pytest.raises(ConfigurationError, match="size 'tiny' is wrong or incomplete"):
        read_size("tiny", tmp_path)


def test_the_paper_s_protocol_is_marked_leaky_and_the_other_is_not():
    assert ProtocolName.PAPER.mark == "leaky: optimistic"
    assert "leaky" not in ProtocolName.GROUPED.mark
    assert CONFIGURATION.is_dir()
