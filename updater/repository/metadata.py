"""The current state of a repository: which documents are valid now, and which a command goes on from.

Rules: nothing is gone on from whose signatures do not hold; no role goes back behind what a signed snapshot named,
whatever became of the timestamp; a document that was submitted counts once it is admitted (`submissions.py`).
Expired metadata are accepted here: an expired repository must stay repairable.
Source: TUF specification 1.0.34, section 5 (client workflow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tuf.api.metadata import Root, Snapshot, Timestamp

from keys.keyring import Keyring
from keys.roles import TufRole
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.role_documents import (
    Document,
    RepositoryState,
    check_any,
    check_signatures,
    is_signed,
    load_named,
    load_targets,
    read_document,
)
from updater.repository.roots import follow_roots, former_roots, given_root, own_root, trusted_root_of
from updater.repository.submissions import with_submissions


def load_state(
    layout: Layout, keyring: Keyring | None, *, trusted_root: bytes | None = None, now: datetime | None = None
) -> RepositoryState:
    """Read the current state along its chain of signatures.

    With a keyring it is the state to go on from: what a newer snapshot names than the timestamp does (a command was cut
    short, or the timestamp was put back), hosts may have seen, and no role may go back behind it; and what was
    submitted since.

    Args:
        layout: The repository.
        keyring: Whose root keys to trust; None trusts the repository's own root, for commands that only show.
        trusted_root: A root document to start from, as hosts do, instead of either.
        now: Leaves out what was submitted and has expired; None does not look at that.

    Raises:
        RepositoryError: There is no repository, or a document is missing or unreadable.
        RefusedError: A signature, a threshold, a version or a hash does not hold.
    """
    if layout.ceremony_file.exists() and not layout.timestamp_file.exists():
        raise RepositoryError(f"{layout.base} has no valid documents yet: signatures are missing").with_hint(
            f"twinhull root apply {layout.base} names them, and `twinhull repo sign-online` ends it"
        )
    if trusted_root is not None:
        return _read_state(layout, follow_roots(layout, given_root(trusted_root)), ())
    root = own_root(layout) if keyring is None else trusted_root_of(layout, keyring)
    state = _read_state(layout, root, former_roots(layout, root, keyring))
    return state if keyring is None else going_on(layout, state, now=now)


def going_on(layout: Layout, state: RepositoryState, *, now: datetime | None = None) -> RepositoryState:
    """The state that a command goes on from: that of the newest whole snapshot, and what was submitted since."""
    return with_submissions(layout, _newest_snapshot(layout, state), now=now)


def _read_state(layout: Layout, root: Document[Root], former: Sequence[Document[Root]]) -> RepositoryState:
    """The state that the timestamp names.

    A document that only a former root vouches for was valid until a key was exchanged, and is gone on from.
    """
    timestamp = read_document(layout.timestamp_file, Timestamp)
    check_any(_signed_of(root, former), TufRole.TIMESTAMP, timestamp.metadata)
    meta = timestamp.signed.snapshot_meta
    snapshot = load_named(layout, TufRole.SNAPSHOT, Snapshot, meta, *_signed_of(root, former))
    return _named_by(layout, root, former, snapshot, timestamp)


def _named_by(
    layout: Layout,
    root: Document[Root],
    former: Sequence[Document[Root]],
    snapshot: Document[Snapshot],
    timestamp: Document[Timestamp],
) -> RepositoryState:
    """The state whose documents a snapshot names."""
    targets = load_targets(layout, TufRole.TARGETS, snapshot.signed, *_signed_of(root, former))
    by_root: dict[TufRole, Document[Any]] = {
        TufRole.TARGETS: targets,
        TufRole.SNAPSHOT: snapshot,
        TufRole.TIMESTAMP: timestamp,
    }
    return RepositoryState(
        root=root,
        targets=targets,
        releases=load_targets(layout, TufRole.RELEASES, snapshot.signed, targets.signed),
        channels=load_targets(layout, TufRole.CHANNELS, snapshot.signed, targets.signed),
        snapshot=snapshot,
        timestamp=timestamp,
        former_roots=tuple(former),
        outdated=tuple(role for role, doc in by_root.items() if not is_signed(root.signed, role, doc.metadata)),
    )


def _newest_snapshot(layout: Layout, state: RepositoryState) -> RepositoryState:
    """The state that the newest whole snapshot on the disk names; `state` itself when that is its own."""
    # Who holds a key that was exchanged can give a snapshot any number: then those of the new key come first.
    least = 0 if TufRole.SNAPSHOT in state.outdated else state.snapshot.signed.version
    for version in reversed(layout.versions_on_disk(TufRole.SNAPSHOT)):
        if version <= least:
            break
        try:
            snapshot = read_document(layout.role_file(TufRole.SNAPSHOT, version), Snapshot)
            check_signatures(state.root.signed, TufRole.SNAPSHOT, snapshot.metadata)
            named = _named_by(layout, state.root, state.former_roots, snapshot, state.timestamp)
            return replace(named, newer_snapshot=True)
        except (RefusedError, RepositoryError):
            # Not signed, or not whole: no host can have taken it.
            continue
    return state


def _signed_of(root: Document[Root], former: Sequence[Document[Root]]) -> tuple[Root, ...]:
    """The roots that may vouch, newest first."""
    return (root.signed, *(older.signed for older in reversed(former)))
