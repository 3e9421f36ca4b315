"""What earlier documents of a repository prove: that a role went back, or that a release is not what it was.

Rules: only a snapshot that was signed counts, and of the releases' documents only those that such a snapshot names by
their hash: what a killed command left was never seen by anybody.  A snapshot proves that a role went back only if
the keys of today signed it, for whoever changes these keys may start over (TUF 1.0.34, 5.3.11).
A document that proves nothing against the current ones can go; one that does must stay, or the proof is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import MetaFile, Root, Snapshot, Targets

from keys.roles import TufRole
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.releases import withdrawal
from updater.repository.role_documents import Document, check_any, is_signed, read_document

_RELEASES = f"{TufRole.RELEASES.value}.json"


@dataclass(frozen=True)
class EarlierReleases:
    """A document of the role releases that was in force once, and the file of a snapshot that named it."""

    document: Document[Targets]
    path: Path
    named_by: Path


@dataclass(frozen=True)
class History:
    """The other signed snapshots on the disk, and the releases' documents that they name.

    Attributes:
        snapshots: Signed with keys that count today, by their files.
        releases: One for each version that any of them named.
        unreadable: How many files are not what their names say.
    """

    snapshots: dict[Path, Snapshot]
    releases: tuple[EarlierReleases, ...]
    unreadable: int


def read_history(layout: Layout, current: Snapshot, roots: Sequence[Root]) -> History:
    """Read what earlier commands left; reads only.

    Args:
        layout: The repository.
        current: Its snapshot.
        roots: The chain of its roots, newest first.
    """
    snapshots: dict[Path, Snapshot] = {}
    releases: dict[int, EarlierReleases] = {}
    unreadable = 0
    for version in layout.versions_on_disk(TufRole.SNAPSHOT):
        path = layout.role_file(TufRole.SNAPSHOT, version)
        if version == current.version:
            continue
        try:
            snapshot = read_document(path, Snapshot)
            check_any(roots, TufRole.SNAPSHOT, snapshot.metadata)
        except (RefusedError, RepositoryError):
            unreadable += 1
            continue
        if is_signed(roots[0], TufRole.SNAPSHOT, snapshot.metadata):
            snapshots[path] = snapshot.signed
        meta = snapshot.signed.meta.get(_RELEASES)
        if meta is not None and meta.version not in releases:
            found = _named(layout, meta, path)
            if found is not None:
                releases[meta.version] = found
    return History(snapshots, tuple(releases.values()), unreadable)


def _named(layout: Layout, meta: MetaFile, named_by: Path) -> EarlierReleases | None:
    """The releases' document that a snapshot names; None when it is gone or another one."""
    path = layout.role_file(TufRole.RELEASES, meta.version)
    try:
        document = read_document(path, Targets)
        meta.verify_length_and_hashes(document.raw)
    except (RefusedError, RepositoryError, LengthOrHashMismatchError):
        return None
    return EarlierReleases(document, path, named_by)


def steps_back(current: Snapshot, other: Snapshot) -> Iterator[str]:
    """What is older in the current snapshot than in another one, as problems; pure."""
    for name, meta in other.meta.items():
        now = current.meta.get(name)
        if now is None or now.version < meta.version:
            found = "no longer named" if now is None else f"at version {now.version}"
            yield f"rolled back: {name} was at version {meta.version}, now it is {found}"


def broken_promises(current: Targets, earlier: EarlierReleases) -> Iterator[str]:
    """What became of releases that was never to become of them, as problems; pure."""
    return changed_releases(current, earlier.document.signed, name=earlier.path.name)


def changed_releases(current: Targets, earlier: Targets, *, name: str) -> Iterator[str]:
    """The same for a document of that name; pure."""
    for path, target in earlier.targets.items():
        before, now = target.hashes.get("sha256"), current.targets.get(path)
        if now is None:
            yield f"{path} was published by {name} and is not named any more"
        elif now.hashes.get("sha256") != before:
            yield (
                f"{path} was changed after publication: {name} gave it the SHA-256 {before}, "
                f"now it has {now.hashes.get('sha256')}"
            )
        elif withdrawal(target) is not None and withdrawal(now) is None:
            yield f"{path} was withdrawn by {name} and is not any more"


def proofs(history: History, current: Snapshot, releases: Targets) -> frozenset[Path]:
    """The files that prove something against the current documents, and must stay; pure."""
    found = {path for path, other in history.snapshots.items() if any(steps_back(current, other))}
    for earlier in history.releases:
        if any(broken_promises(releases, earlier)):
            found |= {earlier.path, earlier.named_by}
    return frozenset(found)
