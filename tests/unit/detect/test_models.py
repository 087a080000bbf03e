"""Models exchanged between two studies."""

import json
from pathlib import Path

import pytest

from pacs_guard.detect.bundle import load_bundle
from pacs_guard.detect.models import ModelsInForce, find_version
from pacs_guard.domain.models import ModelVersion
from pacs_guard.errors import BundleError
from tests.unit.detect.test_sliceclassifier import rule


class Wanted:
    """What is promoted, and what the worker said of it."""

    def __init__(self, folder):
        self.folder = folder
        self.promoted = {}
        self.reports = []
        self.seconds = 0.0

    def new_version(self, version):
        folder = rule(self.folder / "models" / "middle" / version)
        manifest = json.loads((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(json.dumps(manifest | {"version": version}))
        return ModelVersion("middle", version, load_bundle(folder).sha256)

    def promote(self, version):
        self.promoted["middle"] = version
        self.seconds += 2

    def in_force(self, *entries):
        return ModelsInForce(
            entries, self.folder / "models", lambda: self.promoted, self.reports.append, lambda: self.seconds
        )


@pytest.fixture
def wanted(tmp_path):
    return Wanted(tmp_path)


@pytest.fixture
def shipped(tmp_path):
    return str(rule(tmp_path / "shipped"))


def versions(models):
    return [(one.name, one.version) for one in models.refresh()]


def test_what_is_promoted_judges_the_next_study_and_a_rollback_brings_back_what_was(wanted, shipped):
    models = wanted.in_force("integrity", shipped)
    assert versions(models)[1] == ("middle", "3")
    assert models.hashes == {"middle": load_bundle(Path(shipped)).sha256}
    fourth = wanted.new_version("4")
    wanted.promote(fourth)
    assert versions(models)[1] == ("middle", "4")
    assert models.hashes == {"middle": fourth.sha256}
    assert [one.version for one in wanted.reports[-1]][1] == "4"
    wanted.promoted.clear()
    wanted.seconds += 2
    assert versions(models)[1] == ("middle", "3")
    assert len(wanted.reports) == 3


def test_a_version_that_cannot_be_loaded_leaves_the_one_before_it_and_says_so(wanted, shipped):
    models = wanted.in_force(shipped)
    fourth = wanted.new_version("4")
    wanted.promote(fourth)
    models.refresh()
    wanted.promote(ModelVersion("middle", "5", "55"))
    assert versions(models) == [("middle", "4")]
    (said,) = wanted.reports[-1]
    assert (said.version, said.sha256) == ("4", fourth.sha256)
    assert "there is no middle 5" in said.error
    wanted.promote(fourth)
    assert versions(models) == [("middle", "4")]
    assert wanted.reports[-1][0].error is None


def test_a_bundle_that_changed_since_its_promotion_is_not_taken(wanted, shipped):
    models = wanted.in_force(shipped)
    fourth = wanted.new_version("4")
    file = wanted.folder / "models" / "middle" / "4" / "bundle.json"
    file.write_text(file.read_text().replace('"slice": 1.0', '"slice": 99.0'))
    wanted.promote(fourth)
    assert versions(models) == [("middle", "3")]
    assert "changed since" in wanted.reports[-1][0].error


def test_a_promotion_stands_where_the_configured_bundle_is_gone(wanted):
    wanted.promote(wanted.new_version("4"))
    models = wanted.in_force("middle")
    assert models.loaded[0].version == "unavailable"
    assert versions(models) == [("middle", "4")]


def test_names_do_not_lead_out_of_the_folder_of_models(tmp_path):
    for name, version in (("..", "x"), ("forensic", "../.."), ("a/b", "1"), ("forensic", "..")):
        with pytest.raises(BundleError, match="no name and version"):
            find_version(tmp_path, None, name, version)
