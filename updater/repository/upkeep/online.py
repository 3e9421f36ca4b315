"""What the holder of the online keys does: makes visible what was submitted, and keeps snapshot and timestamp valid.

Rules: only what is admitted becomes visible (`submissions.py`), nothing that has expired, and nothing goes back; a
submission that is left out is reported, and blocks no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from keys.roles import TufRole
from updater.repository.access import ONLINE_ROLES, KeyAccess
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.role_documents import LeftOut, RepositoryState


@dataclass(frozen=True)
class OnlineSigning:
    """What became visible.

    Attributes:
        signed: Whether snapshot and timestamp were signed; if not, there was nothing to do.
        visible: The submitted documents that are visible now, by role and version.
        left_out: Those that are not.
        expires: When the timestamp expires.
    """

    signed: bool
    visible: dict[str, int]
    left_out: tuple[LeftOut, ...]
    expires: datetime


def sign_online(
    base: Path, *, access: KeyAccess, lifetimes: Lifetimes, now: datetime, wait_s: float = 0.0
) -> OnlineSigning:
    """Write a snapshot and a timestamp to the repository on the disk, if something waits or half of their life is over.

    Raises:
        RefusedError: The repository's signatures do not hold.
        BusyError: Somebody else is changing the repository.
        KeysError: The keys of snapshot or timestamp cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring, now=now)
        visible = {role.value: int(state.documents()[role].signed.version) for role in state.waiting}
        due = state.unfinished or _half_over(state, lifetimes, now)
        if due:
            signers = access.open(*ONLINE_ROLES)
            done = commit(layout, state, changed={}, signers=signers, lifetimes=lifetimes, now=now)
            return OnlineSigning(
                signed=True, visible=visible, left_out=state.left_out, expires=done.timestamp.signed.expires
            )
    return OnlineSigning(signed=False, visible={}, left_out=state.left_out, expires=state.timestamp.signed.expires)


def _half_over(state: RepositoryState, lifetimes: Lifetimes, now: datetime) -> bool:
    documents = {TufRole.SNAPSHOT: state.snapshot.signed, TufRole.TIMESTAMP: state.timestamp.signed}
    return any(lifetimes.due(role, each.expires, now=now, within=timedelta.max) for role, each in documents.items())
