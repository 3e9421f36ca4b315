"""Rebuilds a published release from its lock, and compares the bytes.

    release out of the repository (everything checked) → are the inputs the same? → build, published signatures attached
    → compare every file

This needs the definition, the same version of Twinhull and the repository, but no key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path

from bedrock.digest import bytes_sha256, file_sha256
from bedrock.progress import Progress
from imagebuild.definition.image import LOCK_FILE, BuildProfile, definition_digest, load_definition
from imagebuild.errors import BuildError, NotReproducedError
from imagebuild.inputs.bundle import open_bundle
from imagebuild.inputs.lockfile import read_lock
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.supply import Supply
from imagebuild.pipeline.chain import BuildChain
from imagebuild.reproduction.differences import ask_diffoscope, where
from imagebuild.reproduction.inputs import Here, input_problems
from imagebuild.steps.signing import GivenSignatures
from updater.documents.build_files import ATTACHMENT_FILES, PROVENANCE, RELEASE_FILE, RELEASE_FILES
from updater.documents.signatures import SIGNATURES_FILE, Signatures, parse_signatures
from updater.documents.statement import ENVELOPE_FILE, PROVENANCE_FILE, Statement
from updater.repository.channels import ReleaseChoice
from updater.repository.extract import Extracted, extract


@dataclass(frozen=True)
class FileComparison:
    """One file of the release: its SHA-256 as published and as built now (None: not there), and where they differ."""

    name: str
    published: str | None
    rebuilt: str | None
    differences: tuple[str, ...] = ()
    diffoscope: Path | None = None

    @property
    def identical(self) -> bool:
        """Whether the bytes are the same."""
        return self.published == self.rebuilt


@dataclass(frozen=True)
class Reproduction:
    """The result; `out` is the folder of the new build."""

    image: str
    version: str
    out: Path
    files: tuple[FileComparison, ...]

    @property
    def identical(self) -> bool:
        """Whether every file has the published bytes."""
        return all(file.identical for file in self.files)


@dataclass(frozen=True)
class ReproductionRequest:
    """The release to rebuild.

    Attributes:
        base: The repository.
        choice: The release.
        definition: The folder with the image definition.
        trusted_root: A root document a host would start from; the repository's own when None.
        bundle: A bundle to build from without a network, if any.
        mirrors: Where the packages of the lock are fetched from; None: nowhere, the bundle has them.
    """

    base: Path
    choice: ReleaseChoice
    definition: Path
    trusted_root: bytes | None = None
    bundle: Path | None = None
    mirrors: Mirrors | None = None


def reproduce(
    wanted: ReproductionRequest, *, out: Path, cache: Path, progress: Progress, chain: BuildChain | None = None
) -> Reproduction:
    """Build a published release again into the new folder `out`, and compare.

    Raises:
        NotReproducedError: The release cannot be rebuilt from the inputs here; the message names the differences.
        RepositoryError: There is no repository, or no such release.
        RefusedError: What was published does not verify.
        ImageBuildError: The build failed.
    """
    if out.exists():
        raise BuildError(f"{out} exists; nothing was changed").with_hint("choose another --out")
    chain = chain or BuildChain()
    with tempfile.TemporaryDirectory(prefix="twinhull-reproduce-") as scratch:
        folder = Path(scratch) / "published"
        taken = extract(wanted.base, wanted.choice, folder, progress=progress, trusted_root=wanted.trusted_root)
        statement = _require_reproducible(taken)
        _require_inputs(wanted.definition, taken, statement, program=chain.program())
        root = _root_of_trust(taken, statement, Path(scratch) / "root.json")
        supply = _supply(wanted, taken, chain, cache=cache, progress=progress)
        profile = statement.predicate.buildDefinition.externalParameters.profile
        plan = chain.plan(
            wanted.definition,
            version=taken.release.version,
            signatures=GivenSignatures(_signatures(taken)),
            root_of_trust=root,
            supply=supply,
            out=out,
            profile=BuildProfile(profile) if profile else None,
        )
        chain.build(plan, progress=progress)
        progress.step("compare")
        files = tuple(_explained(file, taken, out, supply) for file in compared(folder, out))
    return Reproduction(taken.release.image, str(taken.release.version), out, files)


def compared(published: Path, out: Path) -> Iterator[FileComparison]:
    """The files of a release, as a build writes them, compared with those of another build, by their hashes."""
    for name in (RELEASE_FILE, *RELEASE_FILES.values(), PROVENANCE_FILE):
        # Publishing makes the signed envelope; what it signed is compared.
        if name != ENVELOPE_FILE and ((published / name).is_file() or (out / name).is_file()):
            yield FileComparison(name, _sha256(published / name), _sha256(out / name))


def _explained(file: FileComparison, taken: Extracted, out: Path, supply: Supply) -> FileComparison:
    old, new = taken.folder / file.name, out / file.name
    if file.identical or not (old.is_file() and new.is_file()):
        return file
    report = out.with_name(f"{out.name}.{file.name}.diffoscope.txt")
    asked = ask_diffoscope(old, new, report)
    return replace(file, differences=where(old, new, tools=supply.tools), diffoscope=report if asked else None)


def _require_reproducible(taken: Extracted) -> Statement:
    missing = [name for name in ("lock", "signatures", PROVENANCE) if name not in taken.release.attachments]
    if missing or taken.statement is None:
        names = ", ".join(ATTACHMENT_FILES[name] for name in missing)
        raise NotReproducedError(f"{taken.release.target_path} was published without {names}").with_hint(
            "`twinhull build --locked` makes releases that can be rebuilt"
        )
    return taken.statement


def _require_inputs(definition: Path, taken: Extracted, statement: Statement, *, program: str) -> None:
    lock = definition / LOCK_FILE
    here = Here(
        image=load_definition(definition).id,
        definition_sha256=definition_digest(definition),
        own_version=version_of("twinhull"),
        own_sha256=program,
        lock=lock.read_bytes() if lock.is_file() else None,
    )
    if problems := input_problems(statement, (taken.folder / LOCK_FILE).read_bytes(), here):
        message = "the inputs here are not those of the release; nothing was built"
        raise NotReproducedError("\n".join((message, *problems)))


def _root_of_trust(taken: Extracted, statement: Statement, target: Path) -> Path:
    """The root document that was baked in, found among the repository's by its hash."""
    wanted = statement.predicate.buildDefinition.externalParameters.rootOfTrustSha256
    for raw in taken.roots:
        if bytes_sha256(raw) == wanted:
            target.write_bytes(raw)
            return target
    raise NotReproducedError(f"the release trusts a root with the SHA-256 {wanted}, which the repository does not have")


def _signatures(taken: Extracted) -> Signatures:
    path = taken.folder / SIGNATURES_FILE
    return parse_signatures(path.read_bytes(), source=f"the published {SIGNATURES_FILE}")


def _supply(
    wanted: ReproductionRequest, taken: Extracted, chain: BuildChain, *, cache: Path, progress: Progress
) -> Supply:
    lock = read_lock((taken.folder / LOCK_FILE).read_bytes(), source=f"the published {LOCK_FILE}")
    if wanted.bundle is not None:
        progress.step("read the bundle")
        packed = open_bundle(wanted.bundle, wanted.definition, cache=cache)
        if packed != lock:
            raise NotReproducedError(f"{wanted.bundle} holds another lock than the published one")
    return chain.locked(wanted.definition, lock, mirrors=wanted.mirrors, cache=cache, progress=progress)


def _sha256(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None
