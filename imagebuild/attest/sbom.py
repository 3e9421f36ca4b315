"""The bill of materials of a build: CycloneDX 1.6 in JSON, `sbom.cdx.json`.

It lists every component with something in the release, once, with the parts that hold it; its `bom-ref` is its purl.
Statically linked components are included, and the components that hold them depend on them.  Unknown facts are left
out or stated in a property, never guessed.
The same build gives the same bytes: the serial number comes from the inputs and the only time is the build's fixed one.
Source: CycloneDX 1.6 (ECMA-424); purl types `deb` and `pypi`; Debian's source package stands in the qualifier
`upstream`, as Syft and Grype have it.
Pure.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from imagebuild.attest.licences import Licences
from imagebuild.attest.linked import Linked
from imagebuild.attest.materials import DebianPackage, Materials, ReleasePart, Wheel
from imagebuild.definition.image import ImageDefinition
from imagebuild.paths import EPOCH
from partitions.version import Version

# Names of properties; CycloneDX wants a prefix of one's own.
PART, UNKNOWN_LICENCE = "twinhull:part", "twinhull:licence-unknown"
ARCHIVE = "twinhull:archive"
SOURCE, SOURCE_VERSION, RELEASE = "twinhull:debian-source", "twinhull:debian-source-version", "twinhull:debian-release"
# What the qualifier `arch` of a source package says.
SOURCE_ARCHITECTURE = "source"
_NAMESPACE = uuid.UUID("b37f2a0e-6f0c-5c0b-9d1d-0a8f5e3b7c11")


def make_sbom(definition: ImageDefinition, version: Version, materials: Materials, *, inputs_digest: str) -> bytes:
    """The document's bytes.

    Args:
        definition: What was built.
        version: Its version.
        materials: What it was put together from.
        inputs_digest: The hash of everything the build was made from; decides the serial number.
    """
    image = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=definition.id,
        version=str(version),
        purl=image_purl(definition.id, str(version)),
        bom_ref=image_purl(definition.id, str(version)).to_string(),
        properties=[Property(name=RELEASE, value=definition.release)],
    )
    shipped = [package for package in materials.packages if package.parts]
    components = [_debian(package) for package in shipped]
    components += [_wheel(wheel) for wheel in materials.wheels if wheel.shipped]
    components.append(_own(materials.own.version))
    inside = {debian_purl(package).to_string(): linked_purls(package) for package in shipped}
    loose = sorted(linked_purl(each).to_string() for each in materials.linked)
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, inputs_digest),
        components=[*components, *_linked(shipped, materials.linked)],
        dependencies=[
            _depends(image.bom_ref.value, (*(each.bom_ref.value for each in components), *loose)),
            *(_depends(each.bom_ref.value, inside.get(str(each.bom_ref.value), ())) for each in components),
        ],
    )
    bom.metadata.component = image
    bom.metadata.timestamp = datetime.fromtimestamp(EPOCH, UTC)
    bom.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="twinhull", version=materials.own.version)
    )
    # The library sorts what it writes.
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def debian_purl(package: DebianPackage) -> PackageURL:
    """The package URL of a binary package; what another source brought is in that source's namespace."""
    qualifiers = {"arch": package.id.architecture, "distro": package.release}
    if (package.source, package.source_version) != (package.id.name, package.id.version):
        same = package.source_version == package.id.version
        qualifiers["upstream"] = package.source if same else f"{package.source}@{package.source_version}"
    return PackageURL("deb", package.archive, package.id.name, package.id.version, qualifiers)


def wheel_purl(wheel: Wheel) -> PackageURL:
    """The package URL of a Python package."""
    return PackageURL("pypi", None, wheel.name, wheel.version)


def image_purl(image: str, version: str) -> PackageURL:
    """The package URL of an image; no registry knows it, so its type is the generic one."""
    return PackageURL("generic", None, image, version)


def linked_purl(linked: Linked) -> PackageURL:
    """The package URL of what a program says is linked in; Go's modules are named by their path."""
    namespace, _, name = linked.name.rpartition("/")
    return PackageURL(linked.ecosystem.value, namespace or None, name, linked.version)


def source_purl(name: str, version: str, release: str) -> PackageURL:
    """The package URL of a Debian source package."""
    return PackageURL("deb", "debian", name, version, {"arch": SOURCE_ARCHITECTURE, "distro": release})


def linked_purls(package: DebianPackage) -> tuple[str, ...]:
    """The package URLs of what is linked into a package statically: its maintainers' word, and its programs'."""
    sources = (source_purl(name, version, package.release) for name, version in package.built_using)
    return tuple(sorted(purl.to_string() for purl in (*sources, *map(linked_purl, package.linked))))


def _linked(packages: Iterable[DebianPackage], loose: Iterable[Linked]) -> Iterator[Component]:
    """What is linked in statically, each once, with the parts that its packages went into."""
    parts: dict[str, set[ReleasePart]] = {linked_purl(each).to_string(): {ReleasePart.ROOT} for each in loose}
    for package in packages:
        for text in linked_purls(package):
            parts.setdefault(text, set()).update(package.parts)
    for text in sorted(parts):
        purl = PackageURL.from_string(text)
        yield Component(
            type=ComponentType.LIBRARY,
            group=purl.namespace if purl.type != "deb" else None,
            name=purl.name,
            version=purl.version,
            purl=purl,
            bom_ref=text,
            properties=_parts(part for part in ReleasePart if part in parts[text]),
        )


def _depends(ref: str | None, others: Iterable[str | None]) -> Dependency:
    return Dependency(BomRef(ref), [Dependency(BomRef(other)) for other in others])


def _debian(package: DebianPackage) -> Component:
    purl = debian_purl(package)
    component = Component(
        type=ComponentType.LIBRARY,
        name=package.id.name,
        version=package.id.version,
        description=package.summary or None,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=_sha256(package.sha256),
        properties=[
            Property(name=ARCHIVE, value=package.archive),
            Property(name=SOURCE, value=package.source),
            Property(name=SOURCE_VERSION, value=package.source_version),
            Property(name=RELEASE, value=package.release),
            *_parts(package.parts),
        ],
    )
    return _licensed(component, package.licences)


def _wheel(wheel: Wheel) -> Component:
    purl = wheel_purl(wheel)
    component = Component(
        type=ComponentType.LIBRARY,
        name=wheel.name,
        version=wheel.version,
        description=wheel.summary or None,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=_sha256(wheel.sha256),
        properties=_parts((ReleasePart.AGENT,)),
    )
    return _licensed(component, wheel.licences)


def _own(version: str) -> Component:
    purl = PackageURL("generic", None, "twinhull-updater", version)
    component = Component(
        type=ComponentType.APPLICATION,
        name="twinhull-updater",
        version=version,
        description="The on-host agent",
        purl=purl,
        bom_ref=purl.to_string(),
        properties=_parts((ReleasePart.AGENT,)),
    )
    return _licensed(component, Licences(expression="Apache-2.0"))


def _licensed(component: Component, licences: Licences) -> Component:
    if licences.expression is not None:
        component.licenses.add(LicenseExpression(licences.expression))
    for name in licences.names:
        component.licenses.add(DisjunctiveLicense(name=name))
    if licences.unknown is not None:
        component.properties.add(Property(name=UNKNOWN_LICENCE, value=licences.unknown))
    return component


def _sha256(digest: str | None) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []


def _parts(parts: Iterable[ReleasePart]) -> list[Property]:
    return [Property(name=PART, value=part.value) for part in parts]
