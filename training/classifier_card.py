"""The model card of a slice classifier's bundle."""

from __future__ import annotations

from typing import Any

CARD = "MODEL_CARD.md"


def classifier_card(manifest: dict[str, Any]) -> str:
    """Return the card, in Markdown, of a bundle with this manifest."""
    figure, clean = manifest["figures"][0], manifest["calibration"]
    return "\n".join(
        [
            f"# {manifest['name']} {manifest['version']}",
            "",
            _WHAT[manifest["preprocessing"]["form"]],
            "",
            *(f"**{note}.**\n" for note in manifest["notes"]),
            "## Measured",
            "",
            f"{figure['name']}: {figure['value']} ({figure['low']} to {figure['high']}), {figure['n']}.",
            f"Protocol: {figure['protocol']}.",
            "",
            "## Operating point and false alarms",
            "",
            f"Findings from {manifest['operating_point']['slice']} on, above all of {clean['n']} clean patients.",
            f"The clean patients: {clean['judged']}.",
            *_left_out(clean["left_out_over_the_point"]),
            f"No p-value under {clean['smallest_p_value']} can be given.",
            *([] if clean.get("own") else [_CAUTION]),
            "",
            "## Trained on",
            "",
            *(f"- {one['name']}: {one['use']}. Licence: {one['licence']}." for one in manifest["training_data"]),
            "",
        ]
    )


def _left_out(alarms: int | None) -> list[str]:
    if alarms is None:
        return []
    return [f"Left out one at a time, {alarms} of them were over the point of the others."]


_ASSISTS = "It assists people; it is no medical device."

_WHAT = {
    "delocalised": "Gives every slice that shows lung, reduced to the lungs, to one classifier of Solaiyappan and Wen "
    f"2022. {_ASSISTS}",
    "localised": "Gives what surrounds a grid of places in the lungs, and everything that looks like a nodule, to one "
    f"classifier of Solaiyappan and Wen 2022. It was trained at known sites, and its figure is about those. {_ASSISTS}",
}

_CAUTION = (
    "Each patient gave some slices, not whole series: of a series of hundreds of slices the highest score will be "
    "higher. Calibrate on own clean series (`pacs-guard-train calibrate`), and begin in shadow mode."
)
