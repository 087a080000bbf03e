"""``pacs-guard sbom``: what is installed beside the node, as a CycloneDX software bill of materials."""

from __future__ import annotations

import hashlib
import re
from importlib import metadata
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cyclonedx.model.component import Component


def print_sbom() -> None:
    """Print every distribution of this environment with version, licence and dependencies, and every shipped model."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom()
    found = {_normal(one.name): one for one in metadata.distributions()}
    components = {name: _component(one) for name, one in found.items()}
    bom.metadata.component = components.pop("pacs-guard")
    for component in (*components.values(), *_models()):
        bom.components.add(component)
    everything = components | {"pacs-guard": bom.metadata.component}
    for name, component in everything.items():
        needed = [everything[other] for other in _needs(found[name]) if other in everything]
        bom.register_dependency(component, needed)
    typer.echo(JsonV1Dot6(bom).output_as_string(indent=2))


def _component(distribution: metadata.Distribution) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    name = _normal(distribution.name)
    licence = _licence(distribution)
    return Component(
        type=ComponentType.APPLICATION if name == "pacs-guard" else ComponentType.LIBRARY,
        name=name,
        version=distribution.version,
        bom_ref=f"{name}@{distribution.version}",
        description=distribution.metadata["Summary"],
        purl=PackageURL("pypi", name=name, version=distribution.version),
        licenses=[DisjunctiveLicense(name=licence)] if licence else None,
    )


def _models() -> list[Component]:
    from cyclonedx.model import HashType
    from cyclonedx.model.component import Component, ComponentType

    from pacs_guard.detect.bundle import MANIFEST, list_bundles, load_bundle

    components = []
    for folder in list_bundles():
        bundle = load_bundle(folder)
        # the manifest lists the hash of every other file
        digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        components.append(
            Component(
                type=ComponentType.MACHINE_LEARNING_MODEL,
                name=bundle.name,
                version=bundle.version,
                bom_ref=f"model:{bundle.name}@{bundle.version}",
                hashes=[HashType.from_hashlib_alg("sha256", digest)],
            )
        )
    return components


def _licence(distribution: metadata.Distribution) -> str | None:
    """Return the SPDX expression, else the classifier's name; the free field may hold a whole text."""
    found = distribution.metadata.get_all("License-Expression") or [
        classifier.rpartition(" :: ")[2]
        for classifier in distribution.metadata.get_all("Classifier") or []
        if classifier.startswith("License ::")
    ]
    free = distribution.metadata["License"]
    if not found and free and "\n" not in free:
        found = [free]
    return ", ".join(found) or None


def _needs(distribution: metadata.Distribution) -> list[str]:
    """Return what a distribution asks for without any extra."""
    return sorted(
        {
            _normal(match.group())
            for requirement in distribution.requires or []
            if "extra ==" not in requirement and (match := re.match(r"[A-Za-z0-9._-]+", requirement))
        }
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
