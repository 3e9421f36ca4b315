"""Provenance: the inputs of a release, as an in-toto statement with a SLSA predicate.

A build writes it as `provenance.json`; publishing signs exactly these bytes (`envelope.py`).
It holds no times, so the same build gives the same bytes.
Source: in-toto attestation framework, Statement v1 and ResourceDescriptor v1; SLSA provenance v1.
It grows by `bedrock.evolution`.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from bedrock import evolution, strict
from bedrock.errors import DocumentError, Problem
from updater.documents.release import Name, Sha256

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:twinhull:build:1"
BUILDER_ID = "urn:twinhull:builder"
PROVENANCE_FILE = "provenance.json"
ENVELOPE_FILE = "provenance.intoto.json"

_Uri = Annotated[str, strict.Pattern(r"[a-z][a-z0-9+.-]*:\S+", "a URI")]


@dataclass(frozen=True)
class Digest:
    """Hashes of a resource; only SHA-256 here."""

    sha256: Sha256


@dataclass(frozen=True)
class Subject:
    """A file that was made."""

    name: str
    digest: Digest


@dataclass(frozen=True)
class Resource:
    """An input of the build: its purl, and its hash if known."""

    uri: _Uri
    digest: Digest | None = None


@dataclass(frozen=True)
class ExternalParameters:
    """The parameters set by whoever started the build; `lockSha256` is missing when the build was not locked."""

    image: Name
    version: str
    profile: str
    definitionSha256: Sha256
    rootOfTrustSha256: Sha256
    lockSha256: Sha256 | None = None


@dataclass(frozen=True)
class InternalParameters:
    """The parameters set by the build system."""

    twinhullVersion: str
    twinhullSha256: Sha256
    toolsTree: str
    packages: str


@dataclass(frozen=True)
class BuildDefinition:
    """The parameters and dependencies of the build."""

    buildType: _Uri
    externalParameters: ExternalParameters
    internalParameters: InternalParameters
    resolvedDependencies: tuple[Resource, ...]


@dataclass(frozen=True)
class Builder:
    """Who built."""

    id: _Uri


@dataclass(frozen=True)
class RunDetails:
    """This run of the build."""

    builder: Builder


@dataclass(frozen=True)
class Provenance:
    """The predicate."""

    buildDefinition: BuildDefinition
    runDetails: RunDetails


@dataclass(frozen=True)
class Statement:
    """The statement: how these subjects were built."""

    subject: tuple[Subject, ...]
    predicate: Provenance

    def __post_init__(self) -> None:
        names = [subject.name for subject in self.subject]
        if len(set(names)) != len(names):
            raise ValueError("subject: a name is given twice")

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the subjects by name."""
        return {subject.name: subject.digest.sha256 for subject in self.subject}


def make_statement(subjects: Mapping[str, str], predicate: Provenance) -> Statement:
    """A statement about files, named with their SHA-256."""
    return Statement(tuple(Subject(name, Digest(digest)) for name, digest in sorted(subjects.items())), predicate)


def dump_statement(statement: Statement) -> bytes:
    """A statement as deterministic JSON; unknown values are left out."""
    body = strict.plain(statement)
    asked = body["predicate"]["buildDefinition"]["externalParameters"]
    if asked["lockSha256"] is None:
        del asked["lockSha256"]
    for resource in body["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if resource["digest"] is None:
            del resource["digest"]
    return strict.dump_json({"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE, **body})


def parse_statement(data: bytes, *, source: str) -> Statement:
    """Read a statement.

    Raises:
        DocumentError: Not JSON, another kind of statement, a critical key that is new here, or wrong types.
    """
    document = strict.parse_json(data, source=source)
    if not isinstance(document, dict):
        raise DocumentError(source, (Problem("", "must be a mapping"),))
    kinds = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE}
    wrong = [
        Problem(key, f"must be {kind}, not {document.get(key)!r}")
        for key, kind in kinds.items()
        if document.get(key) != kind
    ]
    if wrong:
        raise DocumentError(source, tuple(wrong))
    return evolution.read(Statement, document, source=source)
