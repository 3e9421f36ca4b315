"""Signs documents again before they expire, and gives a repository the keys of a keys folder.

Rules: snapshot and timestamp are always signed again where their keys are, and elsewhere releases and channels are only
submitted; another role only when it expires soon, or when keys or
thresholds in the keys folder differ from the repository's, and the keys that must sign are here.  Where they are not,
nothing of the change is written and the ceremony that it needs is named; a threshold is made lower by a ceremony only.
If a role expires soon and its keys are not here, it is reported, because nothing else warns in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Signed

from keys.ceremony.request import missing_lines
from keys.ceremony.signing import at_hand, signed_with
from keys.roles import TufRole
from updater.repository.access import ONLINE_ROLES, KeyAccess
from updater.repository.ceremony.differences import KeyChanges, key_changes
from updater.repository.ceremony.drafts import documents_of, request_for
from updater.repository.ceremony.pending import CeremonyEnd, end_if_complete
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.role_documents import DELEGATED_PATHS, WRITING_ORDER, Document, RepositoryState

DEFAULT_WITHIN = timedelta(days=30)


@dataclass(frozen=True)
class Expiring:
    """A role whose document expires soon (or has), and whose keys are not here."""

    role: TufRole
    expires: datetime


@dataclass(frozen=True)
class Refreshed:
    """What was signed, and what was not.

    Attributes:
        signed: The roles that were signed again.
        expires: When each role expires now.
        expiring: The roles that expire soon and need other keys.
        changes: The changes of keys that were made, in words.
        needed: The changes of keys that need a ceremony, and whose signatures they need.
        ignored: What was left out: a ceremony that is wrong, a keys folder that is older than the repository.
    """

    signed: tuple[TufRole, ...]
    expires: dict[str, datetime]
    expiring: tuple[Expiring, ...]
    changes: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether what was signed is only submitted."""
        return bool(self.signed) and TufRole.TIMESTAMP not in self.signed


@dataclass(frozen=True)
class _Draft:
    """Documents that were signed as far as the keys here go, and the lines that name whose signatures are missing."""

    ready: Mapping[TufRole, Document[Any]]
    missing: tuple[str, ...]


def refresh(
    base: Path,
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
    within: timedelta = DEFAULT_WITHIN,
    wait_s: float = 0.0,
) -> Refreshed:
    """Write newly signed metadata with the same content to the repository on the disk.

    Args:
        base: The repository.
        access: Keys of snapshot and timestamp, or of releases or channels to submit.
        lifetimes: How long the new documents are valid.
        now: The moment of signing.
        within: Other roles are signed when they expire within this span, and half of their life is over.
        wait_s: How long to wait for another command that changes the repository.

    Raises:
        RefusedError: The repository's signatures do not hold, or keys here are not those it trusts.
        BusyError: Somebody else is changing the repository.
        KeysError: Nothing can be signed with the keys here, or they cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring, now=now)
        online = access.open_online()
        ended = CeremonyEnd(state)
        if online:
            ended = end_if_complete(layout, state, access=access, lifetimes=lifetimes, now=now)
        state = ended.state or state
        renewed = {
            role: state.documents()[role].copy() for role in expiring_roles(state, lifetimes, now=now, within=within)
        }
        changes = key_changes(state, access.keyring)
        draft = _drafted(layout, state, {**renewed, **changes.documents}, access=access, lifetimes=lifetimes, now=now)
        needed = _needed(changes, draft, online=bool(online))
        if needed:
            draft = _drafted(layout, state, renewed, access=access, lifetimes=lifetimes, now=now)
        ready = draft.ready if online else {r: made for r, made in draft.ready.items() if r in DELEGATED_PATHS}
        if not ready and not any(map(access.open_if_present, DELEGATED_PATHS)):
            online = access.open(*ONLINE_ROLES)
        done = commit(layout, state, changed={}, prepared=ready, signers=online, lifetimes=lifetimes, now=now)
    signed = {**ended.visible, **ready, **online}
    return Refreshed(
        tuple(role for role in WRITING_ORDER if role in signed),
        expiry_by_role(done),
        tuple(Expiring(role, state.documents()[role].signed.expires) for role in renewed if role not in ready),
        changes=() if needed else changes.words,
        needed=needed,
        ignored=(*map(str, ended.left_out), *map(str, state.left_out), *changes.older),
    )


def _drafted(
    layout: Layout,
    state: RepositoryState,
    documents: Mapping[TufRole, Signed],
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
) -> _Draft:
    """The documents with the signatures of all keys here."""
    if not documents:
        return _Draft({}, ())
    request = request_for(layout, state, documents, keyring=access.keyring, reason="", lifetimes=lifetimes, now=now)
    request = signed_with(request, at_hand(request, access.keyring, access.passphrase))
    ready = documents_of(entry for entry in request.entries if entry.complete)
    return _Draft(ready, tuple(missing_lines(request)))


def _needed(changes: KeyChanges, draft: _Draft, *, online: bool) -> tuple[str, ...]:
    """What must happen elsewhere for a change of keys; nothing when it can be made here."""
    if not changes.documents:
        return ()
    if changes.weaker:
        return (*changes.words, "a threshold becomes lower only by a ceremony")
    if not online:
        return (*changes.words, "the keys of snapshot and timestamp are elsewhere")
    if all(role in draft.ready for role in changes.documents):
        return ()
    wanted = {f"{role.value}.json" for role in changes.documents}
    return (*changes.words, *(line for line in draft.missing if line.split(":")[0].partition(".")[2] in wanted))


def expiring_roles(
    state: RepositoryState, lifetimes: Lifetimes, *, now: datetime, within: timedelta
) -> tuple[TufRole, ...]:
    """The roles, snapshot and timestamp aside, that are due to be signed again; pure."""
    documents = state.documents()
    return tuple(
        role
        for role in WRITING_ORDER
        if role not in ONLINE_ROLES and lifetimes.due(role, documents[role].signed.expires, now=now, within=within)
    )


def expiry_by_role(state: RepositoryState) -> dict[str, datetime]:
    """When each role's document expires; pure."""
    return {role.value: document.signed.expires for role, document in state.documents().items()}
