"""Files of a repository that nothing needs: objects of interrupted commands, documents that were replaced.

Rules: every root stays, for hosts go from one to the next, and every targets document, for its keys signed the
provenance of older releases; so does all that a published or withdrawn release names;
nothing goes that is younger than an age, for a host may be reading it, or an interrupted command may be gone on with.
A release with keys that are new to this program ends the collection: they may name files.
Earlier documents in which `verify` finds that a release was changed, or that a role went back, stay (`history.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from keys.roles import TufRole
from updater.documents.release import parse_release_whole
from updater.repository.layout import Layout
from updater.repository.lock import storing, writing
from updater.repository.metadata import going_on, load_state
from updater.repository.releases import artifacts_of
from updater.repository.role_documents import IN_SNAPSHOT, RepositoryState
from updater.repository.roots import oldest_root, root_chain
from updater.repository.targets import read_target
from updater.repository.upkeep.history import proofs, read_history

DEFAULT_AGE = timedelta(days=7)


@dataclass(frozen=True)
class Garbage:
    """Files that nothing needs, by their paths below the repository, and their size together."""

    files: tuple[str, ...]
    size_bytes: int


def collect(base: Path, *, older_than: timedelta, now: datetime, remove: bool, wait_s: float = 0.0) -> Garbage:
    """Find files that nothing needs and, with `remove`, remove them from the disk.

    Args:
        base: The repository.
        older_than: Younger files are left alone.
        now: The time, with time zone.
        remove: Whether to remove them.
        wait_s: How long to wait for another command that changes the repository.

    Raises:
        RepositoryError: There is no repository, or a document is missing.
        RefusedError: Signatures or hashes do not hold; nothing was removed.
        DocumentError: A release has keys that are new to this program; nothing was removed.
        BusyError: Somebody else is changing the repository.
    """
    layout = Layout(base)
    with storing(layout, wait_s=wait_s), writing(layout, wait_s=wait_s):
        state = load_state(layout, None)
        # What a newer snapshot names, the next command goes on with.
        needed: set[Path] = set()
        for each in (state, going_on(layout, state)):
            needed.update(_needed(layout, each), _proofs(layout, each))
        before = (now - older_than).astimezone(UTC).timestamp()
        found = [path for path in _all(layout) if path not in needed and path.stat().st_mtime < before]
        size_bytes = sum(path.stat().st_size for path in found)
        for path in found if remove else ():
            path.unlink()
    return Garbage(tuple(path.relative_to(base).as_posix() for path in found), size_bytes)


def _all(layout: Layout) -> tuple[Path, ...]:
    """Every file that commands write below the three folders, half-written ones among them."""
    folders = (layout.metadata, layout.targets, layout.objects)
    return tuple(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())


def _proofs(layout: Layout, state: RepositoryState) -> frozenset[Path]:
    """The documents that prove something against those of a state."""
    roots = [root.signed for root in reversed(root_chain(layout, oldest_root(layout)))]
    return proofs(read_history(layout, state.snapshot.signed, roots), state.snapshot.signed, state.releases.signed)


def _needed(layout: Layout, state: RepositoryState) -> Iterator[Path]:
    yield layout.timestamp_file
    yield layout.role_file(TufRole.SNAPSHOT, state.snapshot.signed.version)
    documents = state.documents()
    for role in IN_SNAPSHOT:
        yield layout.role_file(role, documents[role].signed.version)
    for role in (TufRole.ROOT, TufRole.TARGETS):
        for version in layout.versions_on_disk(role):
            yield layout.role_file(role, version)
    named = state.targets.signed.targets | state.releases.signed.targets | state.channels.signed.targets
    for path, target in named.items():
        yield layout.target_file(path, target.hashes["sha256"])
    for path, target in state.releases.signed.targets.items():
        release = parse_release_whole(read_target(layout, target), source=path)
        for artifact in (*artifacts_of(release).values(), *release.attachments.values()):
            for stored in artifact.objects:
                yield layout.object_file(stored)
