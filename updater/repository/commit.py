"""Signs new role documents and writes them.

Rules: everything new is signed and checked against the roles that delegate to it before the first document is written;
the order on the disk is root, targets, releases, channels, snapshot, timestamp, each durable before the next, and a
version number that has a file is never used again.  A new root comes last if the others are valid under the old one as
well (keys that retire sign along): then hosts see a valid repository at every moment.
Without the keys of snapshot and timestamp, releases and channels are submitted: written, and named by nobody yet.
Source: TUF specification 1.0.34, section 6.2 (consistent snapshots).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Signed, Snapshot, Targets, Timestamp

from bedrock.persist import write_atomic
from keys.errors import KeysError
from keys.keyring import Keyring
from keys.roles import TufRole
from updater.documents.channel import Instant
from updater.documents.release import SIGNED_AT
from updater.errors import RefusedError, RepositoryError
from updater.repository.access import ONLINE_ROLES, KeyAccess, Signers
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.role_documents import (
    DELEGATED_PATHS,
    IN_SNAPSHOT,
    WRITING_ORDER,
    Delegator,
    Document,
    RepositoryState,
    check_signatures,
    is_signed,
    read_document,
)

_KINDS = {TufRole.ROOT: Root, TufRole.SNAPSHOT: Snapshot, TufRole.TIMESTAMP: Timestamp}


def commit(
    layout: Layout,
    state: RepositoryState | None,
    *,
    changed: Mapping[TufRole, Signed],
    signers: Signers,
    lifetimes: Lifetimes,
    now: datetime,
    prepared: Mapping[TufRole, Document[Any]] | None = None,
) -> RepositoryState:
    """Write changed documents to the disk, then the snapshot that names them, then the timestamp that makes them valid.

    Args:
        layout: The repository.
        state: Its current documents; None for a new one (then the first four documents are given).
        changed: New content per role; version, expiry and signatures are set here.
        signers: Of every changed role, and of snapshot and timestamp; without the last two it is only submitted.
        lifetimes: How long the new documents are valid.
        now: The moment of signing.
        prepared: Documents that were signed elsewhere.

    Raises:
        RefusedError: The keys are not those the repository trusts for a role; nothing was written.
        RepositoryError: A file that must be new exists already; nothing was written.
    """
    writer = _Writer(layout, state, signers=signers, lifetimes=lifetimes, now=now)
    ready = prepared or {}
    for role in WRITING_ORDER[:-2]:
        if role in ready:
            writer.add(role, ready[role])
        elif role in changed:
            writer.sign(role, changed[role])
    if all(role in signers for role in ONLINE_ROLES):
        writer.sign_online()
    elif state is None or not {*changed, *ready} <= DELEGATED_PATHS.keys():
        raise RepositoryError("root and targets take effect with snapshot and timestamp, whose keys are not here")
    writer.write()
    return writer.state()


def completed(
    layout: Layout, state: RepositoryState, *, access: KeyAccess, lifetimes: Lifetimes, now: datetime
) -> RepositoryState:
    """Make visible on the disk what an interrupted command left unfinished.

    Returns:
        The new state; `state` itself if there is nothing to do, or the online keys are elsewhere.

    Raises:
        RefusedError: The keys are not those the repository trusts; nothing was written.
        PassphraseError: The keys are here, but their passphrase is missing or wrong.
    """
    online = access.open_online() if state.unfinished else {}
    return commit(layout, state, changed={}, signers=online, lifetimes=lifetimes, now=now) if online else state


class _Writer:
    """Signs and checks one document after the other, keeping what is current, and then writes them."""

    def __init__(
        self, layout: Layout, state: RepositoryState | None, *, signers: Signers, lifetimes: Lifetimes, now: datetime
    ) -> None:
        self._layout = layout
        self._before = state
        self._signers = signers
        self._lifetimes = lifetimes
        self._now = now
        self._new: dict[TufRole, Document[Any]] = {}
        self.documents: dict[TufRole, Document[Any]] = state.documents() if state else {}

    def sign(self, role: TufRole, signed: Signed) -> Document[Any]:
        """Make the next version of a role; it is on the disk after `write`."""
        signed.version = self._next_version(role)
        set_dates(signed, role, lifetimes=self._lifetimes, now=self._now)
        metadata: Metadata[Any] = Metadata(signed)
        for signer in self._signers[role]:
            _sign(metadata, signer)
        document: Document[Any] = Document(metadata, metadata.to_bytes())
        self.add(role, document)
        return document

    def add(self, role: TufRole, document: Document[Any]) -> None:
        """Take a signed document; one that is current already is no change."""
        if role in self.documents and self.documents[role].raw == document.raw:
            return
        for delegator in self._delegators(role, document.signed):
            _check_own_signatures(delegator, role, document.metadata)
        path = self._path(role, document)
        if role is not TufRole.TIMESTAMP and path.exists() and path.read_bytes() != document.raw:
            raise RepositoryError(f"{path} exists and would have been overwritten")
        self._new[role] = document
        self.documents[role] = document

    def sign_online(self) -> None:
        """Sign a snapshot that names the current documents, and a timestamp that names it.

        Raises:
            RefusedError: A document is not signed by the keys that its role has now.
        """
        snapshot = self._before.snapshot.copy() if self._before else Snapshot()
        for role in IN_SNAPSHOT:
            document = self.documents[role]
            for delegator in self._delegators(role, document.signed):
                _check_own_signatures(delegator, role, document.metadata)
            snapshot.meta[f"{role.value}.json"] = document.meta()
        signed = self.sign(TufRole.SNAPSHOT, snapshot)
        timestamp = self._before.timestamp.copy() if self._before else Timestamp()
        timestamp.snapshot_meta = signed.meta()
        self.sign(TufRole.TIMESTAMP, timestamp)

    def write(self) -> None:
        """Write what was signed to the disk, each document durable before the next."""
        roles = [role for role in WRITING_ORDER if role in self._new]
        if TufRole.ROOT in self._new and self._valid_before_root():
            roles = [*roles[1:], TufRole.ROOT]
        for role in roles:
            write_atomic(self._path(role, self._new[role]), self._new[role].raw)

    def state(self) -> RepositoryState:
        """The current documents of the repository."""
        new = self.documents
        submitted = (
            () if TufRole.TIMESTAMP in self._new else tuple(role for role in DELEGATED_PATHS if role in self._new)
        )
        if submitted and self._before is not None:
            waiting = dict.fromkeys((*self._before.waiting, *submitted))
            return replace(
                self._before, releases=new[TufRole.RELEASES], channels=new[TufRole.CHANNELS], waiting=tuple(waiting)
            )
        return RepositoryState(
            root=new[TufRole.ROOT],
            targets=new[TufRole.TARGETS],
            releases=new[TufRole.RELEASES],
            channels=new[TufRole.CHANNELS],
            snapshot=new[TufRole.SNAPSHOT],
            timestamp=new[TufRole.TIMESTAMP],
        )

    def _path(self, role: TufRole, document: Document[Any]) -> Path:
        if role is TufRole.TIMESTAMP:
            return self._layout.timestamp_file
        return self._layout.role_file(role, document.signed.version)

    def _valid_before_root(self) -> bool:
        """Whether hosts that have only the old root accept all the others."""
        if self._before is None:
            return False
        old = self._before.root.signed
        by_root = (TufRole.TARGETS, *ONLINE_ROLES)
        return all(is_signed(old, role, self.documents[role].metadata) for role in by_root)

    def _next_version(self, role: TufRole) -> int:
        current = self.documents[role].signed.version if role in self.documents else 0
        if role is TufRole.TIMESTAMP:
            # Not behind what hosts saw, if the timestamp was put back: the two go up together.
            return max(current + 1, int(self.documents[TufRole.SNAPSHOT].signed.version))
        delegator = self.documents.get(TufRole.TARGETS if role in DELEGATED_PATHS else TufRole.ROOT)
        return next_version(self._layout, role, current=current, delegator=delegator.signed if delegator else None)

    def _delegators(self, role: TufRole, signed: Signed) -> tuple[Delegator, ...]:
        if isinstance(signed, Root):
            return (signed,) if self._before is None else (self._before.root.signed, signed)
        if role in DELEGATED_PATHS:
            return (self.documents[TufRole.TARGETS].signed,)
        return (self.documents[TufRole.ROOT].signed,)


def _sign(metadata: Metadata[Any], signer: Signer) -> None:
    """Add a signature.

    Raises:
        KeysError: The key cannot sign any more: its token was removed, or refused.
    """
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        # tuf wraps what a signer raises.
        if isinstance(error.__cause__, KeysError):
            raise error.__cause__ from error
        raise


def set_dates(signed: Signed, role: TufRole, *, lifetimes: Lifetimes, now: datetime) -> None:
    """Say in a document that it is signed now and until when it is valid."""
    signed.expires = lifetimes.expiry(role, now)
    signed.unrecognized_fields[SIGNED_AT] = str(Instant.of(now))


def undated(signed: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a document without what `set_dates` says."""
    return {key: value for key, value in signed.items() if key not in ("expires", SIGNED_AT)}


def next_version(layout: Layout, role: TufRole, *, current: int, delegator: Delegator | None) -> int:
    """A version for a role's next document: above each one that its keys signed, and without a file of that name.

    A cache never serves a left-over file as a new one; a file that nobody signed does not count.
    """
    if role is TufRole.ROOT:
        # Root versions follow each other without a gap, and a root on the disk is always the current one.
        return current + 1
    taken = [version for version in layout.versions_on_disk(role) if version > current]
    signed = [version for version in taken if delegator and _is_signed_file(layout, role, version, delegator)]
    number = max((current, *signed)) + 1
    while number in taken:
        number += 1
    return number


def _is_signed_file(layout: Layout, role: TufRole, version: int, delegator: Delegator) -> bool:
    try:
        document: Document[Any] = read_document(layout.role_file(role, version), _KINDS.get(role, Targets))
    except (RepositoryError, RefusedError):
        return False
    return is_signed(delegator, role, document.metadata)


def _check_own_signatures(delegator: Delegator, role: TufRole, metadata: Metadata[Any]) -> None:
    """Check what is about to be written: the keys at hand may be others than the repository's."""
    try:
        check_signatures(delegator, role, metadata)
    except RefusedError as error:
        raise error.with_hint(
            f"nothing was written: the repository trusts other keys for {role.value} than those here; "
            "if keys were exchanged: twinhull root sign-request"
        ) from error


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


def _refuse_shared_keys(keyring: Keyring) -> None:
    seen: dict[str, TufRole] = {}
    for role in WRITING_ORDER:
        for key in keyring.role(role).keys:
            if key.keyid in seen:
                raise RepositoryError(f"the roles {seen[key.keyid].value} and {role.value} share the key {key.keyid}")
            seen[key.keyid] = role
