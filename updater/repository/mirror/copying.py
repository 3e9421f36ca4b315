"""Copies a repository, or one release of it, into a folder.

Rules: everything is verified before it gets its name there, and nothing there is given up for it; objects come first,
then the documents that name them, then role documents, the timestamp last: a reader sees the old repository or the new
one, and what an interrupted copy left is used by the next.  The copy never goes back behind what is there.
A new root with new online keys is the one thing that two steps cannot hide: hosts that ask between them ask again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Root, Targets

from bedrock.digest import file_sha256
from bedrock.partial import partial_folder
from bedrock.persist import free_bytes, sync_folder, write_atomic
from bedrock.progress import Progress
from keys.roles import TufRole
from updater.documents.release import StoredObject
from updater.errors import ConflictError, RefusedError, RepositoryError
from updater.repository.channels import ReleaseChoice
from updater.repository.layout import Layout
from updater.repository.lock import storing, writing
from updater.repository.metadata import load_state
from updater.repository.mirror.sources import RepositorySource
from updater.repository.mirror.staging import Anchor, Staged, stage
from updater.repository.role_documents import DELEGATED_PATHS, WRITING_ORDER, RepositoryState, is_signed
from updater.repository.upkeep.history import changed_releases

_INCOMING = ".incoming-"
_OURS = frozenset({"metadata", "targets", "objects", "retired-layouts.json", "ceremony.json"})


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        new: Whether anything is new.
        releases: How many releases are there.
        objects: How many objects they have.
        fetched_objects: How many of these were fetched.
        fetched_bytes: How many bytes of objects were fetched.
        expires: When each role's document expires.
        expired: The roles whose documents have expired.
    """

    new: bool
    releases: int
    objects: int
    fetched_objects: int
    fetched_bytes: int
    expires: dict[str, datetime]
    expired: tuple[str, ...]


def copy(
    source: RepositorySource,
    base: Path,
    anchor: Anchor,
    *,
    now: datetime,
    progress: Progress,
    only: ReleaseChoice | None = None,
    allow_expired: bool = False,
    wait_s: float = 0.0,
) -> Copied:
    """Write a verified copy of a repository to the folder `base` on the disk, fetching only what it lacks.

    Args:
        source: The repository.
        base: The folder: new, empty, or an earlier copy.
        anchor: Where trust begins.
        now: The time for judging expiry.
        progress: Receives progress on objects, in bytes.
        only: Copy this release alone: its objects and documents, and no other release or channel.
        allow_expired: Whether a repository is copied whose documents have expired.
        wait_s: How long to wait for another command that changes the copy.

    Raises:
        RefusedError: Something does not verify, has expired, or would go back behind what is there.
        ConflictError: The folder holds something else.
        DocumentError: A release has keys that are new to this program.
        FetchError: The source cannot be reached, or does not have what it names.
        BusyError: Somebody else is changing the copy.
    """
    layout = Layout(base)
    _prepare(layout)
    with storing(layout, wait_s=wait_s), partial_folder(base / "copy") as scratch:
        progress.step(f"reading the documents of {source.shown}")
        staged = stage(source, Layout(scratch / "new"), anchor, have=layout, only=only)
        expired = _expired(staged.state, now)
        if expired and not allow_expired:
            raise RefusedError(f"{source.shown}: expired: {', '.join(expired)}; nothing was copied").with_hint(
                "hosts refuse it: copy it when it was refreshed, or add --allow-expired"
            )
        _refuse_steps_back(layout, staged)
        fetched = _fetch_objects(source, layout, staged.objects, progress)
        progress.step("writing the documents")
        with writing(layout, wait_s=wait_s):
            # Somebody may have signed here since.
            _refuse_steps_back(layout, staged)
            written = _write_documents(layout, staged)
    documents = staged.state.documents()
    return Copied(
        new=written or fetched[0] > 0,
        releases=len(staged.releases),
        objects=len(staged.objects),
        fetched_objects=fetched[0],
        fetched_bytes=fetched[1],
        expires={role.value: document.signed.expires for role, document in documents.items()},
        expired=expired,
    )


def _prepare(layout: Layout) -> None:
    base = layout.base
    if base.exists() and not base.is_dir():
        raise ConflictError(f"{base} is not a folder")
    there = {path.name for path in base.iterdir() if not path.name.startswith(".")} if base.is_dir() else set()
    if there - _OURS:
        raise ConflictError(f"{base} is not empty and not a repository: it holds {min(there - _OURS)}").with_hint(
            "name a new folder, or an earlier copy"
        )
    for folder in (base, layout.objects, layout.targets, layout.metadata):
        folder.mkdir(parents=True, exist_ok=True)


def _expired(state: RepositoryState, now: datetime) -> tuple[str, ...]:
    return tuple(role.value for role, document in state.documents().items() if document.signed.is_expired(now))


def _refuse_steps_back(layout: Layout, staged: Staged) -> None:
    """Refuse what is older than what is there, or other content under a name that is there."""
    for path in staged.layout.metadata.glob("*.root.json"):
        own = layout.metadata / path.name
        if own.is_file() and own.read_bytes() != path.read_bytes():
            raise RefusedError(f"{own} is another root than the source's: {layout.base} is a copy of something else")
    if not layout.timestamp_file.exists():
        return
    before, after = load_state(layout, None), staged.state
    documents = after.documents()
    for role, document in before.documents().items():
        old, new = document.signed.version, documents[role].signed.version
        if role is not TufRole.ROOT and not is_signed(_delegator(after, role), role, document.metadata):
            # Its key was exchanged: whoever had the old one could give it any number (TUF 1.0.34, 5.3.11).
            continue
        if new < old:
            raise RefusedError(
                f"{layout.base} has version {old} of the {role.value} metadata, and the source has {new}; "
                "nothing was copied"
            ).with_hint("the source is older than this copy, or somebody shows an old state")
        if new == old and document.raw != documents[role].raw:
            raise RefusedError(f"{layout.base} has another version {old} of the {role.value} metadata than the source")
    if problems := tuple(changed_releases(after.releases.signed, before.releases.signed, name=str(layout.base))):
        raise RefusedError("\n".join(problems)).with_hint("tell whoever runs the source; nothing was copied")


def _delegator(state: RepositoryState, role: TufRole) -> Root | Targets:
    """The document that says whose signatures count for a role."""
    return state.targets.signed if role in DELEGATED_PATHS else state.root.signed


def _fetch_objects(
    source: RepositorySource, layout: Layout, wanted: Mapping[str, StoredObject], progress: Progress
) -> tuple[int, int]:
    """Fetch the objects that are not there (writes to the disk); how many, and their bytes."""
    there = sum(stored.size_bytes for stored in wanted.values() if layout.object_file(stored).is_file())
    progress.step("checking the objects that are here", total=there)
    missing = []
    for stored in wanted.values():
        path = layout.object_file(stored)
        if not path.is_file():
            missing.append(stored)
        elif path.stat().st_size != stored.size_bytes or file_sha256(path) != stored.sha256:
            # A damaged one is replaced in one step when the good one is here.
            missing.append(stored)
            progress.advance(stored.size_bytes)
        else:
            progress.advance(stored.size_bytes)
    total = sum(stored.size_bytes for stored in missing)
    if (free := free_bytes(layout.base)) < total:
        raise RepositoryError(f"{layout.base} has {free} bytes free, and the copy needs {total}")
    progress.step(f"copying {len(missing)} of {len(wanted)} objects", total=total)
    for stored in missing:
        _fetch_object(source, layout, stored, progress)
    return len(missing), total


def _fetch_object(source: RepositorySource, layout: Layout, stored: StoredObject, progress: Progress) -> None:
    """Fetch one object (writes to the disk), going on with what an interrupted copy left of it."""
    incoming = layout.objects / f"{_INCOMING}{stored.sha256}"
    for resumed in (incoming.is_file() and 0 < incoming.stat().st_size <= stored.size_bytes, False):
        if not resumed:
            incoming.unlink(missing_ok=True)
        digest = _transfer(source, stored, incoming, progress)
        if digest == stored.sha256:
            break
        incoming.unlink()
        if not resumed:
            raise RefusedError(f"{source.shown}: {stored.path} has the SHA-256 {digest}, which is not the signed one")
    path = layout.object_file(stored)
    path.parent.mkdir(exist_ok=True)
    incoming.chmod(0o644)
    incoming.replace(path)
    sync_folder(path.parent)
    sync_folder(layout.objects)


def _transfer(source: RepositorySource, stored: StoredObject, incoming: Path, progress: Progress) -> str:
    """Append what is missing to a file (writes to the disk, durably); the SHA-256 of all of it."""
    digest = hashlib.sha256()
    with incoming.open("a+b") as sink:
        sink.seek(0)
        while chunk := sink.read(1 << 20):
            digest.update(chunk)
            progress.advance(len(chunk))

        def write(chunk: bytes) -> None:
            sink.write(chunk)
            digest.update(chunk)
            progress.advance(len(chunk))

        def again() -> None:
            nonlocal digest
            progress.advance(-sink.tell())
            sink.truncate(0)
            digest = hashlib.sha256()

        source.fetch(stored.path, stored.size_bytes, sink.tell(), write, again)
        sink.flush()
        os.fsync(sink.fileno())
    return digest.hexdigest()


def _write_documents(layout: Layout, staged: Staged) -> bool:
    """Write the documents that are new (writes to the disk), those that name others last; whether there were any."""
    new = staged.layout
    targets = sorted(path for path in new.targets.rglob("*") if path.is_file())
    current = staged.state.documents()
    roles = [path for role in WRITING_ORDER[:-1] for path in _role_files(new, role, current[role].signed.version)]
    written = [_write_document(layout, path, new.base) for path in (*targets, *roles, new.timestamp_file)]
    return any(written)


def _role_files(new: Layout, role: TufRole, current: int) -> list[Path]:
    """The staged files of a role, the current one last."""
    return [new.role_file(role, version) for version in new.versions_on_disk(role) if version <= current]


def _write_document(layout: Layout, path: Path, above: Path) -> bool:
    file = layout.base / path.relative_to(above)
    raw = path.read_bytes()
    if file.is_file() and file.read_bytes() == raw:
        return False
    missing = [folder for folder in file.parents if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, raw)
    for folder in missing:
        sync_folder(folder.parent)
    return True
