"""Reads, finds and compares the releases that the signed metadata names.

Rules: a document is parsed only after its hash matched; its content must agree with its path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tuf.api.metadata import TargetFile, Targets

from partitions.version import Version
from updater.documents.build_files import PROVENANCE
from updater.documents.channel import ReleaseReference
from updater.documents.release import WITHDRAWN, Architecture, Artifact, Artifacts, Release, parse_release
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.role_documents import Document, RepositoryState
from updater.repository.targets import read_target


def read_release(layout: Layout, state: RepositoryState, path: str) -> Release:
    """A published release by its target path.

    Raises:
        RepositoryError: It is not published, or its document is missing.
        RefusedError: The document is not the signed one, or describes another release.
        DocumentError: The document is not a release.
    """
    target = state.releases.signed.targets.get(path)
    if target is None:
        raise RepositoryError(f"{path.removeprefix('releases/').removesuffix('.json')} is not published here")
    release = parse_release(read_target(layout, target), source=path)
    if release.target_path != path:
        raise RefusedError(f"the target {path} describes {release.target_path}")
    return release


def reference_to(state: RepositoryState, release: Release) -> ReleaseReference:
    """A published release by the bytes of its document, as a channel names it."""
    return ReleaseReference(release.version, state.releases.signed.targets[release.target_path].hashes["sha256"])


def withdrawal(target: TargetFile) -> str | None:
    """Why a release was withdrawn; None when it was not."""
    custom = target.custom
    return str(custom[WITHDRAWN]) if isinstance(custom, dict) and WITHDRAWN in custom else None


def marked_withdrawn(target: TargetFile, reason: str) -> None:
    """Mark a target of the metadata that is about to be signed."""
    target.unrecognized_fields["custom"] = {**(target.custom or {}), WITHDRAWN: reason}


def published(state: RepositoryState, image: str) -> tuple[tuple[str, Architecture], ...]:
    """Version text and architecture of every published release of an image, as the target paths have them."""
    return tuple((version, arch) for name, version, arch in _split_all(state.releases) if name == image)


def published_images(state: RepositoryState) -> tuple[tuple[str, Architecture], ...]:
    """The images that have published releases, with their architectures, sorted."""
    found = {(image, architecture) for image, _, architecture in _split_all(state.releases)}
    return tuple(sorted(found, key=lambda each: (each[0], each[1].value)))


def rivals(state: RepositoryState, release: Release) -> tuple[str, ...]:
    """Published versions of the same image and architecture that no host could hold next to `release`.

    They differ in case or in zeros only (`Version.is_confusable_with`).
    """
    return tuple(
        version
        for version, architecture in published(state, release.image)
        if architecture is release.architecture and release.version.is_confusable_with(Version.from_text(version))
    )


def without_objects(release: Release) -> Release:
    """The release as the build wrote it; decides whether two releases with the same name are equal.

    The signed provenance is not part of it, because it is made when publishing.
    """
    plain = with_artifacts(release, (replace(artifact, objects=()) for artifact in artifacts_of(release).values()))
    return replace(
        plain,
        attachments={
            name: replace(attachment, objects=())
            for name, attachment in release.attachments.items()
            if name != PROVENANCE
        },
    )


def artifacts_of(release: Release) -> dict[str, Artifact]:
    """The artifacts by name, in the order they are handled."""
    parts = release.artifacts
    return {"uki": parts.uki, "root": parts.root, "verity": parts.verity}


def with_artifacts(release: Release, artifacts: Iterable[Artifact]) -> Release:
    """The release with other artifacts, in the order of `artifacts_of`."""
    uki, root, verity = artifacts
    return replace(release, artifacts=Artifacts(uki=uki, root=root, verity=verity))


def _split_all(document: Document[Targets]) -> Iterable[tuple[str, str, Architecture]]:
    known = {architecture.value: architecture for architecture in Architecture}
    for path in document.signed.targets:
        parts = path.removesuffix(".json").split("/")
        if len(parts) == 4 and parts[0] == "releases" and parts[3] in known:  # noqa: PLR2004 - releases/image/version/architecture
            yield parts[1], parts[2], known[parts[3]]
