"""Signs documents again before they expire.

Rules: snapshot and timestamp are always signed again; another role only when it expires soon and its keys are here.
If its keys are not here, the role is reported, because nothing else warns in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Signed

from keys.roles import TufRole
from updater.repository.access import ONLINE_ROLES, KeyAccess, Signers
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.role_documents import WRITING_ORDER, RepositoryState

DEFAULT_WITHIN = timedelta(days=30)


@dataclass(frozen=True)
class Expiring:
    """A role whose document expires soon (or has), and whose keys are not here."""

    role: TufRole
    expires: datetime


@dataclass(frozen=True)
class Refreshed:
    """The roles that were signed again, when each role expires now, the roles that need other keys, and the root."""

    signed: tuple[TufRole, ...]
    expires: dict[str, datetime]
    expiring: tuple[Expiring, ...]
    root: bytes


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
        access: Keys of snapshot and timestamp at least.
        lifetimes: How long the new documents are valid.
        now: The moment of signing.
        within: Other roles are signed when they expire within this span, and half of their life is over.
        wait_s: How long to wait for another command that changes the repository.

    Raises:
        RefusedError: The repository's signatures do not hold.
        BusyError: Somebody else is changing the repository.
        KeysError: The keys of snapshot or timestamp cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring, now=now)
        signers: dict[TufRole, Signers] = {}
        changed: dict[TufRole, Signed] = {}
        expiring: list[Expiring] = []
        for role in expiring_roles(state, lifetimes, now=now, within=within):
            opened = access.open_if_present(role)
            if opened:
                signers[role] = opened
                changed[role] = state.documents()[role].copy()
            else:
                expiring.append(Expiring(role, state.documents()[role].signed.expires))
        usable = dict(access.open(*ONLINE_ROLES))
        for opened in signers.values():
            usable.update(opened)
        state = commit(layout, state, changed=changed, signers=usable, lifetimes=lifetimes, now=now)
    return Refreshed((*changed, *ONLINE_ROLES), expiry_by_role(state), tuple(expiring), state.root.raw)


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
