"""`release.json`: one built version of one image for one architecture, as it crosses the wire.

`twinhull build` writes it with the plain artifacts; `twinhull repo publish` adds, per artifact, the content-addressed
objects that carry it, and signs the result as the TUF target `releases/<image>/<version>/<architecture>.json`.
It grows by `bedrock.evolution`.  Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from bedrock import evolution, strict
from partitions.version import Version

FORMAT = 1
MAX_DOCUMENT_BYTES = 1 << 20
# In the signed metadata, next to a release's hash: why no host may install it any more.
WITHDRAWN = "withdrawn"
# In every document of signed metadata: when it was signed.  It is past for whoever verified it.
SIGNED_AT = "x-twinhull-signed-at"

Sha256 = Annotated[str, strict.Pattern(r"[0-9a-f]{64}", "64 hexadecimal digits")]
Name = Annotated[str, strict.Pattern(r"[a-z0-9][a-z0-9-]{0,62}", "a name of a-z, 0-9 and -, at most 63 long")]
AttachmentName = Annotated[str, strict.Pattern(r"[a-z][a-z0-9-]{0,31}", "an attachment's name of a-z, 0-9 and -")]
ProfileName = Annotated[str, strict.Pattern(r"[a-z][a-z0-9-]{0,31}", "a profile's name of a-z, 0-9 and -")]
ArtifactBytes = Annotated[int, strict.Range(1, 1 << 44)]


class Architecture(Enum):
    """CPU architectures, in systemd's spelling."""

    X86_64 = "x86-64"
    ARM64 = "arm64"


class ArtifactKind(Enum):
    """The files of a slot, by their keys in `artifacts`."""

    UKI = "uki"
    ROOT = "root"
    VERITY = "verity"

    @property
    def file_name(self) -> str:
        """The file's name in the folder of a build."""
        return _FILE_NAMES[self]


_FILE_NAMES = {ArtifactKind.UKI: "uki.efi", ArtifactKind.ROOT: "root.erofs", ArtifactKind.VERITY: "root.verity"}


class Compression(Enum):
    """The encoding of an artifact's bytes in an object."""

    NONE = "none"
    ZSTD = "zstd"


class ObjectKind(Enum):
    """What an object holds of an artifact."""

    FULL = "full"


@dataclass(frozen=True)
class StoredObject:
    """A content-addressed file of the repository: `objects/<first two digits>/<sha256>`."""

    sha256: Sha256
    size_bytes: ArtifactBytes
    compression: Compression
    kind: ObjectKind = ObjectKind.FULL

    @property
    def path(self) -> str:
        """The object's path below the repository's base, with `/` between parts."""
        return f"objects/{self.sha256[:2]}/{self.sha256}"


@dataclass(frozen=True)
class Artifact:
    """One file of a release: its own hash and length, and (once published) the objects that carry it.

    Each object is a way of its own to the same bytes; one of a kind or compression that is new here is passed over.
    """

    sha256: Sha256
    size_bytes: ArtifactBytes
    objects: Annotated[tuple[StoredObject, ...], strict.Alternatives(("kind", "compression"))] = ()


@dataclass(frozen=True)
class Artifacts:
    """The files of a slot: the UKI, the root filesystem and its verity tree (superblock included)."""

    uki: Artifact
    root: Artifact
    verity: Artifact

    def __post_init__(self) -> None:
        for name in ("root", "verity"):
            if getattr(self, name).size_bytes % 4096:
                raise ValueError(f"{name}.size_bytes must be a multiple of 4096")


@dataclass(frozen=True)
class Release:
    """A release: its name, the root hash that identifies it on a disk, its artifacts, and documents about it.

    Attributes:
        attachments: Documents for people and scanners (bill of materials, provenance), carried like artifacts.  A host
            neither needs nor fetches them, and an unknown name is not an error.
        profile: The profile it was built with, such as `debug`, which is not for hosts in the field.
    """

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    image: Name
    version: Version
    architecture: Architecture
    root_hash: Sha256
    artifacts: Artifacts
    attachments: dict[AttachmentName, Artifact] = field(default_factory=dict)
    profile: ProfileName | None = None

    @property
    def target_path(self) -> str:
        """The release's TUF target path."""
        return release_path(self.image, self.version, self.architecture)


@dataclass(frozen=True)
class SignedRelease:
    """A release, and the SHA-256 of the document that it was read from, after the signatures over it were checked."""

    release: Release
    sha256: Sha256


def release_path(image: str, version: Version, architecture: Architecture) -> str:
    """The TUF target path of a release."""
    return f"releases/{image}/{version}/{architecture.value}.json"


def parse_release(data: bytes, *, source: str) -> Release:
    """Read a release document.

    Raises:
        DocumentError: Not JSON, a critical key that is new here, wrong types, or values out of range.
    """
    return evolution.read_json(Release, data, source=source)


def parse_release_whole(data: bytes, *, source: str) -> Release:
    """Read a release document that must hold nothing new to this program.

    Raises:
        DocumentError: As `parse_release`, and for each key or object that is new here.
    """
    return evolution.read_to_rewrite(Release, data, source=source)
