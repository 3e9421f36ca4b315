"""Checks a whole repository as a client that trusts nothing: signatures, thresholds, expiry, versions, every hash.

Rules: read only; every error is listed, not only the first; leftovers of a crash that readers never see are a note, not
an error.
Without memory of its own it cannot detect that everything was rolled back to an older state at once; hosts can, and
the history of snapshots in the repository reveals a single role that was rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tuf.api.metadata import DelegatedRole, Root, Snapshot, TargetFile, Targets, Timestamp

from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from keys.roles import TufRole
from updater.documents.build_files import RELEASE_FILES
from updater.documents.channel import parse_channel
from updater.documents.release import Release, parse_release, release_path
from updater.errors import RefusedError, RepositoryError
from updater.repository.attachments import Trust, attachment_problems
from updater.repository.layout import Layout
from updater.repository.objects import check_object, read_object
from updater.repository.releases import artifacts_of
from updater.repository.revocation.boot_trust import check_boot_trust
from updater.repository.role_documents import (
    DELEGATED_PATHS,
    Document,
    check_signatures,
    load_named,
    load_targets,
    read_document,
)
from updater.repository.roots import given_root, oldest_root, root_chain
from updater.repository.targets import read_target
from updater.repository.trust import provenance_trust
from updater.repository.upkeep.history import History, broken_promises, read_history, steps_back

MAX_ATTACHMENT_BYTES = 64 << 20


@dataclass(frozen=True)
class Verification:
    """The findings; without `problems` a client can trust the whole repository."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    expires: dict[str, datetime]
    releases: int
    channels: int
    objects: int

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def verify(base: Path, *, now: datetime, progress: Progress, trusted_root: bytes | None = None) -> Verification:
    """Check everything a repository holds.

    Args:
        base: The repository.
        now: The time for judging expiry.
        progress: Receives progress on objects, in bytes.
        trusted_root: A root document a host would start from; the repository's first one when None.

    Raises:
        RepositoryError: There is no repository, or the given root cannot be read.
    """
    layout = Layout(base)
    if not layout.metadata.is_dir():
        raise RepositoryError(f"there is no repository at {base}").with_hint(
            f"make one: twinhull repo init {base} --keys DIR"
        )
    walk = _Walk(layout, now, progress)
    walk.run(given_root(trusted_root) if trusted_root is not None else None)
    return walk.report()


class _Walk:
    """One check; collects problems and continues wherever that makes sense."""

    def __init__(self, layout: Layout, now: datetime, progress: Progress) -> None:
        self._layout = layout
        self._now = now
        self._progress = progress
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._expires: dict[str, datetime] = {}
        self._releases: dict[str, Release] = {}
        self._published: dict[str, str] = {}
        self._objects: set[str] = set()
        self._channels = 0
        self._roots: tuple[Root, ...] = ()

    def run(self, trusted_root: Document[Root] | None) -> None:
        with self._problem_if_refused():
            self._roots = self._root_chain(trusted_root)
            root = self._roots[0]
            timestamp = read_document(self._layout.timestamp_file, Timestamp)
            check_signatures(root, TufRole.TIMESTAMP, timestamp.metadata)
            self._note_expiry(TufRole.TIMESTAMP, timestamp)
            meta = timestamp.signed.snapshot_meta
            snapshot = load_named(self._layout, TufRole.SNAPSHOT, Snapshot, meta, root)
            self._note_expiry(TufRole.SNAPSHOT, snapshot)
            history = read_history(self._layout, snapshot.signed, self._roots)
            self._other_snapshots(snapshot.signed, history)
            targets = load_targets(self._layout, TufRole.TARGETS, snapshot.signed, root)
            self._note_expiry(TufRole.TARGETS, targets)
            self._delegations(targets.signed)
            for path, target in sorted(targets.signed.targets.items()):
                with self._problem_if_refused():
                    check_boot_trust(self._layout, path, target)
            for role in DELEGATED_PATHS:
                with self._problem_if_refused():
                    document = self._delegated(role, snapshot.signed, targets.signed)
                    if role is TufRole.RELEASES:
                        self._promises(document, history)
            self._orphans()

    def report(self) -> Verification:
        return Verification(
            problems=tuple(self._problems),
            notes=tuple(self._notes),
            expires=self._expires,
            releases=len(self._releases),
            channels=self._channels,
            objects=len(self._objects),
        )

    @contextmanager
    def _problem_if_refused(self) -> Iterator[None]:
        try:
            yield
        except TwinhullError as error:
            self._problems.append(str(error))

    def _root_chain(self, trusted: Document[Root] | None) -> tuple[Root, ...]:
        """The roots that may vouch, newest first."""
        versions = self._layout.versions_on_disk(TufRole.ROOT)
        chain = root_chain(self._layout, trusted or oldest_root(self._layout))
        current = chain[-1]
        if versions and versions[-1] > current.signed.version:
            self._problems.append(
                f"{versions[-1]}.root.json cannot be reached: {current.signed.version + 1} is missing"
            )
        self._note_expiry(TufRole.ROOT, current)
        return tuple(document.signed for document in reversed(chain))

    def _note_expiry(self, role: TufRole, document: Document[Any]) -> None:
        expires = document.signed.expires
        self._expires[role.value] = expires
        if document.signed.is_expired(self._now):
            self._problems.append(f"the {role.value} metadata expired at {expires:%Y-%m-%dT%H:%M:%SZ}")

    def _other_snapshots(self, current: Snapshot, history: History) -> None:
        """No role may be older than in any snapshot before."""
        if history.unreadable:
            self._notes.append(f"{history.unreadable} other snapshots are not signed by a key of this repository")
        for path, other in history.snapshots.items():
            if other.version > current.version:
                self._notes.append(
                    f"{path.name} is newer than the timestamp says: an interrupted publish, "
                    "or the timestamp was rolled back"
                )
            else:
                self._problems += steps_back(current, other)

    def _promises(self, releases: Targets, history: History) -> None:
        """No release may be other than it was; of each the first problem, for later documents only show it again."""
        found: dict[str, str] = {}
        for earlier in history.releases:
            if earlier.document.signed.version < releases.version:
                for problem in broken_promises(releases, earlier):
                    found.setdefault(problem.partition(" ")[0], problem)
        self._problems += found.values()

    def _delegations(self, targets: Targets) -> None:
        roles = (targets.delegations.roles if targets.delegations else None) or {}
        for role, pattern in DELEGATED_PATHS.items():
            delegated = roles.get(role.value)
            if delegated is None or delegated.paths != [pattern] or not delegated.terminating:
                self._problems.append(f"the role {role.value} must be delegated {pattern}, terminating")
        keys = [set(roles[role.value].keyids) for role in DELEGATED_PATHS if role.value in roles]
        if len(keys) > 1 and set.intersection(*keys):
            self._problems.append("releases and channels share a key, so whoever builds could promote")

    def _delegated(self, role: TufRole, snapshot: Snapshot, targets: Targets) -> Targets:
        document = load_targets(self._layout, role, snapshot, targets)
        self._note_expiry(role, document)
        delegated = targets.get_delegated_role(role.value)
        trust = provenance_trust(self._layout, targets, self._roots)
        for path, target in sorted(document.signed.targets.items()):
            if isinstance(delegated, DelegatedRole) and not delegated.is_delegated_path(path):
                self._problems.append(f"the role {role.value} names {path}, which is not its to name")
                continue
            with self._problem_if_refused():
                if role is TufRole.RELEASES:
                    self._published[path] = target.hashes["sha256"]
                    self._release(path, target, trust)
                else:
                    self._channel(path, target)
        return document.signed

    def _release(self, path: str, target: TargetFile, trust: Trust) -> None:
        release = parse_release(read_target(self._layout, target), source=path)
        if release.target_path != path:
            raise RefusedError(f"the target {path} describes {release.target_path}")
        self._releases[path] = release
        known = len(self._problems)
        for name, artifact in (artifacts_of(release) | release.attachments).items():
            if not artifact.objects:
                self._problems.append(f"{path}: no object carries the artifact {name}")
            for stored in artifact.objects:
                self._objects.add(stored.path)
                self._progress.step(f"checking {path}: {name}", total=stored.size_bytes)
                found = check_object(self._layout.object_file(stored), stored, artifact)
                self._progress.advance(stored.size_bytes)
                self._problems += [f"{path}: {name}: {problem}" for problem in found]
        if len(self._problems) == known:
            problems = attachment_problems(release, RELEASE_FILES, trust, partial(self._content, release))
            self._problems += [f"{path}: {problem}" for problem in problems]

    def _content(self, release: Release, name: str) -> bytes:
        """The content of an attachment whose objects were checked."""
        artifact = release.attachments[name]
        if artifact.size_bytes > MAX_ATTACHMENT_BYTES:
            raise RefusedError(f"the attachment {name} has {artifact.size_bytes} bytes, at most {MAX_ATTACHMENT_BYTES}")
        stored = artifact.objects[0]
        return read_object(self._layout.object_file(stored), stored, artifact)

    def _channel(self, path: str, target: TargetFile) -> None:
        channel = parse_channel(read_target(self._layout, target), source=path)
        if channel.target_path != path:
            raise RefusedError(f"the target {path} describes {channel.target_path}")
        self._channels += 1
        for reference in dict.fromkeys((channel.release, channel.floor or channel.release)):
            wanted = release_path(channel.image, reference.version, channel.architecture)
            if wanted not in self._published:
                self._problems.append(f"{path} points to {wanted}, which is not published")
            elif self._published[wanted] != reference.sha256:
                self._problems.append(
                    f"{path} points to {wanted} with the SHA-256 {reference.sha256}, and what is published under that "
                    f"name has {self._published[wanted]}: it was changed after publication"
                )

    def _orphans(self) -> None:
        files = {path.relative_to(self._layout.base).as_posix() for path in self._layout.objects.glob("??/*")}
        orphans = files - self._objects
        if orphans:
            self._notes.append(f"{len(orphans)} objects belong to no release (left by an interrupted publish)")
