from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.errors import SpoolError


def assembled(folder, **options):
    instances, _ = find_instances([folder])
    options.setdefault("from_network", True)
    return list(assemble_study(instances, Path("/"), **options))


def refusal_of(folder):
    (series,) = assembled(folder)
    assert series.volume is None
    return series.refusal


def test_shuffled_slices_become_a_volume_in_order(tmp_path, image, save):
    images = [image(z=2.5 * i, number=i + 1) for i in (2, 0, 3, 1)]
    (series,) = assembled(save(tmp_path / "s", images))
    volume = series.volume
    assert volume.hu.shape == (4, 32, 40)
    assert volume.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    assert volume.positions_mm[:, 2].tolist() == [0, 2.5, 5, 7.5]
    assert volume.sop_uids == tuple(images[i].SOPInstanceUID for i in (1, 3, 0, 2))
    first = np.frombuffer(images[1].PixelData, "<i2").reshape(32, 40).astype(int) - 1024
    assert np.array_equal(volume.hu[0], first)
    assert set(series.files) == set(volume.sop_uids)


def test_one_result_for_each_series(tmp_path, image, save):
    images = [image(z=2.5 * i, series=f"1.2.3.{k}", number=i + 1) for k in (1, 2) for i in range(3)]
    results = assembled(save(tmp_path / "s", images))
    assert [series.series_uid for series in results] == ["1.2.3.1", "1.2.3.2"]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_come_out_as_they_went_in(tmp_path, image, save, syntax):
    images = [image(z=2.5 * i, number=i + 1) for i in range(2)]
    plain = assembled(save(tmp_path / "plain", images))[0]
    for ds in images:
        ds.compress(syntax, generate_instance_uid=False)
    packed = assembled(save(tmp_path / "packed", images))[0]
    assert np.array_equal(plain.volume.hu, packed.volume.hu)
    assert [f.pixel_sha256 for f in plain.instances] == [f.pixel_sha256 for f in packed.instances]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"SOPClassUID": MRImageStorage, "Modality": "MR"}, "no CT image but MR Image Storage"),
        ({"Modality": "PT"}, "Modality is PT"),
        ({"PixelData": None}, "no pixel data"),
        ({"PixelData": b"\0\0"}, "cannot be decoded"),
        ({"PixelSpacing": None}, "PixelSpacing"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing"),
        ({"RescaleSlope": None}, "RescaleSlope"),
        ({"RescaleType": "MGML"}, "MGML"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angle"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
    ],
)
def test_what_is_no_slice_is_refused_with_its_reason(tmp_path, image, save, changes, reason):
    assert reason in refusal_of(save(tmp_path / "s", [image(**changes)]))


def test_one_unusable_slice_refuses_the_whole_series(tmp_path, image, save):
    images = [image(z=2.5 * i, number=i + 1) for i in range(4)]
    images[2].PixelData = b"\0\0"
    assert "1 of 4 instances" in refusal_of(save(tmp_path / "s", images))


def test_a_localizer_among_slices_is_left_out_and_noted(tmp_path, image, save):
    images = [image(z=2.5 * i, number=i + 1) for i in range(3)]
    images.append(image(number=9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    (series,) = assembled(save(tmp_path / "s", images))
    assert len(series.volume.hu) == 3
    assert len(series.instances) == 4
    assert "1 localizers were left out" in series.notes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "different orientations"),
        ({"PixelSpacing": [0.7, 0.9]}, "mixed PixelSpacing"),
        ({"Rows": 20, "Columns": 64}, "mixed sizes"),
        ({"ImagePositionPatient": None}, "1 of 3 slices have no ImagePositionPatient"),
    ],
)
def test_mixed_slices_are_refused(tmp_path, image, save, changes, reason):
    images = [image(z=2.5 * i, number=i + 1) for i in range(2)] + [image(z=5.0, number=3, **changes)]
    assert reason in refusal_of(save(tmp_path / "s", images))


def test_a_gap_is_refused_by_the_node_and_split_for_files(tmp_path, image, save):
    folder = save(tmp_path / "s", [image(z=z, number=i) for i, z in enumerate((0, 2.5, 5, 20, 22.5), start=1)])
    assert "gap of 15.00 mm between slices 3 and 4" in refusal_of(folder)
    pieces = assembled(folder, split_gaps=True, from_network=False)
    assert [len(series.volume.hu) for series in pieces] == [3, 2]
    assert [len(series.instances) for series in pieces] == [3, 2]


def test_files_at_hand_keep_what_is_usable_and_refuse_the_rest_apart(tmp_path, image, save):
    images = [image(z=2.5 * i, number=i + 1) for i in range(4)]
    images[3].PixelData = b"\0\0"
    good, bad = assembled(save(tmp_path / "s", images), split_gaps=True)
    assert len(good.volume.hu) == 3
    assert "cannot be decoded" in bad.refusal
    assert len(bad.instances) == 1


def test_a_single_slice_without_position_is_a_volume_that_says_so(tmp_path, image, save):
    (series,) = assembled(save(tmp_path / "s", [image(ImagePositionPatient=None, Modality=None)]))
    assert series.volume.hu.shape == (1, 32, 40)
    assert series.volume.spacing_mm[0] == 2.5
    assert any("no position" in note for note in series.notes)


def test_the_same_uid_with_other_pixels_keeps_both_facts_and_one_slice(tmp_path, image, save):
    images = [image(z=2.5 * i, number=i + 1) for i in range(3)]
    twin = image(z=2.5, number=2, seed=5, SOPInstanceUID=images[1].SOPInstanceUID)
    (series,) = assembled(save(tmp_path / "s", [*images, twin]))
    assert len(series.instances) == 4
    assert len(series.volume.hu) == 3
    assert np.array_equal(series.volume.hu[1].ravel() + 1024, np.frombuffer(images[1].PixelData, "<i2"))


def test_padding_written_as_an_unsigned_number_is_understood(tmp_path, image, save):
    ds = image()
    stored = np.frombuffer(ds.PixelData, "<i2").copy()
    stored[:5] = -100
    ds.PixelData = stored.tobytes()
    ds.add_new("PixelPaddingValue", "US", 65436)
    (series,) = assembled(save(tmp_path / "s", [ds]))
    assert series.volume.padding.sum() == 5


def test_file_meta_counts_only_when_others_wrote_it(tmp_path, image, save):
    folder = save(tmp_path / "s", [image()])
    assert assembled(folder)[0].instances[0].meta_sop_uid is None
    facts = assembled(folder, from_network=False)[0].instances[0]
    assert facts.meta_sop_uid == facts.sop_uid


def test_copies_of_one_header_in_two_folders_are_two_series_for_files(tmp_path, image, save):
    one, other = image(), image(seed=3)
    other.SOPInstanceUID = one.SOPInstanceUID
    save(tmp_path / "s" / "a", [one])
    save(tmp_path / "s" / "b", [other])
    assert len(assembled(tmp_path / "s", from_network=False)) == 2
    assert len(assembled(tmp_path / "s")) == 1


def test_an_absent_file_is_the_spools_error_not_a_refusal(tmp_path, image, save):
    folder = save(tmp_path / "s", [image()])
    instances, _ = find_instances([folder])
    (folder / "000.dcm").unlink()
    with pytest.raises(SpoolError, match="is gone from the spool"):
        list(assemble_study(instances, Path("/")))


def enhanced_image(image, positions):
    ds = image(SOPClassUID=EnhancedCTImageStorage)
    plane = np.frombuffer(ds.PixelData, "<i2")
    ds.NumberOfFrames = len(positions)
    ds.PixelData = np.concatenate([plane + i for i in range(len(positions))]).astype("<i2").tobytes()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    del ds.RescaleSlope, ds.RescaleIntercept
    measures, orientation, transform = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.8], 2.5
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, -1024, "HU"
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([transform])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    per_frame = []
    for z in positions:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        frame.PlanePositionSequence = Sequence([position])
        per_frame.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return ds


def test_an_enhanced_multi_frame_object_is_a_volume(tmp_path, image, save):
    ds = enhanced_image(image, [5.0, 0.0, 2.5])
    (series,) = assembled(save(tmp_path / "s", [ds]))
    assert series.refusal is None
    assert series.volume.hu.shape == (3, 32, 40)
    assert series.volume.positions_mm[:, 2].tolist() == [0, 2.5, 5]
    assert set(series.volume.sop_uids) == {ds.SOPInstanceUID}
    plane = np.frombuffer(ds.PixelData, "<i2").reshape(3, 32, 40)[1] - 1024
    assert np.array_equal(series.volume.hu[0], plane)


def test_an_enhanced_object_whose_functional_groups_miss_a_frame_is_refused(tmp_path, image, save):
    ds = enhanced_image(image, [0.0, 2.5])
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:1]
    assert "2 frames but functional groups for 1" in refusal_of(save(tmp_path / "s", [ds]))


def test_only_what_is_no_ct_slice_at_all_is_out_of_scope(tmp_path, image, save):
    (scout,) = assembled(
        save(tmp_path / "scout", [image(z=0, number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])])
    )
    assert scout.out_of_scope
    gap = [image(z=z, number=i + 1) for i, z in enumerate((0, 2.5, 10, 12.5))]
    (broken,) = assembled(save(tmp_path / "gap", gap))
    assert broken.refusal
    assert not broken.out_of_scope


def test_a_whole_stack_that_calls_itself_a_localizer_is_not_exempted(tmp_path, image, save):
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    images = [image(z=2.5 * i, number=i + 1, ImageType=kind) for i in range(10)]
    (series,) = assembled(save(tmp_path / "s", images))
    assert series.refusal
    assert not series.out_of_scope


def test_a_unit_that_is_written_out_is_hounsfield(tmp_path, image, save):
    (series,) = assembled(save(tmp_path / "s", [image(z=0, number=1, RescaleType="Houndsfield Unit")]))
    assert series.volume is not None


def test_what_is_no_ct_is_out_of_scope_although_its_pixels_cannot_be_read(tmp_path, image, save):
    broken = image(z=0, number=1, SOPClassUID=SecondaryCaptureImageStorage, PixelData=b"\0\0")
    (series,) = assembled(save(tmp_path / "s", [broken]))
    assert series.out_of_scope
    assert "secondary capture" in series.refusal


def test_several_frames_in_a_single_frame_object_are_named(tmp_path, image, save):
    ds = image(NumberOfFrames=2)
    ds.PixelData = ds.PixelData * 2
    assert "it has 2 frames; expected one" in refusal_of(save(tmp_path / "s", [ds]))


def test_a_header_without_samples_per_pixel_is_refused_not_raised(tmp_path, image, save):
    folder = save(tmp_path / "s", [image(SamplesPerPixel=None, PhotometricInterpretation="RGB")])
    assert "expected MONOCHROME2" in refusal_of(folder)


def test_damaged_bytes_end_in_a_volume_or_a_refusal(tmp_path, image, save):
    path = save(tmp_path / "s", [image()]) / "000.dcm"
    whole = path.read_bytes()
    header = len(whole) - len(image().PixelData)
    rng = np.random.default_rng(11)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(132, header, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(header, len(whole))] if rng.random() < 0.2 else damaged)
        for from_network in (True, False):
            for series in assembled(tmp_path / "s", from_network=from_network):
                assert (series.volume is None) == bool(series.refusal)
                outcomes.add(series.volume is None)
    assert outcomes == {True, False}


def test_no_text_of_a_header_gets_into_a_refusal_as_it_is(tmp_path, image, save):
    hostile = "\x1b[2J\r\nroot login ok\x07"
    for change in ({"RescaleType": hostile}, {"Modality": hostile}, {"PhotometricInterpretation": hostile}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = save(tmp_path / "-".join(change), [image(**change)])
        [series] = assembled(folder)
        assert "ROOT LOGIN OK" in series.refusal.upper()
        assert series.refusal.isprintable()
        assert all(facts.modality.isprintable() for facts in series.instances)
