"""What keeps a repository valid: each role's document, until when, signed by whom, and whose turn it is.

Pure, but for `read_status`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from bedrock.errors import DocumentError
from keys.ceremony.request import missing_lines
from keys.roles import TufRole
from updater.repository.ceremony.pending import read_pending
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import going_on, load_state
from updater.repository.role_documents import DELEGATED_PATHS, WRITING_ORDER, LeftOut, RepositoryState


class Validity(Enum):
    """Whether somebody has to sign; expired, or not signed by the keys of now: hosts refuse it."""

    FINE = "fine"
    DUE = "due"
    EXPIRED = "expired"
    UNSIGNED = "unsigned"


@dataclass(frozen=True)
class RoleStatus:
    """One role's current document.

    Attributes:
        role: The role's name.
        version: The document's version.
        expires: When it expires.
        validity: Whether it is to be signed again.
        signed_by: The ids of the keys that signed it and count.
        keys: The ids of all the keys that may.
        threshold: How many of them must.
    """

    role: str
    version: int
    expires: datetime
    validity: Validity
    signed_by: tuple[str, ...]
    keys: tuple[str, ...]
    threshold: int


@dataclass(frozen=True)
class Waiting:
    """A document that was submitted; the keys of snapshot and timestamp make it visible."""

    role: str
    version: int


@dataclass(frozen=True)
class RepositoryStatus:
    """The status of every role, and of what is not visible yet.

    Attributes:
        roles: In the order of their signing.
        unfinished: A command was cut short before its timestamp.
        waiting: What was submitted.
        left_out: What was submitted and does not count, and why.
        ceremony: What signatures are being collected for, and whose are missing.
    """

    roles: tuple[RoleStatus, ...]
    unfinished: bool
    waiting: tuple[Waiting, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    ceremony: tuple[str, ...] = ()

    @property
    def validity(self) -> Validity:
        """That of the role which is worst."""
        found = [role.validity for role in self.roles]
        return max(found, key=list(Validity).index)


def read_status(
    base: Path, *, now: datetime, within: timedelta, lifetimes: Lifetimes | None = None
) -> RepositoryStatus:
    """The status of a repository, trusting its own root.

    Args:
        base: The repository.
        now: The moment that expiry is judged at.
        within: A role is due when it expires within this span, and half of its life is over.
        lifetimes: How long documents are signed for here.

    Raises:
        RepositoryError: There is no repository.
        RefusedError: Its signatures do not hold.
    """
    layout = Layout(base)
    state = load_state(layout, None)
    following = going_on(layout, state, now=now)
    return RepositoryStatus(
        tuple(_role(state, role, lifetimes or Lifetimes(), now=now, within=within) for role in WRITING_ORDER),
        unfinished=following.newer_snapshot,
        waiting=tuple(Waiting(role.value, following.documents()[role].signed.version) for role in following.waiting),
        left_out=following.left_out,
        ceremony=_ceremony(layout),
    )


def lines(status: RepositoryStatus, now: datetime) -> tuple[str, ...]:
    """The status for a terminal, a line a role."""
    told = [_line(role, now) for role in status.roles]
    if status.unfinished:
        told.append("a snapshot is newer than the timestamp says: a command was cut short; the next one completes it")
    signers = ", ".join(role.role for role in status.roles if TufRole(role.role).online)
    told += [f"{each.role} version {each.version} was submitted and waits for {signers}" for each in status.waiting]
    return (*told, *map(str, status.left_out), *status.ceremony)


def _ceremony(layout: Layout) -> tuple[str, ...]:
    try:
        request = read_pending(layout)
    except DocumentError as error:
        return (f"the ceremony that is under way cannot be read: {error}",)
    if request is None:
        return ()
    missing = tuple(f"missing: {line}" for line in missing_lines(request))
    return (
        (f"to be signed: {request.title} ({request.reason})", *missing)
        if missing
        else (f"{request.title} waits for the online keys ({request.reason})",)
    )


def _role(
    state: RepositoryState, role: TufRole, lifetimes: Lifetimes, *, now: datetime, within: timedelta
) -> RoleStatus:
    document = state.documents()[role]
    signed: Any = document.signed
    delegator: Any = state.targets.signed if role in DELEGATED_PATHS else state.root.signed
    result = delegator.get_verification_result(role.value, document.metadata.signed_bytes, document.metadata.signatures)
    keys: Sequence[str] = delegator.get_delegated_role(role.value).keyids
    validity = Validity.FINE
    if not result.verified:
        validity = Validity.UNSIGNED
    elif now >= signed.expires:
        validity = Validity.EXPIRED
    elif lifetimes.due(role, signed.expires, now=now, within=within):
        validity = Validity.DUE
    return RoleStatus(
        role.value,
        signed.version,
        signed.expires,
        validity,
        tuple(sorted(result.signed)),
        tuple(keys),
        result.threshold,
    )


def _line(role: RoleStatus, now: datetime) -> str:
    days = abs(role.expires - now) / timedelta(days=1)
    when = f"expires in {days:.1f} days" if role.expires > now else f"expired {days:.1f} days ago"
    signers = ", ".join(keyid[:8] for keyid in role.signed_by) or "no key that it has now"
    turn = ""
    if role.validity is not Validity.FINE:
        turn = f"; to be signed by {role.threshold} of {', '.join(keyid[:8] for keyid in role.keys)}"
    return f"{role.role:<10} version {role.version}, {when}, signed by {signers}{turn}"
