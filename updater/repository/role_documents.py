"""The signed role documents of a repository: read from the disk, and checked against the role that delegates to them.

Rules: a document counts only when enough different keys of its role signed it; expired ones count here, for an expired
repository must stay repairable.
Source: TUF specification 1.0.34, sections 4 (formats) and 5 (client workflow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError, SerializationError

from keys.roles import TufRole
from updater.documents.role_keys import role_key_problems
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout

T = TypeVar("T", Root, Targets, Snapshot, Timestamp)
Delegator = Root | Targets

DELEGATED_PATHS = {TufRole.RELEASES: "releases/*/*/*", TufRole.CHANNELS: "channels/*"}
# Delegators first; the snapshot and the timestamp, which name the others, last.
WRITING_ORDER = (TufRole.ROOT, TufRole.TARGETS, TufRole.RELEASES, TufRole.CHANNELS, TufRole.SNAPSHOT, TufRole.TIMESTAMP)
IN_SNAPSHOT = (TufRole.TARGETS, TufRole.RELEASES, TufRole.CHANNELS)


@dataclass(frozen=True)
class Document(Generic[T]):
    """A signed document and the exact bytes it was read from, whose hash other documents name."""

    metadata: Metadata[T]
    raw: bytes

    @property
    def signed(self) -> T:
        """What was signed; to change it, change a `copy`."""
        return self.metadata.signed

    def copy(self) -> T:
        """The signed part, free to be changed."""
        return Metadata[T].from_bytes(self.raw).signed

    def meta(self) -> MetaFile:
        """The document's entry in the one above it: version, length and hash."""
        return MetaFile.from_data(self.signed.version, self.raw, ["sha256"])


@dataclass(frozen=True)
class LeftOut:
    """A document newer than the snapshot's that does not count, and why."""

    role: TufRole
    version: int
    reason: str

    def __str__(self) -> str:
        return f"{self.version}.{self.role.value}.json is left out: {self.reason}"


@dataclass(frozen=True)
class RepositoryState:
    """All role documents of a repository at one moment.

    Attributes:
        root: The newest root, and so on.
        former_roots: Older roots that the newest one's keys vouch for, ascending.
        outdated: Roles whose documents only a former root vouches for: a key was exchanged, and they are to be signed.
        newer_snapshot: A snapshot was signed that the timestamp does not name, and the documents are those of it.
        waiting: Roles whose documents no snapshot names yet: they were submitted.
        left_out: Documents that were submitted and do not count.
    """

    root: Document[Root]
    targets: Document[Targets]
    releases: Document[Targets]
    channels: Document[Targets]
    snapshot: Document[Snapshot]
    timestamp: Document[Timestamp]
    former_roots: tuple[Document[Root], ...] = ()
    outdated: tuple[TufRole, ...] = ()
    newer_snapshot: bool = False
    waiting: tuple[TufRole, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def unfinished(self) -> bool:
        """Whether hosts see less than there is until snapshot and timestamp are signed again."""
        return self.newer_snapshot or bool(self.waiting) or bool(self.outdated)

    def documents(self) -> dict[TufRole, Document[Any]]:
        """The documents by role."""
        return {
            TufRole.ROOT: self.root,
            TufRole.TARGETS: self.targets,
            TufRole.RELEASES: self.releases,
            TufRole.CHANNELS: self.channels,
            TufRole.SNAPSHOT: self.snapshot,
            TufRole.TIMESTAMP: self.timestamp,
        }


def read_document(path: Path, kind: type[T]) -> Document[T]:
    """Read one document without checking its signatures.

    Raises:
        RepositoryError: It is missing, not TUF metadata, or of another type.
        RefusedError: It gives a role one public key twice, or a threshold that is not a number.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise RepositoryError(f"{path} is missing").with_hint(
            f"is {path.parent.parent} a repository? make one: twinhull repo init DIR --keys DIR"
        ) from error
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read as signed metadata: {error}") from error
    return parse_document(raw, kind, source=str(path))


def parse_document(raw: bytes, kind: type[T], *, source: str) -> Document[T]:
    """Read the bytes of one document without checking its signatures.

    Raises:
        RepositoryError: It is not TUF metadata, or of another type.
        RefusedError: It gives a role one public key twice, or a threshold that is not a number.
    """
    try:
        metadata = Metadata[T].from_bytes(raw)
    except DeserializationError as error:
        raise RepositoryError(f"{source} cannot be read as signed metadata: {error}") from error
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{source} holds {metadata.signed.type} metadata, not {kind.type}")
    if problems := role_key_problems(raw):
        raise RefusedError(f"{source} is refused: {'; '.join(problems)}")
    return Document(metadata, raw)


def check_signatures(delegator: Delegator, role: TufRole, metadata: Metadata[T]) -> None:
    """Check that enough of the keys `delegator` names for `role` signed `metadata`.

    Raises:
        RefusedError: Too few good signatures.
    """
    try:
        delegator.verify_delegate(role.value, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, SerializationError) as error:
        raise RefusedError(
            f"the {role.value} metadata (version {metadata.signed.version}) is refused: {error}"
        ) from error
    except ValueError as error:
        raise RefusedError(f"the role {role.value} is not delegated in this repository: {error}") from error


def is_signed(delegator: Delegator, role: TufRole, metadata: Metadata[T]) -> bool:
    """Whether enough of the keys `delegator` names for `role` signed `metadata`."""
    try:
        check_signatures(delegator, role, metadata)
    except RefusedError:
        return False
    return True


def load_named(layout: Layout, role: TufRole, kind: type[T], meta: MetaFile, *delegators: Delegator) -> Document[T]:
    """Read a document that another one names, and check that it matches and that one of its delegators vouches for it.

    Raises:
        RepositoryError: It is missing or unreadable.
        RefusedError: Another length, hash or version than named, or too few good signatures.
    """
    path = layout.role_file(role, meta.version)
    document = read_document(path, kind)
    try:
        meta.verify_length_and_hashes(document.raw)
    except LengthOrHashMismatchError as error:
        raise RefusedError(f"{path} is not the file that was signed: {error}") from error
    if document.signed.version != meta.version:
        raise RefusedError(f"{path} says version {document.signed.version}")
    check_any(delegators, role, document.metadata)
    return document


def check_any(delegators: Sequence[Delegator], role: TufRole, metadata: Metadata[T]) -> None:
    """Check that one of several delegators vouches for a document.

    Raises:
        RefusedError: None of them does; it says what the first one lacks.
    """
    if not any(is_signed(delegator, role, metadata) for delegator in delegators[1:]):
        check_signatures(delegators[0], role, metadata)


def load_targets(layout: Layout, role: TufRole, snapshot: Snapshot, *delegators: Delegator) -> Document[Targets]:
    """Read the document of a targets role that a snapshot names.

    Raises:
        RepositoryError: It is missing or unreadable.
        RefusedError: It is not named, not the named one, or not signed by enough of the role's keys.
    """
    meta = snapshot.meta.get(f"{role.value}.json")
    if meta is None:
        raise RefusedError(f"the snapshot does not name the {role.value} metadata")
    return load_named(layout, role, Targets, meta, *delegators)
