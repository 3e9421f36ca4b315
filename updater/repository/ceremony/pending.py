"""The ceremony that is under way in a repository: a signing request in `ceremony.json`, and its end.

Rules: every step can be repeated; while one is under way for the same changes, it is gone on with, and its signatures
stay; it ends when every group of every entry has its threshold, and the new documents become valid with a snapshot and
a timestamp; where the online keys are elsewhere, it waits for them (`repo sign-online`).  Nobody trusts the file: the
documents are checked against the current root, or against the keys folder if there is none yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Signed

from bedrock.errors import DocumentError
from bedrock.persist import sync_folder, write_atomic
from keys.ceremony.request import SigningRequest, merged, missing_lines, request_bytes
from keys.ceremony.signing import read_request
from keys.keyring import Keyring
from keys.roles import TufRole
from updater.errors import RefusedError, RepositoryError, UpdaterError
from updater.repository.access import ONLINE_ROLES, KeyAccess
from updater.repository.ceremony.differences import key_changes
from updater.repository.ceremony.drafts import canonical_dict, documents_of, request_for
from updater.repository.commit import commit, initial_documents, undated
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.role_documents import DELEGATED_PATHS, Document, LeftOut, RepositoryState, is_signed

OFFLINE_ROLES = (TufRole.ROOT, TufRole.TARGETS)


@dataclass(frozen=True)
class CeremonyStep:
    """Where a ceremony is.

    Attributes:
        request: The request with its signatures so far; None when there is nothing to sign.
        missing: Whose signatures are missing, a line for each group.
        finished: Whether the new documents are valid now.
        root: The root that is valid now; None while a repository has none.
    """

    request: SigningRequest | None
    missing: tuple[str, ...]
    finished: bool
    root: Document[Any] | None = None


def make_request(
    base: Path,
    *,
    keyring: Keyring,
    lifetimes: Lifetimes,
    now: datetime,
    within: timedelta,
    renew: bool = False,
    wait_s: float = 0.0,
) -> CeremonyStep:
    """Begin a ceremony in the repository on the disk, or go on with the one that is under way.

    Args:
        base: The repository.
        keyring: The keys that it is to have.
        lifetimes: How long the new documents are valid.
        now: The time.
        within: Root and targets are renewed if they expire within this span, and half of their life is over.
        renew: Renew both anyway.
        wait_s: How long to wait for another command that changes the repository.

    Raises:
        RefusedError: The repository's signatures do not hold.
        RepositoryError: The keys folder is older than the repository.
        BusyError: Somebody else is changing the repository.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        under_way = read_pending(layout)
        if not has_begun(layout):
            return CeremonyStep(under_way, tuple(missing_lines(under_way)) if under_way else (), finished=False)
        state = load_state(layout, keyring)
        changes = key_changes(state, keyring)
        if changes.older:
            raise RepositoryError("\n".join(changes.older))
        documents: dict[TufRole, Signed] = {
            role: state.documents()[role].copy()
            for role in OFFLINE_ROLES
            if renew or lifetimes.due(role, state.documents()[role].signed.expires, now=now, within=within)
        }
        documents.update(changes.documents)
        if not documents:
            return CeremonyStep(None, (), finished=False, root=state.root)
        reason = "; ".join(changes.words) or "renewed before it expires"
        request = request_for(layout, state, documents, keyring=keyring, reason=reason, lifetimes=lifetimes, now=now)
        if under_way is not None:
            request = _gone_on_with(under_way, request)
        write_pending(layout, request)
    return CeremonyStep(request, tuple(missing_lines(request)), finished=False, root=state.root)


def begin_repository(layout: Layout, *, keyring: Keyring, lifetimes: Lifetimes, now: datetime) -> CeremonyStep:
    """Begin the first ceremony in the folder of a new repository on the disk.

    Raises:
        MissingKeyError: The keyring does not name every role.
        RepositoryError: A key would serve two roles.
    """
    documents = initial_documents(keyring)
    reason = "the first documents of a new repository"
    request = request_for(layout, None, documents, keyring=keyring, reason=reason, lifetimes=lifetimes, now=now)
    write_pending(layout, request)
    return CeremonyStep(request, tuple(missing_lines(request)), finished=False)


def apply(
    base: Path,
    requests: Sequence[SigningRequest],
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
    wait_s: float = 0.0,
) -> CeremonyStep:
    """Put signatures into the ceremony of the repository on the disk, and end it when none is missing.

    Raises:
        RequestMismatchError: They are signatures for something else.
        RefusedError: The new documents do not follow from what is trusted.
        RepositoryError: No ceremony is under way.
        BusyError: Somebody else is changing the repository.
        KeysError: The online keys are here and cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        under_way = read_pending(layout)
        if under_way is None:
            return _nothing_under_way(layout, requests, access.keyring)
        request = merged(under_way, *requests)
        if request != under_way:
            write_pending(layout, request)
        missing = tuple(missing_lines(request))
        if missing or not access.open_online():
            return CeremonyStep(request, missing, finished=False)
        state = load_state(layout, access.keyring, now=now) if has_begun(layout) else None
        ended = _end(layout, state, access=access, lifetimes=lifetimes, now=now)
    return CeremonyStep(request, (), finished=True, root=ended.state.root if ended.state else None)


@dataclass(frozen=True)
class CeremonyEnd:
    """The state after a ceremony ended, or as it was; the versions it made valid; why it could not end."""

    state: RepositoryState | None
    visible: Mapping[TufRole, int] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


def end_if_complete(
    layout: Layout, state: RepositoryState | None, *, access: KeyAccess, lifetimes: Lifetimes, now: datetime
) -> CeremonyEnd:
    """End the ceremony of the repository on the disk if it misses no signature; one that is wrong is left out.

    Args:
        layout: The repository, whose lock is held.
        state: Its state; None if it has no documents yet.
        access: The online keys.
        lifetimes: How long snapshot and timestamp are valid.
        now: From when on.

    Raises:
        KeysError: The online keys are needed, and cannot be opened.
    """
    try:
        return _end(layout, state, access=access, lifetimes=lifetimes, now=now)
    except (UpdaterError, DocumentError) as error:
        if state is None:
            raise
        return CeremonyEnd(state, left_out=(LeftOut(TufRole.ROOT, state.root.signed.version + 1, str(error)),))


def _end(
    layout: Layout, state: RepositoryState | None, *, access: KeyAccess, lifetimes: Lifetimes, now: datetime
) -> CeremonyEnd:
    ready = completed(layout, state, access.keyring)
    if not ready:
        return CeremonyEnd(state)
    online = access.open(*ONLINE_ROLES)
    done = commit(layout, state, changed={}, prepared=ready, signers=online, lifetimes=lifetimes, now=now)
    end_pending(layout)
    return CeremonyEnd(done, {role: document.signed.version for role, document in ready.items()})


def completed(layout: Layout, state: RepositoryState | None, keyring: Keyring) -> dict[TufRole, Document[Any]]:
    """The documents of a ceremony that misses no signature; empty when there is none, or it does.

    Raises:
        RefusedError: They are the first of a repository, and not what the keys folder says; or others were signed.
    """
    request = read_pending(layout)
    if request is None or not request.complete:
        return {}
    documents = documents_of(request.entries)
    if state is None:
        _check_first(documents, keyring)
        return documents
    return {role: document for role, document in documents.items() if not _is_overtaken(role, documents, state)}


def has_begun(layout: Layout) -> bool:
    """Whether a repository has its first documents."""
    return layout.timestamp_file.exists()


def read_pending(layout: Layout) -> SigningRequest | None:
    """The ceremony that is under way, if any.

    Raises:
        DocumentError: Its file was tampered with.
    """
    return read_request(layout.ceremony_file) if layout.ceremony_file.exists() else None


def write_pending(layout: Layout, request: SigningRequest) -> None:
    """Write the ceremony that is under way to the disk."""
    write_atomic(layout.ceremony_file, request_bytes(request))


def end_pending(layout: Layout) -> None:
    """Remove the ceremony from the disk; its documents are valid."""
    layout.ceremony_file.unlink(missing_ok=True)
    sync_folder(layout.base)


def _gone_on_with(under_way: SigningRequest, request: SigningRequest) -> SigningRequest:
    """The request, each entry as it is under way if only its expiry differs: its signatures are worth keeping."""
    known = {entry.name: entry for entry in under_way.entries}
    entries = []
    for entry in request.entries:
        before = known.get(entry.name)
        same = before is not None and (
            canonical_dict(before.payload.content) == canonical_dict(entry.payload.content)
            and before.signers == entry.signers
        )
        entries.append(before if before is not None and same else entry)
    return replace(request, entries=tuple(entries))


def _is_overtaken(role: TufRole, documents: Mapping[TufRole, Document[Any]], state: RepositoryState) -> bool:
    """Whether a newer document of the role will do.

    Raises:
        RefusedError: There is one, and it will not: the new keys did not sign it.
    """
    document, current = documents[role], state.documents()[role]
    if document.signed.version > current.signed.version or document.raw == current.raw:
        return False
    if role in DELEGATED_PATHS:
        targets = documents.get(TufRole.TARGETS, state.targets)
        if is_signed(targets.signed, role, current.metadata):
            return True
    raise RefusedError(
        f"{document.signed.version}.{role.value}.json was signed, and meanwhile so was another version "
        f"{current.signed.version}"
    ).with_hint("ask for the rest again: twinhull root sign-request; signatures that still fit stay")


def _nothing_under_way(layout: Layout, requests: Sequence[SigningRequest], keyring: Keyring) -> CeremonyStep:
    """Whether what was applied is valid already: the same command again."""
    state = load_state(layout, keyring)
    current = {document.metadata.signed_bytes for document in state.documents().values()}
    if requests and all(entry.payload.content in current for request in requests for entry in request.entries):
        return CeremonyStep(None, (), finished=True, root=state.root)
    raise RepositoryError(f"no signatures are being collected for {layout.base}").with_hint(
        f"begin with: twinhull root sign-request {layout.base} --out FILE"
    )


def _check_first(documents: dict[TufRole, Document[Any]], keyring: Keyring) -> None:
    """The first root is trusted because the keys folder says the same."""
    for role, wanted in initial_documents(keyring).items():
        given = documents[role].signed.to_dict() if role in documents else {}
        if undated(given) != undated(wanted.to_dict()):
            raise RefusedError(f"the first {role.value} that was signed is not what {keyring.folder} says")
