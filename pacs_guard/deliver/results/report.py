"""The structured report: one Comprehensive SR by TID 1500 for a study, a measurement group for each finding."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from pacs_guard.deliver.results.codes import (
    ARTIFICIAL_INTELLIGENCE,
    CODING_SCHEME,
    COMMENT,
    COMPUTED_TOMOGRAPHY,
    KINDS,
    NO_UNITS,
    P_VALUE,
    REPORT,
    SCORE,
    SEVERITIES,
    SEVERITY,
)
from pacs_guard.domain.identifiers import IMPLEMENTATION_CLASS_UID
from pacs_guard.domain.verdict import FindingKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydicom.dataset import Dataset

    from pacs_guard.domain.instance import StoredInstance

MANUFACTURER = "PACS Guard"
DESCRIPTION = "PACS Guard: suspected alteration, not a diagnosis"
"""Series description, at most 64 characters."""
DISCLAIMER = (
    "Made by a machine that looks for altered pixels, and not reviewed by a person. "
    "It says nothing about the patient's health and is no diagnosis."
)
SERIES_NUMBER = 9701


def report(
    header: Dataset,
    instances: Sequence[StoredInstance],
    findings: Sequence[Mapping[str, Any]],
    *,
    versions: Mapping[str, str],
    node: str,
) -> ComprehensiveSR:
    """Return the report of a study's findings.

    Parameters
    ----------
    header : Dataset
        Patient and study.
    instances : sequence of StoredInstance
        All that were assessed; they become the report's evidence.
    findings : sequence of mapping
        As in ``evidence.json``, at least one.
    versions : mapping of str to str
        Bundle version of each detector.
    node : str
        AE title of the node.

    Notes
    -----
    A place is given by SCOORD, in pixels from the top left corner of the top left pixel, whose centre is (0.5, 0.5)
    (PS3.3 C.18.6.1.2); the findings' columns and rows count pixels from 0.
    """
    by_uid = {instance.key.sop_uid: instance for instance in instances}
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(node)),
        procedure_reported=COMPUTED_TOMOGRAPHY,
        imaging_measurements=[_group(number, one, by_uid, versions) for number, one in enumerate(findings, start=1)],
        title=REPORT,
    )
    content[0].ContentSequence.append(_comment(DISCLAIMER))
    document = ComprehensiveSR(
        evidence=[_evidence(header, instance) for instance in by_uid.values()],
        content=content,
        series_instance_uid=generate_uid(prefix=None),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description=DESCRIPTION,
        manufacturer_model_name=node,
        software_versions=[f"{name} {version}" for name, version in versions.items()],
        coding_schemes=[CODING_SCHEME],
    )
    document.StudyDescription = header.StudyDescription
    return document


def _observer(node: str) -> ObserverContext:
    attributes = DeviceObserverIdentifyingAttributes(
        uid=IMPLEMENTATION_CLASS_UID, name=node, manufacturer_name=MANUFACTURER, model_name=MANUFACTURER
    )
    return ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=attributes)


def _evidence(header: Dataset, instance: StoredInstance) -> Dataset:
    evidence = deepcopy(header)
    evidence.SOPClassUID = instance.sop_class_uid
    evidence.SOPInstanceUID = instance.key.sop_uid
    evidence.SeriesInstanceUID = instance.key.series_uid
    return evidence


def _group(
    number: int, finding: Mapping[str, Any], instances: Mapping[str, StoredInstance], versions: Mapping[str, str]
) -> Any:
    """Return a measurement group: with its region where the finding has a place, with its image where it has one."""
    detector = str(finding["detector"])
    kind = str(finding["kind"])
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=generate_uid(prefix=None), identifier=f"{detector} {kind} {number}"
        ),
        "finding_type": KINDS[kind],
        "algorithm_id": AlgorithmIdentification(
            name=detector,
            version=versions.get(detector, "unknown"),
            family=None if kind == FindingKind.INTEGRITY else ARTIFICIAL_INTELLIGENCE,
            manufacturer=MANUFACTURER,
        ),
        "measurements": _measurements(finding) or None,
        "qualitative_evaluations": [QualitativeEvaluation(SEVERITY, SEVERITIES[str(finding["severity"])])],
    }
    image = instances.get(finding["sop_uid"] or "")
    region = _region(finding, image) if image is not None else None
    group: Any
    if region is not None:
        group = PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    else:
        sources = [SourceImageForMeasurementGroup(image.sop_class_uid, image.key.sop_uid)] if image else None
        group = MeasurementsAndQualitativeEvaluations(source_images=sources, **common)
    group[0].ContentSequence.append(_comment(str(finding["sentence"])))
    return group


def _measurements(finding: Mapping[str, Any]) -> list[Measurement]:
    named = ((SCORE, finding["score"]), (P_VALUE, finding["p_value"]))
    return [Measurement(name, float(value), NO_UNITS) for name, value in named if value is not None]


def _region(finding: Mapping[str, Any], image: StoredInstance) -> ImageRegion | None:
    kind, points = graphic(finding)
    if not points:
        return None
    source = SourceImageForRegion(image.sop_class_uid, image.key.sop_uid)
    return ImageRegion(kind, np.array(points, np.float64), source)


def graphic(finding: Mapping[str, Any]) -> tuple[GraphicTypeValues, list[tuple[float, float]]]:
    """Return the shape of a finding's place, and its points as (column, row); none if it has no place.

    Examples
    --------
    >>> graphic({"box": [2, 5, 4, 6], "x": 2.0, "y": 5.0})[1]
    [(2.0, 5.0), (4.0, 5.0), (4.0, 6.0), (2.0, 6.0), (2.0, 5.0)]
    >>> graphic({"box": None, "x": 2.0, "y": 5.0})[1]
    [(2.5, 5.5)]
    """
    if finding["box"] is not None:
        x0, y0, x1, y1 = (float(value) for value in finding["box"])
        return GraphicTypeValues.POLYLINE, [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    if finding["x"] is not None and finding["y"] is not None:
        return GraphicTypeValues.POINT, [(float(finding["x"]) + 0.5, float(finding["y"]) + 0.5)]
    return GraphicTypeValues.POINT, []


def _comment(text: str) -> TextContentItem:
    return TextContentItem(COMMENT, text, RelationshipTypeValues.CONTAINS)
