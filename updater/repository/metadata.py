"""The signed role documents of a repository: reads and verifies them, builds, signs and writes new ones.

Rules: nothing is signed on top of a state whose signatures do not hold; all new documents are signed and checked
against the roles that delegate to them before the first of them is written; order on the disk is root, targets,
releases, channels, snapshot, timestamp, each durable before the next, and a version number that has a file is never
used again.  No role goes back behind what a signed snapshot named, whatever became of the timestamp.
Expired metadata are accepted here: an expired repository must stay repairable.
Source: TUF specification 1.0.34, sections 4 (formats), 5 (client workflow) and 6.2 (consistent snapshots).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import LengthOrHashMismatchError, UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError, SerializationError

from bedrock.persist import write_atomic
from keys.keyring import Keyring
from keys.roles import TufRole
from updater.errors import RefusedError, RepositoryError
from updater.repository.access import Signers
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes

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
class RepositoryState:
    """All role documents of a repository at one moment.

    `unfinished`: a snapshot was signed that the timestamp does not name, and the documents are those of that snapshot.
    """

    root: Document[Root]
    targets: Document[Targets]
    releases: Document[Targets]
    channels: Document[Targets]
    snapshot: Document[Snapshot]
    timestamp: Document[Timestamp]
    unfinished: bool = False

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


def load_state(layout: Layout, keyring: Keyring | None, *, trusted_root: bytes | None = None) -> RepositoryState:
    """Read the current state along its chain of signatures.

    With a keyring it is the state to go on from: what a newer snapshot names than the timestamp does (a command was cut
    short, or the timestamp was put back), hosts may have seen, and no role may go back behind it.

    Args:
        layout: The repository.
        keyring: Whose root keys to trust; None trusts the repository's own root, for commands that only show.
        trusted_root: A root document to start from, as hosts do, instead of either.

    Raises:
        RepositoryError: There is no repository, or a document is missing or unreadable.
        RefusedError: A signature, a threshold, a version or a hash does not hold.
    """
    root = _load_root(layout, keyring) if trusted_root is None else follow_roots(layout, given_root(trusted_root))
    timestamp = read_document(layout.timestamp_file, Timestamp)
    check_signatures(root.signed, TufRole.TIMESTAMP, timestamp.metadata)
    meta = timestamp.signed.snapshot_meta
    snapshot = load_named(layout, TufRole.SNAPSHOT, Snapshot, meta, root.signed)
    state = _named_by(layout, root, snapshot, timestamp)
    return state if keyring is None else newest_state(layout, state)


def _named_by(
    layout: Layout, root: Document[Root], snapshot: Document[Snapshot], timestamp: Document[Timestamp]
) -> RepositoryState:
    """The state whose documents a snapshot names."""
    targets = load_targets(layout, TufRole.TARGETS, snapshot.signed, root.signed)
    return RepositoryState(
        root=root,
        targets=targets,
        releases=load_targets(layout, TufRole.RELEASES, snapshot.signed, targets.signed),
        channels=load_targets(layout, TufRole.CHANNELS, snapshot.signed, targets.signed),
        snapshot=snapshot,
        timestamp=timestamp,
    )


def newest_state(layout: Layout, state: RepositoryState) -> RepositoryState:
    """The state that the newest whole snapshot on the disk names; `state` itself when that is its own."""
    for version in reversed(layout.versions_on_disk(TufRole.SNAPSHOT)):
        if version <= state.snapshot.signed.version:
            break
        try:
            snapshot = read_document(layout.role_file(TufRole.SNAPSHOT, version), Snapshot)
            check_signatures(state.root.signed, TufRole.SNAPSHOT, snapshot.metadata)
            return replace(_named_by(layout, state.root, snapshot, state.timestamp), unfinished=True)
        except (RefusedError, RepositoryError):
            # Not signed, or not whole: no host can have taken it.
            continue
    return state


def read_document(path: Path, kind: type[T]) -> Document[T]:
    """Read one document without checking its signatures.

    Raises:
        RepositoryError: It is missing, not TUF metadata, or of another type.
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
    """
    try:
        metadata = Metadata[T].from_bytes(raw)
    except DeserializationError as error:
        raise RepositoryError(f"{source} cannot be read as signed metadata: {error}") from error
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{source} holds {metadata.signed.type} metadata, not {kind.type}")
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


def given_root(raw: bytes) -> Document[Root]:
    """A root document that the caller already trusts.

    Raises:
        RepositoryError: It is not a root document.
    """
    return parse_document(raw, Root, source="the given root")


def follow_roots(layout: Layout, first: Document[Root]) -> Document[Root]:
    """The newest root that a chain of signatures leads to from `first`, as a client goes (TUF 1.0.34, 5.3).

    Raises:
        RefusedError: A link of the chain does not hold.
        RepositoryError: A document is unreadable.
    """
    check_signatures(first.signed, TufRole.ROOT, first.metadata)
    versions, current = layout.versions_on_disk(TufRole.ROOT), first
    while current.signed.version + 1 in versions:
        path = layout.role_file(TufRole.ROOT, current.signed.version + 1)
        following = read_document(path, Root)
        for delegator in (current.signed, following.signed):
            check_signatures(delegator, TufRole.ROOT, following.metadata)
        if following.signed.version != current.signed.version + 1:
            raise RefusedError(f"{path} says version {following.signed.version}")
        current = following
    return current


def initial_documents(keyring: Keyring) -> dict[TufRole, Signed]:
    """The unsigned first documents of a repository, the two delegations in place.

    Raises:
        MissingKeyError: The keyring does not name every role.
        RepositoryError: A key would serve two roles, which would undo their separation.
    """
    _refuse_shared_keys(keyring)
    root = Root(consistent_snapshot=True)
    for role in (TufRole.ROOT, TufRole.TARGETS, TufRole.SNAPSHOT, TufRole.TIMESTAMP):
        entry = keyring.role(role)
        root.roles[role.value] = Role([], entry.threshold)
        for key in entry.keys:
            root.add_key(key.public, role.value)
    delegated: dict[str, DelegatedRole] = {}
    known: dict[str, Key] = {}
    for role, pattern in DELEGATED_PATHS.items():
        entry = keyring.role(role)
        keyids = [key.keyid for key in entry.keys]
        delegated[role.value] = DelegatedRole(role.value, keyids, entry.threshold, terminating=True, paths=[pattern])
        known.update({key.keyid: key.public for key in entry.keys})
    return {
        TufRole.ROOT: root,
        TufRole.TARGETS: Targets(delegations=Delegations(known, delegated)),
        TufRole.RELEASES: Targets(),
        TufRole.CHANNELS: Targets(),
    }


def commit(
    layout: Layout,
    state: RepositoryState | None,
    *,
    changed: Mapping[TufRole, Signed],
    signers: Signers,
    lifetimes: Lifetimes,
    now: datetime,
) -> RepositoryState:
    """Write changed documents to the disk, then the snapshot that names them, then the timestamp that makes them valid.

    Args:
        layout: The repository.
        state: Its current documents; None for a new one (then `changed` holds the first four documents).
        changed: New content per role; version, expiry and signatures are set here.
        signers: Of every changed role, and of snapshot and timestamp.
        lifetimes: How long the new documents are valid.
        now: The moment of signing.

    Raises:
        RefusedError: The keys are not those the repository trusts for a role; nothing was written.
        RepositoryError: A file that must be new exists already; nothing was written.
    """
    writer = _Writer(layout, state, signers=signers, lifetimes=lifetimes, now=now)
    for role in WRITING_ORDER[:-2]:
        if role in changed:
            writer.sign(role, changed[role])
    snapshot = state.snapshot.copy() if state else Snapshot()
    for role in IN_SNAPSHOT:
        snapshot.meta[f"{role.value}.json"] = writer.documents[role].meta()
    signed = writer.sign(TufRole.SNAPSHOT, snapshot)
    timestamp = state.timestamp.copy() if state else Timestamp()
    timestamp.snapshot_meta = signed.meta()
    writer.sign(TufRole.TIMESTAMP, timestamp)
    writer.write()
    return writer.state()


class _Writer:
    """Signs and checks one document after the other, keeping what is current, and then writes them."""

    def __init__(
        self, layout: Layout, state: RepositoryState | None, *, signers: Signers, lifetimes: Lifetimes, now: datetime
    ) -> None:
        self._layout = layout
        self._signers = signers
        self._lifetimes = lifetimes
        self._now = now
        self._new: dict[Path, bytes] = {}
        self.documents: dict[TufRole, Document[Any]] = state.documents() if state else {}

    def sign(self, role: TufRole, signed: Signed) -> Document[Any]:
        """Make the next version of a role; it is on the disk after `write`."""
        signed.version = self._next_version(role)
        signed.expires = self._lifetimes.expiry(role, self._now)
        metadata: Metadata[Any] = Metadata(signed)
        for signer in self._signers[role]:
            metadata.sign(signer, append=True)
        for delegator in self._delegators(role, signed):
            _check_own_signatures(delegator, role, metadata)
        document: Document[Any] = Document(metadata, metadata.to_bytes())
        path = self._layout.timestamp_file
        if role is not TufRole.TIMESTAMP:
            path = self._layout.role_file(role, signed.version)
            if path.exists():
                raise RepositoryError(f"{path} exists and would have been overwritten")
        self._new[path] = document.raw
        self.documents[role] = document
        return document

    def write(self) -> None:
        """Write what was signed to the disk, each document durable before the next."""
        for path, raw in self._new.items():
            write_atomic(path, raw)

    def state(self) -> RepositoryState:
        """The current documents of the repository."""
        new = self.documents
        return RepositoryState(
            root=new[TufRole.ROOT],
            targets=new[TufRole.TARGETS],
            releases=new[TufRole.RELEASES],
            channels=new[TufRole.CHANNELS],
            snapshot=new[TufRole.SNAPSHOT],
            timestamp=new[TufRole.TIMESTAMP],
        )

    def _next_version(self, role: TufRole) -> int:
        """One more than every version seen, so that a cache never serves a left-over file as a new one."""
        current = self.documents[role].signed.version if role in self.documents else 0
        # Root versions must follow each other without a gap, and a root on the disk is always the current one.
        leftover = () if role in (TufRole.ROOT, TufRole.TIMESTAMP) else self._layout.versions_on_disk(role)
        return max((current, *leftover)) + 1

    def _delegators(self, role: TufRole, signed: Signed) -> tuple[Delegator, ...]:
        if isinstance(signed, Root):
            before = self.documents.get(TufRole.ROOT)
            return (signed,) if before is None else (before.signed, signed)
        if role in DELEGATED_PATHS:
            return (self.documents[TufRole.TARGETS].signed,)
        return (self.documents[TufRole.ROOT].signed,)


def _check_own_signatures(delegator: Delegator, role: TufRole, metadata: Metadata[T]) -> None:
    """Check what was signed just now: the keys at hand may be others than the repository's."""
    try:
        check_signatures(delegator, role, metadata)
    except RefusedError as error:
        raise error.with_hint(
            f"the keys folder names other keys for {role.value} than the repository trusts; nothing was written"
        ) from error


def _load_root(layout: Layout, keyring: Keyring | None) -> Document[Root]:
    versions = layout.versions_on_disk(TufRole.ROOT) or (1,)
    if keyring is None:
        root = read_document(layout.role_file(TufRole.ROOT, versions[-1]), Root)
        check_signatures(root.signed, TufRole.ROOT, root.metadata)
        return root
    # The keys folder may be older than the newest root: a rotation is followed, as hosts follow it.
    for version in reversed(versions):
        root = read_document(layout.role_file(TufRole.ROOT, version), Root)
        try:
            check_signatures(_root_of(keyring), TufRole.ROOT, root.metadata)
        except RefusedError:
            continue
        return follow_roots(layout, root)
    message = f"the repository {layout.base} was not made with the root keys of {keyring.folder}"
    raise RefusedError(message).with_hint("give the keys folder the repository was made with")


def _root_of(keyring: Keyring) -> Root:
    """What a keys folder says of the role root, in the form that signatures are checked against."""
    entry = keyring.role(TufRole.ROOT)
    trusted = Root()
    trusted.roles[TufRole.ROOT.value] = Role([], entry.threshold)
    for key in entry.keys:
        trusted.add_key(key.public, TufRole.ROOT.value)
    return trusted


def load_targets(layout: Layout, role: TufRole, snapshot: Snapshot, delegator: Delegator) -> Document[Targets]:
    """Read the document of a targets role that a snapshot names.

    Raises:
        RepositoryError: It is missing or unreadable.
        RefusedError: It is not named, not the named one, or not signed by enough of the role's keys.
    """
    meta = snapshot.meta.get(f"{role.value}.json")
    if meta is None:
        raise RefusedError(f"the snapshot does not name the {role.value} metadata")
    return load_named(layout, role, Targets, meta, delegator)


def load_named(layout: Layout, role: TufRole, kind: type[T], meta: MetaFile, delegator: Delegator) -> Document[T]:
    """Read a document that another one names, and check that it matches and is signed by enough of the role's keys.

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
    check_signatures(delegator, role, document.metadata)
    if document.signed.version != meta.version:
        raise RefusedError(f"{path} says version {document.signed.version}")
    return document


def _refuse_shared_keys(keyring: Keyring) -> None:
    seen: dict[str, TufRole] = {}
    for role in WRITING_ORDER:
        for key in keyring.role(role).keys:
            if key.keyid in seen:
                raise RepositoryError(f"the roles {seen[key.keyid].value} and {role.value} share the key {key.keyid}")
            seen[key.keyid] = role
