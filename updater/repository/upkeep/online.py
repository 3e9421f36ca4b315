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
from updater.repository.ceremony.pending import end_if_complete, has_begun
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
        visible: The documents that were submitted and are visible now, by role and version.
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

    A ceremony that misses no signature waits like everything else that was submitted.

    Raises:
        RefusedError: The repository's signatures do not hold.
        BusyError: Somebody else is changing the repository.
        KeysError: The keys of snapshot or timestamp cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        before = load_state(layout, access.keyring, now=now) if has_begun(layout) else None
        ended = end_if_complete(layout, before, access=access, lifetimes=lifetimes, now=now)
        state = ended.state or load_state(layout, access.keyring, now=now)
        signed = bool(ended.visible)
        if state.unfinished or _half_over(state, lifetimes, now):
            online = access.open(*ONLINE_ROLES)
            state = commit(layout, state, changed={}, signers=online, lifetimes=lifetimes, now=now)
            signed = True
    submitted = {role: before.documents()[role].signed.version for role in before.waiting} if before and signed else {}
    visible = {role.value: int(version) for role, version in {**submitted, **ended.visible}.items()}
    left_out = (*(before.left_out if before else ()), *ended.left_out)
    return OnlineSigning(signed, visible, left_out, state.timestamp.signed.expires)


def _half_over(state: RepositoryState, lifetimes: Lifetimes, now: datetime) -> bool:
    documents = {TufRole.SNAPSHOT: state.snapshot.signed, TufRole.TIMESTAMP: state.timestamp.signed}
    return any(lifetimes.due(role, each.expires, now=now, within=timedelta.max) for role, each in documents.items())
