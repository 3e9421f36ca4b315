"""The report on a published release: what it is, what hosts download of it, and the packages it names.

Everything is taken from signed documents and from objects whose hashes were checked.  What only a build's own folder
knows (which package a file came from, and why) is not part of a release.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model.bom import Bom

from bedrock.progress import Progress
from imagebuild.inspection.costs import Cost
from partitions.version import Version
from updater.documents.bom import parse_bom
from updater.documents.build_files import RELEASE_FILES, SBOM, SBOM_FILE
from updater.documents.release import Architecture, Artifact
from updater.repository.channels import ReleaseChoice
from updater.repository.extract import Extracted, extract
from updater.repository.releases import artifacts_of


@dataclass(frozen=True)
class PublishedPackage:
    """A component of the image as its bill of materials names it."""

    name: str
    version: str | None
    purl: str


@dataclass(frozen=True)
class PublishedInspection:
    """What is reported about a published release.

    Attributes:
        image: The image.
        version: The version.
        architecture: The architecture.
        root_hash: The root hash of its root filesystem.
        profile: The profile it was built with.
        wire_bytes: What a host downloads.
        artifacts: Sizes by file, raw and as a host downloads it.
        attachments: Sizes of the documents about it, by file.
        root_of_trust_sha256: The root document that its hosts trust; None without provenance.
        packages: What its bill of materials names, by name; empty without one.
    """

    image: str
    version: Version
    architecture: Architecture
    root_hash: str
    profile: str | None
    wire_bytes: int
    artifacts: dict[str, Cost]
    attachments: dict[str, Cost]
    root_of_trust_sha256: str | None
    packages: tuple[PublishedPackage, ...]


def inspect_published(
    base: Path, choice: ReleaseChoice, *, scratch: Path, progress: Progress, trusted_root: bytes | None = None
) -> PublishedInspection:
    """Look into a published release, every byte of which is checked; writes below the folder `scratch` only.

    Raises:
        RepositoryError: There is no repository, or no such release in it.
        RefusedError: A signature, a length or a hash does not hold.
        DocumentError: A signed document cannot be read.
    """
    taken = extract(base, choice, scratch / "published", progress=progress, trusted_root=trusted_root)
    release, statement = taken.release, taken.statement
    artifacts = dict(_costs(artifacts_of(release)))
    return PublishedInspection(
        image=release.image,
        version=release.version,
        architecture=release.architecture,
        root_hash=release.root_hash,
        profile=release.profile,
        wire_bytes=sum(cost.wire_bytes for cost in artifacts.values()),
        artifacts=artifacts,
        attachments=dict(_costs(release.attachments)),
        root_of_trust_sha256=statement.predicate.buildDefinition.externalParameters.rootOfTrustSha256
        if statement
        else None,
        packages=tuple(_packages(taken)),
    )


def _costs(named: dict[str, Artifact]) -> Iterator[tuple[str, Cost]]:
    for name, artifact in named.items():
        wire = min((stored.size_bytes for stored in artifact.objects), default=0)
        yield RELEASE_FILES.get(name, name), Cost(artifact.size_bytes, wire)


def _packages(taken: Extracted) -> list[PublishedPackage]:
    if SBOM not in taken.release.attachments:
        return []
    bom: Bom = parse_bom((taken.folder / SBOM_FILE).read_bytes(), source=SBOM_FILE)
    found = [
        PublishedPackage(each.name, each.version, str(each.purl)) for each in bom.components if each.purl is not None
    ]
    return sorted(found, key=lambda each: (each.name, each.version or ""))
