"""The attachments of a release: bill of materials, provenance, disk layout, lock, signatures.

Rules: a release has both a bill of materials and provenance, or neither; the provenance describes exactly the
release's files, and the lock if there is one; an unknown attachment is kept and its objects are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from securesystemslib.signer import Key

from bedrock import strict
from bedrock.errors import TwinhullError
from updater.documents.bom import parse_bom
from updater.documents.build_files import LOCK, PROVENANCE, SBOM
from updater.documents.envelope import unseal
from updater.documents.release import Release
from updater.documents.signatures import SIGNATURES, parse_signatures
from updater.documents.slot_layout import LAYOUT, parse_layout
from updater.documents.statement import PAYLOAD_TYPE, Statement, parse_statement
from updater.repository.field.room import family_problems
from updater.repository.releases import artifacts_of


class _AttachmentParser(Protocol):
    def __call__(self, data: bytes, /, *, source: str) -> object: ...


@dataclass(frozen=True)
class Trust:
    """Whose signatures a provenance must carry: the keys of the role `releases`, and how many of them."""

    keys: Sequence[Key]
    threshold: int


# Documents that are read here; a lock belongs to the build, and here it is only a file.
_PARSED: Mapping[str, _AttachmentParser] = {SBOM: parse_bom, SIGNATURES: parse_signatures, LOCK: strict.parse_json}


def subjects_of(release: Release, files: Mapping[str, str]) -> dict[str, str]:
    """The files that a release's provenance must describe, with their SHA-256.

    Args:
        release: The release.
        files: File names of artifacts and attachments.
    """
    subjects = {files[name]: artifact.sha256 for name, artifact in artifacts_of(release).items()}
    if SBOM in release.attachments:
        subjects[files[SBOM]] = release.attachments[SBOM].sha256
    return subjects


def statement_problems(statement: Statement, release: Release, files: Mapping[str, str]) -> tuple[str, ...]:
    """Problems when a provenance describes a release or lock other than the one it comes with."""
    lock = release.attachments.get(LOCK)
    said, there = statement.predicate.buildDefinition.externalParameters.lockSha256, lock.sha256 if lock else None
    problems = subject_problems(statement, subjects_of(release, files))
    profile = statement.predicate.buildDefinition.externalParameters.profile
    if profile != (release.profile or ""):
        named = release.profile or "none"
        problems += (f"the provenance has the profile {profile or 'none'}, and the release {named}",)
    if said == there:
        return problems
    return (*problems, f"the provenance describes the lock {said}, and the release has {there}".replace("None", "none"))


def subject_problems(statement: Statement, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Problems when a provenance describes files other than the release's."""
    found = statement.digests
    problems = [f"the provenance does not name {name}" for name in sorted(wanted.keys() - found.keys())]
    problems += [
        f"the provenance names {name}, which is not part of the release"
        for name in sorted(found.keys() - wanted.keys())
    ]
    problems += [
        f"the provenance names {name} with the SHA-256 {found[name]}, and the release says {wanted[name]}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]
    return tuple(problems)


def attachment_problems(
    release: Release, files: Mapping[str, str], trust: Trust, read: Callable[[str], bytes]
) -> Iterator[str]:
    """Problems in the content of a release's attachments.

    Args:
        release: The release.
        files: File names of artifacts and attachments.
        trust: Who must have signed the provenance.
        read: Returns the content of an attachment whose objects were checked.
    """
    names = release.attachments.keys()
    yield from _lonely(names)
    for name, parse in _PARSED.items():
        if name in names:
            try:
                parse(read(name), source=files[name])
            except TwinhullError as error:
                yield str(error)
    if PROVENANCE in names:
        try:
            source = files[PROVENANCE]
            payload = unseal(
                read(PROVENANCE),
                payload_type=PAYLOAD_TYPE,
                keys=trust.keys,
                threshold=trust.threshold,
                source=source,
            )
            yield from statement_problems(parse_statement(payload, source=source), release, files)
        except TwinhullError as error:
            yield str(error)
    if LAYOUT in names:
        try:
            yield from family_problems(parse_layout(read(LAYOUT), source=files[LAYOUT]), release)
        except TwinhullError as error:
            yield str(error)


def _lonely(names: Collection[str]) -> Iterator[str]:
    """Problems with attachments that need another one."""
    if SBOM in names and PROVENANCE not in names:
        yield "there is a bill of materials and no provenance"
    if PROVENANCE in names and SBOM not in names:
        yield "there is provenance and no bill of materials"
    if LOCK in names and PROVENANCE not in names:
        yield "there is a lock and no provenance that describes it"
