"""The inputs and the output folder of one build, known before the first step runs.

A build is named by the hash of all its inputs: definition, version, profile, tools, packages, this program, keys.
The same inputs are never built twice; other inputs for a version that was built before are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bedrock import strict
from bedrock.digest import file_sha256, texts_sha256
from bedrock.persist import free_bytes
from imagebuild.definition.image import BuildProfile, ImageDefinition, definition_digest, load_definition
from imagebuild.errors import BuildError, BuiltBeforeError, SpaceError
from imagebuild.inputs.supply import Supply
from imagebuild.steps.program import program_sha256
from imagebuild.steps.signing import SignatureSource
from keys.roles import BootRole
from partitions.version import Version

INPUTS_FILE: Final = "inputs.json"
_NEEDED_BYTES: Final = 6 << 30
_UNUSABLE: Final = re.compile(r"[\s#,:%\"'\\]")


@dataclass(frozen=True)
class BuildInputs:
    """The record `inputs.json` of a finished build."""

    digest: str
    version: Version
    image: str


@dataclass(frozen=True)
class BuildPlan:
    """One build, ready to run."""

    folder: Path
    definition: ImageDefinition
    version: Version
    profile: BuildProfile | None
    signatures: SignatureSource
    root_of_trust: Path
    supply: Supply
    out: Path
    program_sha256: str
    digest: str

    @property
    def cache(self) -> Path:
        """Twinhull's cache folder."""
        return self.supply.cache

    @property
    def inputs(self) -> BuildInputs:
        """The record to write next to the finished build."""
        return BuildInputs(self.digest, self.version, self.definition.id)

    @property
    def finished(self) -> bool:
        """Whether `out` already holds exactly this build.

        Raises:
            BuiltBeforeError: It holds a build of other inputs.
            BuildError: It is not a finished build.
        """
        path = self.out / INPUTS_FILE
        if not path.is_file():
            if self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir())):
                raise BuildError(f"{self.out} exists and is not a finished build").with_hint("choose another --out")
            return False
        found = strict.read_json(BuildInputs, path.read_bytes(), source=str(path))
        if found.digest == self.digest:
            return True
        raise BuiltBeforeError(
            f"{self.out} already holds {found.image} {found.version}, built from other content"
        ).with_hint("a version never changes: give a new --version, or remove the folder if it was never published")


def plan_build(
    folder: Path,
    *,
    version: Version,
    signatures: SignatureSource,
    root_of_trust: Path,
    supply: Supply,
    out: Path | None = None,
    profile: BuildProfile | None = None,
    program: Callable[[], str] = program_sha256,
    free_bytes: Callable[[Path], int] = free_bytes,
) -> BuildPlan:
    """Gather and check everything a build needs; writes nothing.

    Args:
        folder: The image definition.
        version: The version to build.
        signatures: The source of the Secure Boot signatures.
        root_of_trust: The TUF root baked into the image.
        supply: The tools and packages it is made from.
        out: Folder the finished build is put in; `out/<id>/<version>` when None.
        profile: A named addition to the definition.
        program: The hash of what builds: Twinhull's own files that decide the bytes.
        free_bytes: Returns the free bytes on a folder's disk.

    Raises:
        DocumentError: The definition has errors.
        BuildError: There is no root of trust, or a path cannot be used.
        SpaceError: The disk is nearly full.
    """
    definition, cache = load_definition(folder), supply.cache
    _require_root(root_of_trust)
    place = (out or Path("out") / definition.id / str(version)).absolute()
    _require_place(place, folder.absolute(), cache.absolute())
    _require_space(place, cache, free_bytes=free_bytes)
    own_sha256 = program()
    trusted = (file_sha256(root_of_trust), *(signatures.certificates[role] for role in BootRole))
    return BuildPlan(
        folder=folder.absolute(),
        definition=definition,
        version=version,
        profile=profile,
        signatures=signatures,
        root_of_trust=root_of_trust,
        supply=supply,
        out=place,
        program_sha256=own_sha256,
        digest=texts_sha256((*_content(folder, version, profile, supply), own_sha256, *trusted)),
    )


def _content(folder: Path, version: Version, profile: BuildProfile | None, supply: Supply) -> tuple[str, ...]:
    profile_name = profile.value if profile else ""
    return definition_digest(folder), str(version), profile_name, supply.tools.identity, supply.packages.digest


def _require_root(path: Path) -> None:
    """Check the root of trust: hosts with anything else baked in could never be updated."""
    if not path.is_file():
        raise BuildError(f"there is no root of trust at {path}").with_hint(
            "`twinhull repo init REPO --keys KEYS` makes it, or name one with --root-of-trust"
        )
    document = strict.parse_json(path.read_bytes(), source=str(path))
    signed = document.get("signed") if isinstance(document, dict) else None
    if not isinstance(signed, dict) or signed.get("_type") != "root":
        raise BuildError(f"{path} is not the root of a TUF repository")


def _require_place(out: Path, folder: Path, cache: Path) -> None:
    if out.is_relative_to(folder):
        raise BuildError(f"{out} is inside the image definition {folder}, which it would change").with_hint(
            "choose a place outside with --out"
        )
    for path in (out, folder, cache):
        if found := _UNUSABLE.search(str(path)):
            raise BuildError(f"the path {path} holds {found[0]!r}, which mkosi's configuration cannot carry")


def _require_space(*folders: Path, free_bytes: Callable[[Path], int]) -> None:
    for folder in folders:
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        if not there.is_dir():
            raise BuildError(f"{there} is not a folder")
        free = free_bytes(there)
        if free < _NEEDED_BYTES:
            raise SpaceError(f"{there} has {free >> 20} MiB free, a build needs {_NEEDED_BYTES >> 20} MiB").with_hint(
                "free some space, or move the cache with XDG_CACHE_HOME"
            )
