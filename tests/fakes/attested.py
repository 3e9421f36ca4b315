"""Builds that carry a bill of materials and provenance, as `twinhull build` leaves them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from bedrock import strict
from bedrock.base64_bytes import Base64Bytes
from imagebuild.attest.archive import PackageId
from imagebuild.attest.licences import Licences
from imagebuild.attest.linked import Ecosystem, Linked
from imagebuild.attest.materials import DebianPackage, Materials, Own, ReleasePart, Wheel
from imagebuild.attest.provenance import BuildEnvironment, make_provenance
from imagebuild.attest.sbom import make_sbom
from imagebuild.definition.image import ImageDefinition
from tests.fakes.builds import write_build
from updater.documents.build_files import ARTIFACT_FILES
from updater.documents.release import Artifact, parse_release
from updater.documents.signatures import Detached, Signatures
from updater.documents.statement import ExternalParameters

GLIBC = DebianPackage(
    PackageId("libc6", "2.41-12", "amd64"),
    source="glibc",
    source_version="2.41-12",
    release="trixie",
    summary="GNU C Library",
    licences=Licences(names=("GPL-2+", "LGPL-2.1+")),
    sha256="aa" * 32,
    parts=(ReleasePart.ROOT, ReleasePart.INITRD),
)
KERNEL = DebianPackage(
    PackageId("linux-image-6.12-cloud-amd64", "6.12.5-1", "amd64"),
    source="linux-signed-amd64",
    source_version="6.12.5+1",
    release="trixie",
    summary="Linux",
    licences=Licences(names=("GPL-2",)),
    sha256=None,
    parts=(ReleasePart.ROOT, ReleasePart.KERNEL),
)
# As Debian's podman is: its fields name the sources, its program the standard library.
PODMAN = DebianPackage(
    PackageId("podman", "5.4.2+ds1-2+b2", "amd64"),
    source="podman",
    source_version="5.4.2+ds1-2",
    release="trixie",
    summary="containers",
    licences=Licences(names=("Apache-2.0",)),
    sha256="ff" * 32,
    parts=(ReleasePart.ROOT,),
    built_using=(("golang-1.24", "1.24.4-1"), ("runc", "1.1.15+ds1-2")),
    linked=frozenset((Linked(Ecosystem.GO, "stdlib", "1.24.4"),)),
)
BUILD_ONLY = replace(GLIBC, id=PackageId("perl-base", "5.40", "amd64"), source="perl", source_version="5.40", parts=())
WHEEL = Wheel("tuf", "7.0.1", "updates", Licences(expression="Apache-2.0 OR MIT"), "bb" * 32, shipped=True)
LEFT_OUT = replace(WHEEL, name="pycparser", shipped=False)
MATERIALS = Materials((GLIBC, KERNEL, BUILD_ONLY), (LEFT_OUT, WHEEL), Own("0.1.0", "cc" * 32))


def definition() -> ImageDefinition:
    return strict.read(ImageDefinition, {"id": "host"}, source="image.yaml")


def attested_build(
    folder: Path,
    *,
    version: str = "1.0.0",
    seed: int = 1,
    digest: str = "inputs",
    lock: bytes | None = None,
    definition_sha256: str = "dd" * 32,
    root: str = "ee" * 32,
    signatures: bytes | None = None,
) -> Path:
    """A build folder with `sbom.cdx.json` and `provenance.json`, and with lock and signatures when there are some.

    `root` is the SHA-256 of the root document that it bakes in: `Publisher.root_sha256` for a repository's own.
    """
    write_build(folder, version=version, seed=seed)
    release = parse_release((folder / "release.json").read_bytes(), source="release.json")
    sbom = make_sbom(definition(), release.version, MATERIALS, inputs_digest=digest)
    (folder / "sbom.cdx.json").write_bytes(sbom)
    release = replace(release, attachments={"sbom": artifact(sbom)} | ({"lock": artifact(lock)} if lock else {}))
    if lock:
        (folder / "image.lock").write_bytes(lock)
    (folder / "release.json").write_bytes(strict.dump_json(release))
    subjects = {name: sha256((folder / name).read_bytes()) for name in (*ARTIFACT_FILES.values(), "sbom.cdx.json")}
    asked = ExternalParameters("host", version, "", definition_sha256, root, sha256(lock) if lock else None)
    surroundings = BuildEnvironment("tools", "archive")
    (folder / "provenance.json").write_bytes(make_provenance(subjects, asked, MATERIALS, surroundings))
    return with_attachment(folder, "signatures", "signatures.json", signatures) if signatures else folder


def with_attachment(build: Path, name: str, file: str, content: bytes) -> Path:
    """The build with one more attachment, named by its release."""
    (build / file).write_bytes(content)
    release = parse_release((build / "release.json").read_bytes(), source="release.json")
    release = replace(release, attachments={**release.attachments, name: artifact(content)})
    (build / "release.json").write_bytes(strict.dump_json(release))
    return build


def signatures_with(certificate: str) -> Signatures:
    """Detached signatures of a build whose firmware certificates are this one (PEM)."""
    return Signatures(
        format=1,
        certificates=dict.fromkeys(("PK", "KEK", "db", "pcr"), certificate),
        files={name: Detached.of(b"der", unsigned_sha256="ab" * 32) for name in ("uki.efi", "loader.efi")},
        measured={"": Base64Bytes(b"signature")},
    )


def edit_json(path: Path, old: str, new: str) -> None:
    """Replace text in a JSON file; it must be there and the file must stay JSON."""
    text = path.read_text()
    assert old in text
    json.loads(text.replace(old, new))
    path.write_text(text.replace(old, new))


def artifact(content: bytes) -> Artifact:
    return Artifact(sha256(content), len(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
