"""The model card that goes into a bundle."""

from __future__ import annotations

from typing import Any

CARD = "MODEL_CARD.md"

_LIDC = "LIDC-IDRI (Armato et al. 2011, doi 10.7937/K9/TCIA.2015.LO9QL9SX)"

TRAINING_DATA: list[dict[str, str]] = [
    {
        "name": "Deepfakes: Medical Image Tamper Detection (Mirsky et al. 2019), made from " + _LIDC,
        "use": "81 slices of 50 scans altered by CT-GAN: 52 removals (FB), 29 injections (FM)",
        "licence": "CC BY 4.0 (LIDC-IDRI: CC BY 3.0)",
    },
    {"name": _LIDC + ", patient 0001", "use": "untampered series", "licence": "CC BY 3.0"},
    {
        "name": "Lung-PET-CT-Dx (Li et al. 2020, doi 10.7937/TCIA.2020.NNC2-0461), patient A0001",
        "use": "untampered series with a large real tumour",
        "licence": "CC BY 4.0",
    },
    {
        "name": "CPTAC-LSCC, patient C3N-00247",
        "use": "untampered series, sharp kernel",
        "licence": "CC BY 3.0 (from memory, not confirmed on the collection's page)",
    },
    {
        "name": "Lung-Fused-CT-Pathology, patient LungFCP-01-0001",
        "use": "untampered series",
        "licence": "CC BY 3.0 (from memory, not confirmed)",
    },
    {
        "name": "ACRIN-FLT-Breast, patient 013",
        "use": "untampered series, very smooth",
        "licence": "CC BY 3.0 (from memory, not confirmed)",
    },
    {
        "name": "COVID-19-NY-SBU, 7 patients",
        "use": "untampered single slices",
        "licence": "CC BY 4.0 (from memory, not confirmed)",
    },
    {
        "name": "StageII-Colorectal-CT, LungCT-Diagnosis and the lungmask test data, 5 single slices",
        "use": "untampered single slices",
        "licence": "mixed; CC BY 3.0 for the two collections (from memory, not confirmed)",
    },
]


def model_card(manifest: dict[str, Any]) -> str:
    """Return the card of a fitted bundle, in Markdown."""
    figures = [
        f"| {one['name']} | {one['value']} | {one['low']} to {one['high']} | {one['n']} | {one['protocol']} |"
        for one in manifest["figures"]
    ]
    data = [f"- {one['name']}: {one['use']}. {one['licence']}." for one in manifest["training_data"]]
    return "\n".join(
        [
            f"# {manifest['name']} {manifest['version']}",
            "",
            _WHAT,
            "",
            "## Measured",
            "",
            "| figure | value | 95 % interval | n | protocol |",
            "|---|---|---|---|---|",
            *figures,
            "",
            "Score lines, thresholds and calibration come from networks that had not seen the patient.",
            "",
            "## Operating point and false alarms",
            "",
            *_calibration_lines(manifest),
            "",
            "## Trained on",
            "",
            *data,
            "",
            _LIMITS,
            "",
        ]
    )


def _calibration_lines(manifest: dict[str, Any]) -> list[str]:
    series, slices = (manifest["calibration"][of] for of in ("series", "slice"))
    point = manifest["operating_point"]
    margins, left_out = series["margin_deviations"], series["left_out_patients_over_the_point"]
    aimed, flagged, left_out_share, low, high = (
        f"{100 * share:.1f} %"
        for share in (
            slices["share_aimed_at_each_head"],
            slices["share_flagged"],
            slices["left_out_share_flagged"],
            *slices["left_out_share_interval"],
        )
    )
    interval = f"{low} to {high}"
    return [
        "| judged | FB from | FM from | clean patients | smallest p-value |",
        "|---|---|---|---|---|",
        *(
            f"| {of} | {point[of]['fb']} | {point[of]['fm']} | {clean['n']} | {clean['smallest_p_value']} |"
            for of, clean in (("series", series), ("slice", slices))
        ),
        "",
        "Scores are log-odds.",
        "",
        "- Series are judged by their highest score.",
        f"  The point is {margins['fb']} (FB) and {margins['fm']} (FM) deviations of the upper half of the clean over",
        "  the highest: the smallest from one upwards at which no patient left out was over the others' point.",
        f"  With the margin, too, chosen by the others, {left_out['fb']} (FB) and {left_out['fm']} (FM) were over it.",
        "  With so few of them no false alarm rate near 1 % can be claimed.",
        f"- Single slices: {sum(slices['slices'])} clean ones, every patient counting once.",
        f"  The points are the smallest that at most {aimed} of these reach for each head.",
        f"  Together the heads flag {flagged} of them.",
        f"  Of patients left out, at points from the others, they flag {left_out_share} (95 % interval {interval}):",
        "  the better estimate for new patients, as a single one of few decides a point.",
        f"  {slices['left_out_patients_with_a_flagged_slice']} of the {slices['n']} had such a slice.",
        "- Calibrate on clean series of the own scanners, and begin in shadow mode.",
    ]


_WHAT = """Looks for altered noise texture over the lungs of every axial CT slice. Two heads of small networks work on
hand-made residual features (strength, energy, tails, asymmetry, correlation of pixels): one in lung tissue (removed
tumours, FB), one in soft tissue in and on the lungs (injected tumours, FM). Features are relative to the same tissue of
the same slice; headers, the shape of what is seen and absolute Hounsfield units do not enter. Whole series are also
searched for noise that repeats the place that CT-GAN's code copies it from, for tissue that occurs twice voxel by
voxel, and for traces of resampling or of few grey levels over all of the series. It assists people; it is no medical
device."""

_LIMITS = """## Limits

- One attack (CT-GAN) from one source was to be had. Another generator, or noise matched to the scanner's, may pass.
- All altered slices come from one data set, all clean series from others. Within-slice negatives, within-slice
  normalisation and the figures for the place found guard against learning the source; the slice AUC against clean
  slices does not rule it out.
- Whole series are judged strictly, above the highest of few clean patients: the figures say how many simulated edits
  are missed there. Noise that was copied tells only where it came from the place that CT-GAN's code takes it from, and
  lies over enough lung; tissue that was copied only where it was neither resampled nor covered with noise.
- Only single altered slices of the attack were to be had. The agreement between neighbouring slices, which a series is
  judged by, was measured on clean series and on simulated edits of them. The shipped networks have seen simulated
  attacks of three families on the clean series; the figures are from networks that had not seen the family. A nodule
  spliced in with its scanner's noise is seen by neither head. Simulated attacks are simple: another generator may fare
  differently.
- Features were chosen among five variants by the same cross-validation that the figures are from (strengths alone, with
  moments, with the other tissue, with both, and a second stage on the maps): the figures are a little optimistic.
- The rule for the series' margin (deviations of the upper half) was chosen after the scores of the clean patients here
  were known, and another random seed of the networks gave lower figures in an earlier trial (FB first guess .81, slice
  AUC FB .968, FM .947): the figures are a little optimistic for that too.
- Real nodules that a radiologist marked are those of one patient.
- Slices without lung, other than axial, and other modalities are not judged."""
