"""Finishes a build whose Secure Boot key was somewhere else: attaches the signatures, and makes what they are part of.

    signatures out of the request → signed UKI and boot loader → disk → provenance, release.json, summary

Rules: a finished build has the same bytes as one that was signed while it was built; everything is made next to the
build and moved into it at the end, the request is removed last, so that an interrupted run is run again.
Not here: packages, root file system, initrd; they do not change.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from bedrock import strict
from bedrock.digest import file_sha256
from bedrock.partial import new_file, partial_folder
from bedrock.persist import sync_folder, write_atomic
from bedrock.progress import Progress, Silent
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.inspection.summary import SUMMARY_FILE, Summary, read_summary
from imagebuild.pipeline.build import UNSIGNED_NOTE
from imagebuild.pipeline.documents import artifact_of, disk_sizes
from imagebuild.steps.boot import program_request, put_signatures
from imagebuild.steps.disk import QCOW2, RAW, RECIPE_FILE, DiskRecipe, DiskWorkplace, assemble
from imagebuild.steps.products import BootPrograms, DiskImages
from imagebuild.steps.scratch import remove_tree
from keys.ceremony.request import SigningRequest, request_bytes
from keys.ceremony.signing import read_request
from keys.roles import BootRole
from keys.secureboot import measured
from keys.secureboot.pe import authenticode_digest
from keys.secureboot.requests import is_for_measurements, measurement_signatures, program_signatures
from updater.documents.build_files import (
    CERTIFICATES_FOLDER,
    RELEASE_FILE,
    SIGNING_REQUEST_FILE,
    UNSIGNED_FOLDER,
)
from updater.documents.release import ArtifactKind, parse_release_whole
from updater.documents.signatures import LOADER, SIGNATURES, SIGNATURES_FILE, UKI
from updater.documents.statement import PROVENANCE_FILE, dump_statement, make_statement, parse_statement

Assemble = Callable[..., DiskImages]
# The order in which they are moved into the build: what names the others comes last.
_MOVED = (RAW, QCOW2, ArtifactKind.UKI.file_name, SIGNATURES_FILE, PROVENANCE_FILE, SUMMARY_FILE, RELEASE_FILE)


@dataclass(frozen=True)
class FinishedBuild:
    """A build after it was finished.

    Attributes:
        out: Its folder.
        fresh: False when it had been finished before.
        summary: What was built.
        next_request: The signing request for the key db, when only the signatures for the measured boot were there.
    """

    out: Path
    fresh: bool
    summary: Summary
    next_request: Path | None = None


def finish_build(
    build: Path,
    request: Path | None = None,
    *,
    cache: Path,
    progress: Progress | None = None,
    assemble_disk: Assemble = assemble,
) -> FinishedBuild:
    """Finish an unsigned build with the signatures in its signing request; changes the build's folder on the disk.

    The signatures for its measured boot become part of the UKI, and only then can the UKI be signed: with them in the
    request, the build gets another request, and is finished when that one comes back.

    Args:
        build: The folder of the build.
        request: The request as it came back; the one in the build's folder when None.
        cache: Twinhull's cache folder, which has the tools the build was made with.
        progress: Shows the steps.
        assemble_disk: Makes the disk.

    Raises:
        BuildError: The folder is not a build, or the tools that made it are not here.
        RequestMismatchError: The request was made for another build.
        UnrequestedKeyError: A signature is missing.
        DocumentError: A file has errors, or a signature does not hold.
        SpaceError: Two UKIs do not fit into the boot partition.
        ProcessError: A tool failed.
    """
    shown = progress or Silent()
    build = build.absolute()
    marker = build / SIGNING_REQUEST_FILE
    if not (build / RELEASE_FILE).is_file():
        raise BuildError(f"{build} is not the output of a build")
    if not marker.is_file():
        shutil.rmtree(build / UNSIGNED_FOLDER, ignore_errors=True)
        return FinishedBuild(build, fresh=False, summary=read_summary(build))
    shown.step("signatures")
    unsigned = {name: build / UNSIGNED_FOLDER / name for name in (UKI, LOADER)}
    given = read_request(request or marker)
    if is_for_measurements(given):
        _fill_measured(build, given, unsigned[UKI])
        write_atomic(marker, request_bytes(_program_request(build, unsigned)))
        return FinishedBuild(build, fresh=True, summary=read_summary(build), next_request=marker)
    made = _signatures(build, given, unsigned)
    tools = _tools(build, cache)
    with partial_folder(build, remove=remove_tree) as work:
        out = work / "out"
        out.mkdir()
        programs = BootPrograms(out / ArtifactKind.UKI.file_name, work / LOADER)
        policies = measured.signatures_in(unsigned[UKI])
        put_signatures(made, policies, unsigned, programs, certificates=_certificates(build), out=out)
        shown.step("disk")
        place = DiskWorkplace(
            tools, build / "config", work / "disk", out, Access(read=(build,), write=(work,)), work / "log"
        )
        slot = tuple(build / kind.file_name for kind in (ArtifactKind.ROOT, ArtifactKind.VERITY))
        disk = assemble_disk(_recipe(build), programs, slot, place)
        shown.step("documents")
        summary = _write_documents(build, out, programs, disk)
        for name in _MOVED:
            (out / name).replace(build / name)
    sync_folder(build)
    marker.unlink()
    sync_folder(build)
    shutil.rmtree(build / UNSIGNED_FOLDER)
    return FinishedBuild(build, fresh=True, summary=summary)


def _signatures(build: Path, request: SigningRequest, unsigned: dict[str, Path]) -> dict[str, bytes]:
    certificate = x509.load_pem_x509_certificate(_certificates(build)[BootRole.DB.value].encode())
    digests = {name: authenticode_digest(path) for name, path in unsigned.items()}
    return program_signatures(request, digests, certificate)


def _fill_measured(build: Path, request: SigningRequest, uki: Path) -> None:
    """Put the signatures for its measured boot into the unsigned UKI; it is replaced in one step."""
    key = x509.load_pem_x509_certificate(_certificates(build)[BootRole.PCR.value].encode())
    signatures = measurement_signatures(request, measured.measurements_of(uki), key)
    with new_file(uki) as partial:
        shutil.copyfile(uki, partial)
        measured.fill(partial, key, signatures)


def _program_request(build: Path, unsigned: dict[str, Path]) -> SigningRequest:
    path = build / RELEASE_FILE
    release = parse_release_whole(path.read_bytes(), source=str(path))
    return program_request(unsigned, _certificates(build)[BootRole.DB.value], f"{release.image} {release.version}")


def _certificates(build: Path) -> dict[str, str]:
    return {role.value: (build / CERTIFICATES_FOLDER / f"{role.value}.pem").read_text() for role in BootRole}


def _recipe(build: Path) -> DiskRecipe:
    path = build / "config" / RECIPE_FILE
    return strict.read_json(DiskRecipe, path.read_bytes(), source=str(path))


def _tools(build: Path, cache: Path) -> ToolsTree:
    """The tools that the build's provenance names, so that the disk has the bytes it would have had."""
    path = build / PROVENANCE_FILE
    statement = parse_statement(path.read_bytes(), source=str(path))
    identity = statement.predicate.buildDefinition.internalParameters.toolsTree
    tools = ToolsTree(cache / "tools" / Path(identity).name)
    if not (tools.root / ".complete").exists():
        raise BuildError(f"the tools that made this build are not here: {tools.root}").with_hint(
            "finish it on the machine that built it; only the key may be elsewhere"
        )
    return tools


def _write_documents(build: Path, out: Path, programs: BootPrograms, disk: DiskImages) -> Summary:
    """Write the documents that name what changed into `out`."""
    source = build / PROVENANCE_FILE
    statement = parse_statement(source.read_bytes(), source=str(source))
    digests = statement.digests | {programs.uki.name: file_sha256(programs.uki)}
    (out / PROVENANCE_FILE).write_bytes(dump_statement(make_statement(digests, statement.predicate)))
    path = build / RELEASE_FILE
    release = parse_release_whole(path.read_bytes(), source=str(path))
    finished = replace(
        release,
        artifacts=replace(release.artifacts, uki=artifact_of(programs.uki)),
        attachments=release.attachments | {SIGNATURES: artifact_of(out / SIGNATURES_FILE)},
    )
    (out / RELEASE_FILE).write_bytes(strict.dump_json(finished))
    old = read_summary(build)
    summary = replace(
        old,
        size_bytes=old.size_bytes | disk_sizes(disk) | {programs.uki.name: programs.uki.stat().st_size},
        notes=tuple(note for note in old.notes if note != UNSIGNED_NOTE),
    )
    (out / SUMMARY_FILE).write_bytes(strict.dump_json(summary))
    return summary
