import io
import json

import numpy as np
import pytest

from pacs_guard.detect.bundle import (
    FORMAT,
    MANIFEST,
    find_bundle,
    list_bundles,
    load_bundle,
    pack_arrays,
    save_bundle,
)
from pacs_guard.detect.registry import load_detector
from pacs_guard.errors import BundleError

MANIFEST_SECTIONS = {
    "name": "example",
    "version": "2.1",
    "detector": "none",
    "preprocessing": {},
    "operating_point": {},
    "calibration": {},
    "training_data": [],
    "figures": [],
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "example"
    files = {"weights.npz": pack_arrays({"a": np.arange(3.0)}), "MODEL_CARD.md": b"# example\n"}
    save_bundle(path, MANIFEST_SECTIONS, files)
    return path


def edit(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def test_a_saved_bundle_loads_with_its_arrays(folder):
    bundle = load_bundle(folder)
    assert (bundle.name, bundle.version, bundle.detector) == ("example", "2.1", "none")
    assert bundle.arrays("weights.npz")["a"].tolist() == [0, 1, 2]
    assert bundle.read("MODEL_CARD.md") == b"# example\n"


def test_equal_arrays_pack_to_equal_bytes():
    arrays = {"a": np.arange(5), "b": np.eye(2)}
    assert pack_arrays(arrays) == pack_arrays(dict(arrays))


def test_a_missing_file_is_named(folder):
    (folder / "weights.npz").unlink()
    with pytest.raises(BundleError, match=r"weights\.npz is missing"):
        load_bundle(folder)


def test_one_flipped_bit_is_found(folder):
    content = bytearray((folder / "weights.npz").read_bytes())
    content[40] ^= 1
    (folder / "weights.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"weights\.npz was altered"):
        load_bundle(folder)


def test_a_file_altered_after_loading_is_not_used(folder):
    bundle = load_bundle(folder)
    (folder / "weights.npz").write_bytes(pack_arrays({"a": np.zeros(3)}))
    with pytest.raises(BundleError, match="was altered"):
        bundle.arrays("weights.npz")


def test_an_unlisted_file_is_refused(folder):
    (folder / "more").mkdir()
    (folder / "more" / "extra.py").write_text("")
    with pytest.raises(BundleError, match=r"holds more/extra\.py"):
        load_bundle(folder)


def test_a_newer_format_asks_for_an_update(folder):
    edit(folder, format=FORMAT + 1)
    with pytest.raises(BundleError, match=f"has format {FORMAT + 1}; this release reads up to {FORMAT}"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "1"}', "{}", b"\xff\xfe".decode("latin-1")])
def test_a_malformed_manifest_is_one_clear_sentence(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=r"is malformed|has no format number"):
        load_bundle(folder)


@pytest.mark.parametrize("section", sorted({*MANIFEST_SECTIONS, "files"}))
def test_every_section_is_required(folder, section):
    edit(folder, **{section: None})
    with pytest.raises(BundleError, match=f"expected {section}"):
        load_bundle(folder)


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        load_bundle(tmp_path)


def test_a_listed_file_outside_the_folder_is_refused(folder):
    (folder.parent / "outside").write_bytes(b"x")
    edit(folder, files={"../outside": "0" * 64})
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(folder)


def test_a_symlinked_file_outside_the_folder_is_refused(folder):
    (folder / "MODEL_CARD.md").unlink()
    (folder.parent / "outside").write_bytes(b"# example\n")
    (folder / "MODEL_CARD.md").symlink_to(folder.parent / "outside")
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(folder)


def test_arrays_that_need_pickle_are_refused(tmp_path):
    packed = io.BytesIO()
    np.savez(packed, a=np.array([{"a": 1}], dtype=object))
    bundle = save_bundle(tmp_path / "b", MANIFEST_SECTIONS, {"weights.npz": packed.getvalue()})
    with pytest.raises(BundleError, match="no file of plain arrays"):
        bundle.arrays("weights.npz")


def test_what_is_no_archive_is_refused(tmp_path):
    bundle = save_bundle(tmp_path / "b", MANIFEST_SECTIONS, {"weights.npz": b"nonsense"})
    with pytest.raises(BundleError, match="no file of plain arrays"):
        bundle.arrays("weights.npz")


def test_own_folders_come_before_the_shipped_ones(folder):
    assert find_bundle("example", [folder.parent]) == folder
    assert folder in list_bundles([folder.parent])
    with pytest.raises(BundleError, match="there is no bundle 'nothing'"):
        find_bundle("nothing", [folder.parent])


def test_every_shipped_bundle_is_intact_and_readable():
    shipped = list_bundles()
    assert shipped
    for path in shipped:
        bundle = load_bundle(path)
        assert load_detector(bundle.name).version == bundle.version
        assert bundle.section("training_data")
        assert all(one["licence"] for one in bundle.section("training_data"))
        assert all(one["low"] <= one["value"] <= one["high"] and one["protocol"] for one in bundle.section("figures"))
        assert sum(one.stat().st_size for one in path.iterdir()) < 5_000_000


def test_a_bundle_for_an_unknown_detector_is_refused(folder):
    with pytest.raises(BundleError, match="is for detector 'none'"):
        load_detector(folder)


def test_the_rules_need_no_bundle():
    assert load_detector("integrity").name == "integrity"
