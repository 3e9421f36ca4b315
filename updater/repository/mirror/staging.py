"""The documents of a repository to copy, verified from a root that the caller trusts, in a folder of their own.

Rules, as a host's client has them: every root from the trusted one on is signed by the one before; each document is
signed by enough keys of its role, and is the one that the document above it names; nothing is longer than it may be.
What a host needs to get here from an older root comes as well, if it leads to the trusted one.
Expired documents are read; whoever copies them decides.
Source: TUF specification 1.0.34, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from bedrock.digest import bytes_sha256
from keys.keyring import Keyring
from keys.roles import TufRole
from updater.documents.release import MAX_DOCUMENT_BYTES, Release, StoredObject, parse_release_whole
from updater.errors import RefusedError, RepositoryError
from updater.repository.channels import ReleaseChoice, find_release
from updater.repository.layout import Layout
from updater.repository.metadata import load_state
from updater.repository.mirror.sources import RepositorySource
from updater.repository.mirror.web import MissingFileError
from updater.repository.releases import artifacts_of
from updater.repository.role_documents import (
    DELEGATED_PATHS,
    Document,
    RepositoryState,
    T,
    check_any,
    check_signatures,
    parse_document,
)
from updater.repository.roots import given_root, oldest_root, root_chain, trusted_root_of
from updater.repository.targets import read_target

MAX_ROOTS = 1024
MAX_ROOT_BYTES = 256 << 10
MAX_TIMESTAMP_BYTES = 64 << 10
MAX_ROLE_BYTES = 64 << 20


@dataclass(frozen=True)
class Anchor:
    """Where trust begins: a root document, or a keys folder whose root keys signed one."""

    root: bytes | None = None
    keyring: Keyring | None = None

    def __post_init__(self) -> None:
        if (self.root is None) == (self.keyring is None):
            raise TypeError("either a root document or a keyring")

    def newest_root(self, layout: Layout) -> Document[Root]:
        """The newest root of a repository that the chain leads to from here.

        Raises:
            RefusedError: It is a repository of somebody else, or a link of the chain does not hold.
            RepositoryError: A document is missing or unreadable.
        """
        if self.keyring is not None:
            return trusted_root_of(layout, self.keyring)
        assert self.root is not None  # noqa: S101 - said above
        given = given_root(self.root)
        own = layout.role_file(TufRole.ROOT, given.signed.version)
        if own.is_file() and own.read_bytes() != given.raw:
            raise RefusedError(f"{own.name} is another one than the trusted root")
        return root_chain(layout, given)[-1]


@dataclass(frozen=True)
class Staged:
    """A repository's verified documents.

    Attributes:
        layout: The folder they are in.
        state: The role documents.
        releases: The releases that are to be had with their objects, by target path.
    """

    layout: Layout
    state: RepositoryState
    releases: dict[str, Release]

    @property
    def objects(self) -> dict[str, StoredObject]:
        """Every object that these releases name, by path.

        Raises:
            RefusedError: One is given two lengths.
        """
        found: dict[str, StoredObject] = {}
        for path, release in self.releases.items():
            for artifact in (*artifacts_of(release).values(), *release.attachments.values()):
                for stored in artifact.objects:
                    if found.setdefault(stored.path, stored).size_bytes != stored.size_bytes:
                        raise RefusedError(f"{path}: {stored.path} is given two lengths")
        return found


def stage(
    source: RepositorySource, layout: Layout, anchor: Anchor, *, have: Layout, only: ReleaseChoice | None = None
) -> Staged:
    """Read and verify the documents of a repository into the empty folder of `layout` (writes to the disk).

    Args:
        source: Where they come from.
        layout: Where they go.
        anchor: Where trust begins.
        have: What was copied before; a document that it has by its signed hash is not fetched again.
        only: The one release that is wanted; every release and channel when None.

    Raises:
        RefusedError: A signature, a version, a length or a hash does not hold, or it is a repository of somebody else.
        DocumentError: A release has keys that are new to this program, which may name files.
        UpdaterError: A document cannot be read.
    """
    for folder in (layout.metadata, layout.targets):
        folder.mkdir(parents=True)
    return _Stage(source, layout, have).run(anchor, only)


@dataclass(frozen=True)
class _Stage:
    source: RepositorySource
    layout: Layout
    have: Layout

    def run(self, anchor: Anchor, only: ReleaseChoice | None) -> Staged:
        self._roots(anchor)
        root = self._checked_root(anchor)
        timestamp = self._timestamp(root.signed)
        snapshot = self._named(TufRole.SNAPSHOT, Snapshot, timestamp.snapshot_meta, root.signed)
        targets = self._role(TufRole.TARGETS, snapshot, root.signed)
        for role in DELEGATED_PATHS:
            self._role(role, snapshot, targets)
        self._older_targets(targets)
        state = load_state(self.layout, None, trusted_root=root.raw)
        releases = state.releases.signed.targets
        if only is not None:
            folder = f"releases/{only.image}/{only.version}/"
            for path, target in releases.items():
                if path.startswith(folder):
                    self._target(target)
            found = find_release(self.layout, state, only)
            return Staged(self.layout, state, {found.target_path: found})
        for document in (state.targets, state.releases, state.channels):
            for target in document.signed.targets.values():
                self._target(target)
        return Staged(self.layout, state, {path: self._whole(target) for path, target in releases.items()})

    def _roots(self, anchor: Anchor) -> None:
        """Every root that the source has, up to the first one that it does not have."""
        last = self._root(1, None)
        if last is None:
            if anchor.root is None:
                raise RepositoryError(f"{self.source.shown} has no 1.root.json: is it a repository?")
            # A source that was copied without the roots before the trusted one.
            last = given_root(anchor.root)
            self._put(self.layout.role_file(TufRole.ROOT, last.signed.version), anchor.root)
        for version in range(last.signed.version + 1, last.signed.version + MAX_ROOTS):
            following = self._root(version, last)
            if following is None:
                return
            last = following
        raise RefusedError(f"{self.source.shown} has more than {MAX_ROOTS} roots")

    def _root(self, version: int, before: Document[Root] | None) -> Document[Root] | None:
        """One root, signed by itself and the one before; None when the source does not have it."""
        path = self.layout.role_file(TufRole.ROOT, version)
        try:
            raw = self._read(path, MAX_ROOT_BYTES)
        except MissingFileError:
            return None
        document = parse_document(raw, Root, source=f"{self.source.shown}: {path.name}")
        for delegator in filter(None, (before, document)):
            check_signatures(delegator.signed, TufRole.ROOT, document.metadata)
        if document.signed.version != version:
            raise RefusedError(f"{self.source.shown}: {path.name} says version {document.signed.version}")
        self._put(path, raw)
        return document

    def _checked_root(self, anchor: Anchor) -> Document[Root]:
        root = anchor.newest_root(self.layout)
        chain = root_chain(self.layout, oldest_root(self.layout))
        if chain[-1].raw != root.raw:
            raise RefusedError(f"{self.source.shown}: its roots do not lead from one to the next")
        return root

    def _timestamp(self, root: Root) -> Timestamp:
        raw = self._read(self.layout.timestamp_file, MAX_TIMESTAMP_BYTES)
        document = parse_document(raw, Timestamp, source=f"{self.source.shown}: timestamp.json")
        check_signatures(root, TufRole.TIMESTAMP, document.metadata)
        self._put(self.layout.timestamp_file, raw)
        return document.signed

    def _role(self, role: TufRole, snapshot: Snapshot, delegator: Root | Targets) -> Targets:
        meta = snapshot.meta.get(f"{role.value}.json")
        if meta is None:
            raise RefusedError(f"{self.source.shown}: the snapshot does not name the {role.value} metadata")
        return self._named(role, Targets, meta, delegator)

    def _named(self, role: TufRole, kind: type[T], meta: MetaFile, delegator: Root | Targets) -> T:
        """A document that a verified one names, verified by its own signatures; `load_state` checks its hash."""
        most = MAX_ROLE_BYTES if meta.length is None else meta.length
        path = self.layout.role_file(role, meta.version)
        if most > MAX_ROLE_BYTES:
            raise RefusedError(f"{self.source.shown}: {path.name} is said to have {most} bytes, more than can be")
        raw = self._kept(path, (meta.hashes or {}).get("sha256")) or self._read(path, most)
        document = parse_document(raw, kind, source=f"{self.source.shown}: {path.name}")
        check_signatures(delegator, role, document.metadata)
        self._put(path, raw)
        return document.signed

    def _older_targets(self, current: Targets) -> None:
        """The targets documents before the current one, whose keys signed the provenance of older releases."""
        roots = [root.signed for root in reversed(root_chain(self.layout, oldest_root(self.layout)))]
        for version in range(max(1, current.version - MAX_ROOTS), current.version):
            path = self.layout.role_file(TufRole.TARGETS, version)
            try:
                raw = self._read(path, MAX_ROLE_BYTES)
                document = parse_document(raw, Targets, source=path.name)
                check_any(roots, TufRole.TARGETS, document.metadata)
            except (MissingFileError, RefusedError, RepositoryError):
                # It vouches for nothing, or was collected.
                continue
            self._put(path, raw)

    def _target(self, target: TargetFile) -> None:
        """Fetch a target document that the verified metadata name."""
        sha256 = target.hashes.get("sha256")
        if sha256 is None:
            raise RefusedError(f"the target {target.path} is named without a SHA-256")
        if target.length > MAX_DOCUMENT_BYTES:
            raise RefusedError(f"{target.path} is said to have {target.length} bytes, at most {MAX_DOCUMENT_BYTES}")
        path = self.layout.target_file(target.path, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._put(path, self._kept(path, sha256) or self._read(path, target.length))
        read_target(self.layout, target)

    def _whole(self, target: TargetFile) -> Release:
        return parse_release_whole(read_target(self.layout, target), source=target.path)

    def _kept(self, path: Path, sha256: str | None) -> bytes | None:
        """What was copied before, if it has this hash."""
        kept = self.have.base / path.relative_to(self.layout.base)
        if sha256 is None or not kept.is_file() or kept.stat().st_size > MAX_ROLE_BYTES:
            return None
        raw = kept.read_bytes()
        return raw if bytes_sha256(raw) == sha256 else None

    def _read(self, path: Path, most: int) -> bytes:
        return self.source.read(path.relative_to(self.layout.base).as_posix(), most)

    @staticmethod
    def _put(path: Path, raw: bytes) -> None:
        path.write_bytes(raw)
