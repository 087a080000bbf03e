from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom import uid
from pynetdicom import build_context
from pynetdicom.presentation import negotiate_as_acceptor

from pacs_guard.receive.negotiation import (
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    is_stored,
    needs_service_class,
    settle_transfer_syntaxes,
    supported_contexts,
)


@pytest.mark.parametrize(
    "syntax",
    [
        *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless),
        *(uid.DeflatedExplicitVRLittleEndian, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless),
        *(uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
        *(uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K, uid.MPEG2MPML, uid.MPEG4HP41, uid.HEVCMP51),
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_transfer_syntaxes_that_a_pacs_meets_are_kept(syntax):
    assert syntax in TRANSFER_SYNTAXES


def test_transfer_syntaxes_whose_pixels_are_elsewhere_are_not():
    assert not TRANSFER_SYNTAXES & {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.2.7.1"}


@pytest.mark.parametrize(
    ("sop_class", "stored", "where_unknown_are"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", True, True),  # CT Image
        ("1.2.840.10008.5.1.4.1.1.2.1", True, True),  # Enhanced CT Image
        ("1.2.840.10008.5.1.4.1.1.88.67", True, True),  # X-Ray Radiation Dose SR
        ("1.2.840.10008.5.1.4.1.1.5", True, True),  # Nuclear Medicine Image, retired
        ("1.2.840.10008.5.1.4.38.1", False, False),  # Hanging Protocol: no study
        ("1.2.840.10008.5.1.4.1.2.2.1", False, False),  # Study Root Query/Retrieve FIND
        ("1.2.840.10008.1.20.1", False, False),  # Storage Commitment Push Model
        ("1.2.840.10008.1.2.1", False, False),  # no SOP class at all
        ("1.3.12.2.1107.5.9.1", False, True),  # a manufacturer's own
        ("1.2.840.10008.5.1.4.1.1.999.7", False, True),  # newer than this release
    ],
)
def test_which_sop_classes_are_stored(sop_class, stored, where_unknown_are):
    assert is_stored(sop_class, unknown=False) is stored
    assert is_stored(sop_class, unknown=True) is where_unknown_are


def test_library_is_told_of_the_storage_classes_that_it_does_not_know():
    assert not needs_service_class("1.2.840.10008.5.1.4.1.1.2")
    assert needs_service_class("1.2.840.10008.5.1.4.1.1.5")
    assert needs_service_class("1.3.12.2.1107.5.9.1")


def test_first_syntax_that_can_be_kept_is_settled_on_for_each_context():
    proposed = [
        build_context("1.2.840.10008.5.1.4.1.1.2", [uid.JPEG2000Lossless, uid.ImplicitVRLittleEndian]),
        build_context("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2.4.94", uid.ImplicitVRLittleEndian]),
        build_context("1.2.840.10008.5.1.4.1.1.2", ["1.3.12.2.1107.5.9.2"]),
    ]
    settle_transfer_syntaxes(proposed)
    assert [context.transfer_syntax for context in proposed] == [
        [uid.JPEG2000Lossless],
        [uid.ImplicitVRLittleEndian],
        ["1.3.12.2.1107.5.9.2"],
    ]


def test_only_what_is_proposed_is_supported_and_once():
    proposed = [build_context(sop_class) for sop_class in ("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2") * 2]
    supported = supported_contexts([*proposed, build_context("1.2.3")], unknown=False)
    assert [context.abstract_syntax for context in supported] == ["1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2"]
    assert set(supported[0].transfer_syntax) == set(proposed[0].transfer_syntax)
    assert "1.2.840.10008.1.1" not in STORAGE_SOP_CLASSES


def test_peer_whose_transfer_syntaxes_cannot_be_kept_is_told_so():
    proposed = [build_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.94")]  # JPIP Referenced
    proposed[0].context_id = 1
    settle_transfer_syntaxes(proposed)
    [context], _ = negotiate_as_acceptor(proposed, supported_contexts(proposed, unknown=False))
    assert context.result == 4, "transfer syntaxes not supported (PS3.8 table 9-18)"


def test_receiver_starts_without_the_heavy_libraries():
    code = "import sys, pacs_guard.receive.receiver; print([n for n in {heavy} if n in sys.modules])"
    heavy = [
        "tensorflow",
        "keras",
        "sklearn",
        "scipy",
        "pacs_guard.detect",
        "pacs_guard.deliver",
        "pacs_guard.assemble",
    ]
    shown = subprocess.run(
        [sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"
