"""The shipped packages of a bill of materials that Debian's security tracker covers.

Components are found by their purl, so documents of other programs can be read too: Debian's source package is in our
properties, else in the qualifier `upstream`.  A statically linked source package counts for the packages that depend
on it.
Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from packageurl import PackageURL

from bedrock.errors import DocumentError, Problem
from imagebuild.attest.sbom import SOURCE, SOURCE_ARCHITECTURE, SOURCE_VERSION

_SIGNED = "linux-signed-"


@dataclass(frozen=True, order=True)
class SourcePackage:
    """A Debian source package at one version, in one Debian release."""

    name: str
    version: str
    release: str


@dataclass(frozen=True)
class Inventory:
    """The source packages of which something is shipped, with the purls of what is; and the image's own purl.

    `foreign` are packages that did not come from Debian, so that its tracker says nothing about them.
    """

    image: PackageURL | None
    sources: dict[SourcePackage, tuple[PackageURL, ...]]
    foreign: tuple[str, ...] = ()


def take_inventory(bom: Bom, *, source: str) -> Inventory:
    """Read the inventory from a bill of materials.

    Raises:
        DocumentError: It names no Debian package, or one without version or release.
    """
    found: dict[SourcePackage, list[PackageURL]] = defaultdict(list)
    linked_into = _linked_into(bom)
    problems = []
    for component in bom.components:
        purl = component.purl
        if purl is None or (purl.type, purl.namespace) != ("deb", "debian"):
            continue
        release = _qualifiers(purl).get("distro")
        if not purl.version or not release:
            problems.append(Problem(f"components.{component.name}.purl", f"{purl} has no version or no distro"))
            continue
        name, version = _source(component, purl)
        found[SourcePackage(name, version, release)] += linked_into.get(str(component.bom_ref.value)) or [purl]
    if not found and not problems:
        problems.append(Problem("components", "there is no Debian package among them"))
    if problems:
        raise DocumentError(source, tuple(problems))
    subject = bom.metadata.component
    sources = {each: tuple(sorted(set(found[each]), key=str)) for each in sorted(found)}
    foreign = (each.purl for each in bom.components if each.purl is not None and each.purl.type == "deb")
    names = sorted(f"{purl.name} ({purl.namespace})" for purl in foreign if purl.namespace != "debian")
    return Inventory(subject.purl if subject else None, sources, tuple(names))


def _linked_into(bom: Bom) -> dict[str, list[PackageURL]]:
    """The packages that a source package is linked into, by its `bom-ref`: those that depend on it."""
    purls = {component.bom_ref.value: component.purl for component in bom.components if component.purl}
    sources = {ref for ref, purl in purls.items() if _qualifiers(purl).get("arch") == SOURCE_ARCHITECTURE}
    found: dict[str, list[PackageURL]] = defaultdict(list)
    for package in bom.dependencies:
        for each in package.dependencies:
            if each.ref.value in sources and package.ref.value in purls:
                found[str(each.ref.value)].append(purls[package.ref.value])
    return found


def _source(component: Component, purl: PackageURL) -> tuple[str, str]:
    """The source package the tracker knows, and its version."""
    properties = {each.name: each.value or "" for each in component.properties}
    upstream, _, upstream_version = _qualifiers(purl).get("upstream", "").partition("@")
    name = properties.get(SOURCE) or upstream or purl.name
    version = properties.get(SOURCE_VERSION) or upstream_version or str(purl.version)
    # Signed kernels come from a source package of their own, which the tracker does not follow; the binary package has
    # the version of the source it was compiled from.
    return ("linux", str(purl.version)) if name.startswith(_SIGNED) else (name, version)


def _qualifiers(purl: PackageURL) -> dict[str, str]:
    return dict(purl.qualifiers) if isinstance(purl.qualifiers, dict) else {}
