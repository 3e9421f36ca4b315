"""Creates a repository and publishes builds to it.

Rules: everything is checked before anything is written; objects come first, then the release document, then metadata,
the timestamp last; so readers see nothing of an interrupted publish, and the same command completes it.
A version is published once: publishing the same content again does nothing, other content is a conflict.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Targets

from bedrock import strict
from bedrock.digest import bytes_sha256
from bedrock.partial import partial_folder
from bedrock.persist import free_bytes, sync_folder
from bedrock.progress import Progress
from keys.roles import TufRole
from updater.documents.build_files import (
    ARTIFACT_FILES,
    ATTACHMENT_FILES,
    PROVENANCE,
    RELEASE_FILE,
    RELEASE_FILES,
    SBOM,
    SIGNING_REQUEST_FILE,
)
from updater.documents.envelope import seal
from updater.documents.release import Artifact, Release, parse_release
from updater.documents.signatures import SIGNATURES, SIGNATURES_FILE, Signatures, parse_signatures
from updater.documents.slot_layout import LAYOUT, LAYOUT_FILE, SlotLayout, parse_layout
from updater.documents.statement import ENVELOPE_FILE, PAYLOAD_TYPE, PROVENANCE_FILE, Statement, parse_statement
from updater.errors import ConflictError, RefusedError, RepositoryError
from updater.repository.access import KeyAccess
from updater.repository.attachments import statement_problems
from updater.repository.ceremony.pending import CeremonyStep, begin_repository
from updater.repository.commit import commit, initial_documents
from updater.repository.field.layouts import NewRelease, bring_back, require_room
from updater.repository.field.room import family_problems
from updater.repository.field.trust import TrustingBuild, require_same_trust
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import storing, writing
from updater.repository.metadata import load_state
from updater.repository.objects import DEFAULT_LEVEL, check_file, put_object, remove_leftovers
from updater.repository.releases import (
    artifacts_of,
    read_release,
    rivals,
    with_artifacts,
    without_objects,
)
from updater.repository.role_documents import WRITING_ORDER, RepositoryState
from updater.repository.targets import write_target

# How long objects that took minutes to make wait for whoever signs meanwhile.
OTHERS_S = 60.0


@dataclass(frozen=True)
class Build:
    """The folder of a build: its release document, its provenance (as it will be signed), its layout and signatures."""

    folder: Path
    release: Release
    provenance: bytes | None = None
    slots: SlotLayout | None = None
    signatures: Signatures | None = None

    @property
    def statement(self) -> Statement | None:
        """The provenance, read.

        Raises:
            DocumentError: It has errors.
        """
        if self.provenance is None:
            return None
        return parse_statement(self.provenance, source=str(self.folder / PROVENANCE_FILE))

    @property
    def parts(self) -> tuple[tuple[Path, Artifact], ...]:
        """The files of the release's artifacts and attachments."""
        named = artifacts_of(self.release) | self.release.attachments
        return tuple((self.folder / RELEASE_FILES[name], artifact) for name, artifact in named.items())


@dataclass(frozen=True)
class Publication:
    """The result for one build; `waits`: nobody sees it until the online keys sign."""

    release: Release
    new: bool
    waits: bool = False

    @property
    def raw_bytes(self) -> int:
        """Size of the artifacts."""
        return sum(artifact.size_bytes for artifact in artifacts_of(self.release).values())

    @property
    def stored_bytes(self) -> int:
        """Size of the objects that carry them: what a host downloads."""
        artifacts = artifacts_of(self.release).values()
        return sum(stored.size_bytes for artifact in artifacts for stored in artifact.objects)


def init_repository(base: Path, access: KeyAccess, *, lifetimes: Lifetimes, now: datetime) -> CeremonyStep:
    """Write a new, empty repository to the disk, completely or not at all.

    Where private keys are missing, it is one whose first documents are still to be signed (`twinhull root`).

    Raises:
        ConflictError: `base` exists and is not an empty folder.
        MissingKeyError: The keyring does not name every role.
        KeysError: A role's keys cannot be opened.
    """
    base = base.absolute()
    if base.exists() and (not base.is_dir() or any(base.iterdir())):
        raise ConflictError(f"{base} exists and is not an empty folder; nothing was changed")
    documents = initial_documents(access.keyring)
    signers = access.open_if_present(*WRITING_ORDER)
    # What a killed command left of it is removed by the next one.
    with partial_folder(base) as temporary:
        layout = Layout(temporary / "new")
        for folder in (layout.base, layout.metadata, layout.targets, layout.objects):
            folder.mkdir()
        if signers:
            state = commit(layout, None, changed=documents, signers=signers, lifetimes=lifetimes, now=now)
            step = CeremonyStep(None, (), finished=True, root=state.root)
        else:
            step = begin_repository(layout, keyring=access.keyring, lifetimes=lifetimes, now=now)
        sync_folder(layout.base)
        layout.base.replace(base)
    sync_folder(base.parent)
    return step


def read_build(folder: Path) -> Build:
    """Read the documents of a build; its files are checked when it is published.

    Raises:
        RepositoryError: The folder was not written by a build, or its release has an unknown attachment.
        DocumentError: Its release document or its layout has errors.
    """
    path = folder / RELEASE_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RepositoryError(f"{folder} is not the output of a build: {path}: {error.strerror}").with_hint(
            "build it first: twinhull build DEFINITION --version V --out OUT"
        ) from error
    release = without_objects(parse_release(data, source=str(path)))
    if unknown := release.attachments.keys() - ATTACHMENT_FILES.keys():
        raise RepositoryError(f"{path} names the attachment {min(unknown)}, which is not known here").with_hint(
            f"known are {', '.join(sorted(ATTACHMENT_FILES))}"
        )
    provenance, slots, signatures = folder / PROVENANCE_FILE, folder / LAYOUT_FILE, folder / SIGNATURES_FILE
    return Build(
        folder,
        release,
        provenance=provenance.read_bytes() if provenance.is_file() else None,
        # A missing one is reported with the other files.
        slots=parse_layout(slots.read_bytes(), source=str(slots))
        if LAYOUT in release.attachments and slots.is_file()
        else None,
        signatures=parse_signatures(signatures.read_bytes(), source=str(signatures))
        if SIGNATURES in release.attachments and signatures.is_file()
        else None,
    )


def publish(
    base: Path,
    builds: Sequence[Build],
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
    progress: Progress,
    level: int = DEFAULT_LEVEL,
    allow_debug: bool = False,
    allow_unsigned: bool = False,
    allow_other_trust: bool = False,
    wait_s: float = 0.0,
    signing_wait_s: float = OTHERS_S,
    free_bytes: Callable[[Path], int] = free_bytes,
) -> tuple[Publication, ...]:
    """Write builds into the repository on the disk and sign them; all become visible together.

    Without the keys of snapshot and timestamp they are submitted: `repo sign-online` makes them visible.

    Args:
        base: The repository.
        builds: What is published.
        access: The keys that sign.
        lifetimes: How long the signatures hold.
        now: When they begin.
        progress: Shows the steps.
        level: How hard objects are packed.
        allow_debug: Whether a build with the debug profile is published.
        allow_unsigned: Whether a build without Secure Boot signatures is published.
        allow_other_trust: Whether a build is published that trusts another root, or has other Secure Boot certificates
            than the releases before it.
        wait_s: How long to wait for another command that changes the repository.
        signing_wait_s: How long to wait at least, once the objects are there.
        free_bytes: How much room there is on the disk that a folder is on.

    Raises:
        RefusedError: A file is not what its release says, a build has the debug profile, is unsigned or has another
            trust and that was not allowed, or the repository's signatures do not hold.
        ConflictError: A version was published before with other content.
        OutgrownError: A release does not fit the slots of hosts in the field.
        BusyError: Somebody else is publishing.
        RepositoryError: There is no repository.
        KeysError: The keys of releases cannot be opened.
    """
    layout = Layout(base)
    if not allow_debug:
        _refuse_profiles(builds)
    if not allow_unsigned:
        _refuse_unsigned(builds)
    _check_files(builds, progress)
    with storing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring)
        news = _new_among(layout, state, builds)
        releases: dict[str, Release] = {}
        if news:
            signers = access.open_own(TufRole.RELEASES)
            require_room(layout, state, _candidates(news))
            if not allow_other_trust:
                require_same_trust(layout, state, _trusting(news))
            _check_space(layout, news, free_bytes)
            remove_leftovers(layout)
            store = _Store(layout, signers[TufRole.RELEASES], level, progress)
            releases = {build.release.target_path: store.put(build) for build in news}
        # Only now, so that nobody who halts a channel waits for a compression.
        with writing(layout, wait_s=max(wait_s, signing_wait_s)):
            progress.step("signing the metadata")
            return _add(layout, builds, releases, access=access, lifetimes=lifetimes, now=now)


def _candidates(builds: Sequence[Build]) -> list[NewRelease]:
    return [NewRelease(build.release, build.slots) for build in builds]


def _trusting(builds: Sequence[Build]) -> list[TrustingBuild]:
    return [TrustingBuild(build.release, _root_sha256(build.statement), build.signatures) for build in builds]


def _root_sha256(statement: Statement | None) -> str | None:
    """The root document that a build bakes in, by what its provenance says."""
    return None if statement is None else statement.predicate.buildDefinition.externalParameters.rootOfTrustSha256


def _new_among(layout: Layout, state: RepositoryState, builds: Sequence[Build]) -> list[Build]:
    """The builds that must be published."""
    return [build for build in _unique(builds) if _is_new(layout, state, build.release)]


def _add(
    layout: Layout,
    builds: Sequence[Build],
    releases: dict[str, Release],
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
) -> tuple[Publication, ...]:
    """Write and sign the documents of releases whose objects are there; what changed meanwhile counts."""
    state = load_state(layout, access.keyring)
    shown = load_state(layout, None).releases if state.unfinished else state.releases
    news = _new_among(layout, state, builds)
    online = access.open_online()
    if news or (state.unfinished and online):
        back = require_room(layout, state, _candidates(news))
        signers = {**access.open(TufRole.RELEASES), **online}
        changed = _with_releases(layout, state, releases)
        # Before the release is written: an additional layout in the field is harmless.
        bring_back(layout, back)
        changes = {TufRole.RELEASES: changed} if news else {}
        state = commit(layout, state, changed=changes, signers=signers, lifetimes=lifetimes, now=now)
    paths = (build.release.target_path for build in builds)
    waits = TufRole.RELEASES in state.waiting
    return tuple(
        Publication(read_release(layout, state, path), new=path not in shown.signed.targets, waits=waits)
        for path in paths
    )


def _refuse_profiles(builds: Sequence[Build]) -> None:
    """Refuse a build with a profile, which opens an image to everybody at its console."""
    if found := [
        f"{build.folder} was built with --profile {build.release.profile}" for build in builds if build.release.profile
    ]:
        raise RefusedError("\n".join((*found, "nothing was published"))).with_hint(
            "build it without a profile; for a repository that no host in the field follows there is --allow-debug"
        )


def _refuse_unsigned(builds: Sequence[Build]) -> None:
    """Refuse a build that no firmware with Secure Boot starts."""
    if found := [build.folder for build in builds if (build.folder / SIGNING_REQUEST_FILE).is_file()]:
        named = (f"{folder} is unsigned: its Secure Boot signatures were not made yet" for folder in found)
        raise RefusedError("\n".join((*named, "nothing was published"))).with_hint(
            f"twinhull sign {found[0] / SIGNING_REQUEST_FILE}, then twinhull finish {found[0]}; "
            "for hosts without Secure Boot there is --allow-unsigned"
        )


def _check_files(builds: Sequence[Build], progress: Progress) -> None:
    problems: list[str] = []
    for build in builds:
        total = sum(artifact.size_bytes for _, artifact in build.parts)
        progress.step(f"checking {build.folder}", total=total)
        for path, artifact in build.parts:
            problems += check_file(path, artifact, progress)
        problems += _provenance_problems(build)
        if build.slots is not None:
            problems += family_problems(build.slots, build.release)
    if problems:
        message = "the build is not what its release.json says; nothing was published\n"
        raise RefusedError(message + "\n".join(problems)).with_hint("build it again")


def _provenance_problems(build: Build) -> list[str]:
    path = build.folder / PROVENANCE_FILE
    statement = build.statement
    if statement is None:
        return [f"{path} is missing"] if SBOM in build.release.attachments else []
    return [f"{path}: {problem}" for problem in statement_problems(statement, build.release, RELEASE_FILES)]


def _unique(builds: Sequence[Build]) -> tuple[Build, ...]:
    """The builds without duplicates.

    Raises:
        ConflictError: Two builds are of one name and differ, or of versions that no host could hold together.
    """
    chosen: dict[str, Build] = {}
    for build in builds:
        path = build.release.target_path
        if chosen.setdefault(path, build).release != build.release:
            raise ConflictError(f"{chosen[path].folder} and {build.folder} are both {path} and differ")
    for one, other in combinations(chosen.values(), 2):
        mine, theirs = one.release, other.release
        if (mine.image, mine.architecture) == (theirs.image, theirs.architecture):
            _require_apart(mine, [str(theirs.version)] if mine.version.is_confusable_with(theirs.version) else [])
    return tuple(chosen.values())


def _require_apart(release: Release, rivals: Sequence[str]) -> None:
    if rivals:
        differ = "differ in case or in zeros only: neither the boot loader nor FAT can tell them apart"
        raise ConflictError(f"{release.image} {release.version} and {', '.join(rivals)} {differ}").with_hint(
            "choose a version that is newer or older, such as the next number"
        )


def _is_new(layout: Layout, state: RepositoryState, release: Release) -> bool:
    """Whether a release must be published.

    Raises:
        ConflictError: It was published with other content, or a version that no host could hold next to it.
    """
    path = release.target_path
    if path in state.releases.signed.targets:
        if without_objects(read_release(layout, state, path)) == release:
            return False
        name = f"{release.image} {release.version} for {release.architecture.value}"
        raise ConflictError(f"{name} was published before with other content").with_hint(
            "a published version never changes: build it again under a new version"
        )
    _require_apart(release, rivals(state, release))
    return True


def _check_space(layout: Layout, builds: Sequence[Build], free_bytes: Callable[[Path], int]) -> None:
    needed = sum(artifact.size_bytes for build in builds for _, artifact in build.parts)
    free = free_bytes(layout.base)
    # Compressed objects need less, but a root that does not compress needs all of it.
    if free < needed:
        message = f"{layout.base} has {free} bytes free, and publishing may need {needed}"
        raise RepositoryError(message).with_hint("make room on that disk; nothing was changed")


@dataclass(frozen=True)
class _Store:
    """Writes the files of builds to the repository as objects."""

    layout: Layout
    signers: Sequence[Signer]
    level: int
    progress: Progress

    def put(self, build: Build) -> Release:
        """Write the objects of a build to the disk; returns the release with its objects and its provenance."""
        carried = [self._carried(path, artifact) for path, artifact in build.parts]
        count = len(ARTIFACT_FILES)
        attachments = dict(zip(build.release.attachments, carried[count:], strict=True))
        if build.provenance is not None:
            attachments[PROVENANCE] = self._signed(build.provenance)
        return replace(with_artifacts(build.release, carried[:count]), attachments=attachments)

    def _carried(self, path: Path, artifact: Artifact) -> Artifact:
        self.progress.step(f"compressing {path}", total=artifact.size_bytes)
        stored = put_object(self.layout, path, artifact, level=self.level, progress=self.progress)
        return replace(artifact, objects=(stored.stored,))

    def _signed(self, statement: bytes) -> Artifact:
        envelope = seal(statement, payload_type=PAYLOAD_TYPE, signers=self.signers)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ENVELOPE_FILE
            path.write_bytes(envelope)
            return self._carried(path, Artifact(bytes_sha256(envelope), len(envelope)))


def _with_releases(layout: Layout, state: RepositoryState, releases: dict[str, Release]) -> Targets:
    """Write the release documents to the disk; the metadata that names them."""
    changed = state.releases.copy()
    for path, release in releases.items():
        changed.targets[path] = write_target(layout, path, strict.dump_json(release))
    return changed
