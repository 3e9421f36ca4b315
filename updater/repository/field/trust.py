"""What images trust, and whether hosts in the field could go on with them.

A build bakes in a root document (named by its hash in the provenance) and comes with Secure Boot certificates for a
machine's firmware (`signatures.json`).  A host that installs an image with another root of trust never takes an update
from this repository again; one whose firmware does not know the certificate does not boot it.

Rules: a build's root is one of the repository's, from which the chain of signatures leads to the current one (so a
rotated root is the same trust); its db certificates are those of the newest release of the image that names some, or
were added for its hosts before (`twinhull keys trust-boot`).
A build without provenance or without signatures says nothing, and nothing is refused for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from tuf.api.metadata import Root

from bedrock.digest import bytes_sha256, file_sha256
from keys.roles import BootRole, TufRole
from keys.secureboot.siglist import BootVariable, SignatureKind
from updater.documents.release import Release
from updater.documents.signatures import SIGNATURES, Signatures, parse_signatures
from updater.documents.slot_layout import Family
from updater.errors import RefusedError, RepositoryError
from updater.repository.field.layouts import releases_of
from updater.repository.field.room import family_of
from updater.repository.layout import Layout
from updater.repository.objects import read_object
from updater.repository.revocation.boot_trust import read_boot_trust
from updater.repository.role_documents import RepositoryState, read_document
from updater.repository.roots import follow_roots

_MAX_SIGNATURES_BYTES = 1 << 20
_SHORT = 16


@dataclass(frozen=True)
class TrustingBuild:
    """A build and what it trusts: the hash of its root document and its Secure Boot documents, each None if unknown."""

    release: Release
    root_sha256: str | None
    signatures: Signatures | None


def require_same_trust(layout: Layout, state: RepositoryState, builds: Sequence[TrustingBuild]) -> None:
    """Check that hosts which install these builds follow this repository and boot; reads only.

    Raises:
        RefusedError: A build trusts another root, or has other Secure Boot certificates than the releases before it.
        RepositoryError: A published document is missing.
    """
    problems = [*_root_problems(layout, state, builds), *_boot_problems(layout, state, builds)]
    if problems:
        raise RefusedError("\n".join((*problems, "nothing was published"))).with_hint(
            "build with the keys folder of this repository (--keys), which has its root.json; "
            "to renew a certificate, have hosts trust it first (twinhull keys trust-boot); "
            "when hosts are meant to change what they trust, add --allow-other-trust"
        )


def _root_problems(layout: Layout, state: RepositoryState, builds: Sequence[TrustingBuild]) -> Iterator[str]:
    for build in builds:
        if build.root_sha256 is not None and not _leads_here(layout, state, build.root_sha256):
            yield (
                f"{_title(build.release)} trusts the root with the SHA-256 {build.root_sha256[:_SHORT]}…, which is not "
                f"one of {layout.base}: hosts that install it would refuse every later update"
            )


def _leads_here(layout: Layout, state: RepositoryState, sha256: str) -> bool:
    """Whether a host that starts from the root document with this hash comes to the current one."""
    for version in layout.versions_on_disk(TufRole.ROOT):
        path = layout.role_file(TufRole.ROOT, version)
        if version <= state.root.signed.version and file_sha256(path) == sha256:
            try:
                return follow_roots(layout, read_document(path, Root)).raw == state.root.raw
            except (RefusedError, RepositoryError):
                return False
    return False


def _boot_problems(layout: Layout, state: RepositoryState, builds: Sequence[TrustingBuild]) -> Iterator[str]:
    for family in dict.fromkeys(family_of(build.release) for build in builds):
        ours = [build for build in builds if family_of(build.release) == family]
        before, added = _published_certificates(layout, state, family), _added_certificates(layout, state, family)
        for build in sorted(ours, key=lambda each: each.release.version):
            if build.signatures is None:
                continue
            found = certificates_of(build.signatures, source=_title(build.release))
            if before is not None and not found <= before[1] | added:
                yield (
                    f"{_title(build.release)} has the Secure Boot certificate {_shown(found)}, and "
                    f"{before[0]} has {_shown(before[1])}: firmware that knows only that one would not boot it"
                )
            before = before or (str(build.release.version), found)


def _published_certificates(
    layout: Layout, state: RepositoryState, family: Family
) -> tuple[str, frozenset[str]] | None:
    """The newest published release of a family that comes with certificates, and their fingerprints."""
    for release in reversed(releases_of(layout, state, family)):
        artifact = release.attachments.get(SIGNATURES)
        if artifact is None:
            continue
        source = f"{release.target_path}: {SIGNATURES}"
        if artifact.size_bytes > _MAX_SIGNATURES_BYTES or not artifact.objects:
            raise RefusedError(f"{source} has {artifact.size_bytes} bytes in {len(artifact.objects)} objects")
        stored = artifact.objects[0]
        data = read_object(layout.object_file(stored), stored, artifact)
        return str(release.version), certificates_of(parse_signatures(data, source=source), source=source)
    return None


def _added_certificates(layout: Layout, state: RepositoryState, family: Family) -> frozenset[str]:
    """The fingerprints of the certificates that hosts of a family add to their firmware's own."""
    trust = read_boot_trust(layout, state, family.image, family.architecture)
    return frozenset(
        bytes_sha256(each.data)
        for update in trust.updates
        if update.variable is BootVariable.DB
        for each in update.signatures
        if each.kind is SignatureKind.X509
    )


def certificates_of(signatures: Signatures, *, source: str) -> frozenset[str]:
    """The SHA-256 fingerprints of the certificates that firmware checks a UKI with.

    Raises:
        RefusedError: There is none, or one cannot be read.
    """
    pem = signatures.certificates[BootRole.DB.value]
    try:
        return frozenset(each.fingerprint(SHA256()).hex() for each in x509.load_pem_x509_certificates(pem.encode()))
    except ValueError as error:
        raise RefusedError(f"{source}: the certificate {BootRole.DB.value} cannot be read: {error}") from error


def _title(release: Release) -> str:
    return f"{release.image} {release.version} ({release.architecture.value})"


def _shown(fingerprints: frozenset[str]) -> str:
    return ", ".join(f"{each[:_SHORT]}…" for each in sorted(fingerprints))
