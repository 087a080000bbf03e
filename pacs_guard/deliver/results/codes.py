"""Codes of the report: standard ones where a context group has them, and the project's own coding scheme."""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99PACSGUARD"
CODING_SCHEME = CodingSchemeIdentificationItem(
    designator=PRIVATE_SCHEME, name="PACS Guard findings", version="1", responsible_organization="PACS Guard"
)
"""Declared in every report, as PS3.3 C.12.1.1.4 asks of private schemes."""

REPORT = Code("126000", "DCM", "Imaging Measurement Report")
COMPUTED_TOMOGRAPHY = Code("77477000", "SCT", "Computed tomography")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
COMMENT = Code("121106", "DCM", "Comment")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
NO_UNITS = Code("1", "UCUM", "no units")

SCORE = Code("score", PRIVATE_SCHEME, "Detector score, larger is more suspicious")
P_VALUE = Code("p-value", PRIVATE_SCHEME, "Probability of such a score on an unaltered series")
SEVERITY = Code("severity", PRIVATE_SCHEME, "Severity of the finding")

KINDS = {
    "FB": Code("FB", PRIVATE_SCHEME, "False benign: a structure may have been removed"),
    "FM": Code("FM", PRIVATE_SCHEME, "False malignant: a structure may have been injected"),
    "whole": Code("whole", PRIVATE_SCHEME, "The series as a whole is not as its scanner makes it"),
    "integrity": Code("integrity", PRIVATE_SCHEME, "The instances contradict themselves or one another"),
}
"""By `pacs_guard.domain.verdict.FindingKind`."""
SEVERITIES = {
    "suspect": Code("suspect", PRIVATE_SCHEME, "Reason enough to hold the study"),
    "notice": Code("notice", PRIVATE_SCHEME, "Worth recording, not worth holding the study"),
}
