"""Withdrawing a release: no host installs it any more, and what it was can still be explained.

Rules: the release stays among the targets, marked with the reason, so that its name is never used again and its bytes
can be reproduced; it is never un-withdrawn, for hosts may have acted on it; a channel does not name it when it is
withdrawn, and none can be pointed to it afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keys.roles import TufRole
from updater.errors import PolicyError
from updater.repository.access import KeyAccess
from updater.repository.channels import ReleaseChoice, channel_names, find_release, read_channel
from updater.repository.commit import commit, completed
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.releases import marked_withdrawn, withdrawal

MAX_REASON = 500


@dataclass(frozen=True)
class Withdrawal:
    """Whether a release was withdrawn just now; `waits`: hosts see it when the online keys sign."""

    new: bool
    waits: bool


def withdraw(
    base: Path,
    choice: ReleaseChoice,
    reason: str,
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
    wait_s: float = 0.0,
) -> Withdrawal:
    """Mark a release as withdrawn in the repository on the disk.

    Raises:
        RepositoryError: It is not published.
        PolicyError: A channel names it, or the reason is empty or too long.
        RefusedError: The repository's signatures do not hold.
        BusyError: Somebody else is changing the repository.
        KeysError: The keys of releases cannot be opened.
    """
    if not 0 < len(reason.strip()) <= MAX_REASON or not reason.isprintable():
        raise PolicyError(f"the reason must be one line of 1 to {MAX_REASON} characters")
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring)
        path = find_release(layout, state, choice).target_path
        named = [name for name in channel_names(state) if path in read_channel(layout, state, name).release_paths]
        if named:
            raise PolicyError(f"{choice.image} {choice.version} is named by the channel {', '.join(named)}").with_hint(
                "point it to another release first: twinhull channel set REPO NAME --release IMAGE/VERSION"
            )
        if withdrawal(state.releases.signed.targets[path]) is not None:
            done = completed(layout, state, access=access, lifetimes=lifetimes, now=now)
            return Withdrawal(new=done is not state, waits=TufRole.RELEASES in done.waiting)
        signers = access.open_own(TufRole.RELEASES)
        changed = state.releases.copy()
        marked_withdrawn(changed.targets[path], reason.strip())
        state = commit(
            layout, state, changed={TufRole.RELEASES: changed}, signers=signers, lifetimes=lifetimes, now=now
        )
    return Withdrawal(new=True, waits=TufRole.RELEASES in state.waiting)
