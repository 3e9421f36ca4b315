"""Documents that were submitted: signed by their role, on the disk, and not named by a snapshot yet.

The build pipeline and the release manager sign only what is theirs; whoever holds the online keys makes it visible.
Rules: the newest document that is admitted counts, for each one builds on the one before; one that is not admitted is
left out, and blocks nobody else; a release that was published stays, with the same bytes, and a withdrawn one stays
withdrawn; a channel names published releases by their bytes; what a document names is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from bedrock.errors import TwinhullError
from keys.roles import TufRole
from updater.documents.channel import parse_channel
from updater.documents.release import parse_release, release_path
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.releases import artifacts_of, withdrawal
from updater.repository.role_documents import (
    DELEGATED_PATHS,
    Document,
    LeftOut,
    RepositoryState,
    check_signatures,
    read_document,
)
from updater.repository.targets import read_target

MAX_DOCUMENT_BYTES = 64 << 20
MAX_TARGET_BYTES = 4 << 20


def with_submissions(layout: Layout, state: RepositoryState, *, now: datetime | None) -> RepositoryState:
    """The state with the newest admitted documents, releases before the channels that point to them.

    Args:
        layout: The repository.
        state: What the newest snapshot names.
        now: Leaves out what has expired; None does not look at that.
    """
    for role in DELEGATED_PATHS:
        state = _with_newest(layout, state, role, now)
    return state


def _with_newest(layout: Layout, state: RepositoryState, role: TufRole, now: datetime | None) -> RepositoryState:
    current: Document[Targets] = state.documents()[role]
    for version in reversed(layout.versions_on_disk(role)):
        if version <= current.signed.version:
            break
        try:
            _check_size(layout.role_file(role, version), MAX_DOCUMENT_BYTES)
            document = read_document(layout.role_file(role, version), Targets)
            check_admissible(layout, state, role, document, version=version)
            if now is not None and document.signed.is_expired(now):
                raise RefusedError(f"it expired at {document.signed.expires:%Y-%m-%dT%H:%M:%SZ}")
        except TwinhullError as error:
            state = replace(state, left_out=(*state.left_out, LeftOut(role, version, str(error))))
            continue
        waiting = (*state.waiting, role)
        if role is TufRole.RELEASES:
            return replace(state, releases=document, waiting=waiting)
        return replace(state, channels=document, waiting=waiting)
    return state


def check_admissible(
    layout: Layout, state: RepositoryState, role: TufRole, document: Document[Targets], *, version: int
) -> None:
    """Check a document that was submitted for `role` against the state that it follows.

    Raises:
        RefusedError: It is not signed by the role's keys, or it does what the role must not do.
        RepositoryError: What it names is not there.
        DocumentError: What it names is not a release, or not a channel.
    """
    check_signatures(state.targets.signed, role, document.metadata)
    if document.signed.version != version:
        raise RefusedError(f"it says version {document.signed.version}")
    if document.signed.delegations is not None:
        raise RefusedError("it delegates to other keys")
    delegated = state.targets.signed.get_delegated_role(role.value)
    for path in document.signed.targets:
        if isinstance(delegated, DelegatedRole) and not delegated.is_delegated_path(path):
            raise RefusedError(f"it names {path}, which is not its to name")
    if role is TufRole.RELEASES:
        _check_kept(state.releases.signed, document.signed)
    current: Targets = state.documents()[role].signed
    check: Callable[[Layout, RepositoryState, TargetFile], None] = (
        _check_release if role is TufRole.RELEASES else _check_channel
    )
    for target in _new_targets(current, document.signed):
        if target.length > MAX_TARGET_BYTES:
            raise RefusedError(f"it names {target.path} with {target.length} bytes, at most {MAX_TARGET_BYTES}")
        _check_size(layout.target_file(target.path, target.hashes.get("sha256", "")), MAX_TARGET_BYTES)
        check(layout, state, target)


def _check_size(path: Path, most: int) -> None:
    """Refuse what would fill the memory of whoever looks at it."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error
    if size > most:
        raise RefusedError(f"{path} has {size} bytes, and at most {most} are read")


def _check_kept(current: Targets, submitted: Targets) -> None:
    for path, target in current.targets.items():
        kept = submitted.targets.get(path)
        if kept is None:
            raise RefusedError(f"it removes {path}")
        if (kept.length, kept.hashes) != (target.length, target.hashes):
            raise RefusedError(f"it gives {path} other content")
        if withdrawal(target) is not None and withdrawal(kept) is None:
            raise RefusedError(f"it brings back {path}, which was withdrawn")


def _new_targets(current: Targets, submitted: Targets) -> Iterator[TargetFile]:
    for path, target in submitted.targets.items():
        known = current.targets.get(path)
        if known is None or known.hashes != target.hashes:
            yield target


def _check_release(layout: Layout, _state: RepositoryState, target: TargetFile) -> None:
    release = parse_release(read_target(layout, target), source=target.path)
    if release.target_path != target.path:
        raise RefusedError(f"the target {target.path} describes {release.target_path}")
    for name, artifact in (artifacts_of(release) | release.attachments).items():
        for stored in artifact.objects:
            file = layout.object_file(stored)
            if not file.is_file() or file.stat().st_size != stored.size_bytes:
                raise RefusedError(f"{target.path}: the object of {name} is not there: {stored.path}")


def _check_channel(layout: Layout, state: RepositoryState, target: TargetFile) -> None:
    channel = parse_channel(read_target(layout, target), source=target.path)
    if channel.target_path != target.path:
        raise RefusedError(f"the target {target.path} describes {channel.target_path}")
    for reference in (channel.release, channel.floor or channel.release):
        path = release_path(channel.image, reference.version, channel.architecture)
        release = state.releases.signed.targets.get(path)
        if release is None or release.hashes.get("sha256") != reference.sha256:
            raise RefusedError(f"{target.path} points to {path}, which is not published with these bytes")
        if withdrawal(release) is not None:
            raise RefusedError(f"{target.path} points to {path}, which was withdrawn")
