"""The inputs of a build as the statement that `twinhull repo publish` signs.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagebuild.attest.materials import Materials
from imagebuild.attest.sbom import debian_purl, wheel_purl
from updater.documents.statement import (
    BUILD_TYPE,
    BUILDER_ID,
    BuildDefinition,
    Builder,
    Digest,
    ExternalParameters,
    InternalParameters,
    Provenance,
    Resource,
    RunDetails,
    dump_statement,
    make_statement,
)


@dataclass(frozen=True)
class BuildEnvironment:
    """The inputs of a build besides its materials: the tools tree's identity and the packages it could install."""

    tools_tree: str
    packages: str


def make_provenance(
    subjects: Mapping[str, str], asked: ExternalParameters, materials: Materials, surroundings: BuildEnvironment
) -> bytes:
    """The statement's bytes.

    Args:
        subjects: SHA-256 of the files that were made, by name.
        asked: What was to be built.
        materials: What it was put together from, including packages that are not shipped.
        surroundings: The other inputs.
    """
    used = [(debian_purl(package).to_string(), package.sha256) for package in materials.packages]
    used += [(wheel_purl(wheel).to_string(), wheel.sha256) for wheel in materials.wheels]
    predicate = Provenance(
        BuildDefinition(
            buildType=BUILD_TYPE,
            externalParameters=asked,
            internalParameters=InternalParameters(
                twinhullVersion=materials.own.version,
                twinhullSha256=materials.own.source_sha256,
                toolsTree=surroundings.tools_tree,
                packages=surroundings.packages,
            ),
            resolvedDependencies=tuple(
                Resource(uri, Digest(digest) if digest else None) for uri, digest in sorted(used)
            ),
        ),
        RunDetails(Builder(BUILDER_ID)),
    )
    return dump_statement(make_statement(subjects, predicate))
