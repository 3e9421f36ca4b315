"""Package sources in addition to Debian's archive: `sources:` of `image.yaml`, in apt's terms (deb822).

The name of a package alone decides its source, whatever versions are offered elsewhere:

    the source that lists it under `packages:`, else Debian, else the first source that has it

So a third-party repository never replaces a Debian package unless the definition says so.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated

from bedrock import strict

DEBIAN = "debian"
SECURITY = "debian-security"
LOCAL = "local"
OWN_ARCHIVES = (DEBIAN, SECURITY, LOCAL)

PackageText = Annotated[str, strict.Pattern(r"[a-z0-9][a-z0-9+.-]*", "a Debian package name")]
MirrorUrl = Annotated[str, strict.Pattern(r"(https?|file|copy):/\S+", "the URL of a mirror such as http://HOST/debian")]
SourceName = Annotated[str, strict.Pattern(r"[a-z][a-z0-9-]{0,31}", "a name such as docker")]
SuiteName = Annotated[
    str, strict.Pattern(r"(?!/)(?!(.*/)?\.\.(/|$))[A-Za-z0-9/+~._-]+", "a suite such as trixie, or ./ for a flat one")
]
Component = Annotated[str, strict.Pattern(r"[A-Za-z0-9][A-Za-z0-9/+._-]*", "a component such as main")]
# `./` keeps it apart from the name of a package.
LOCAL_PACKAGE = r"\./(?!(.*/)?\.\.?(/|$))[A-Za-z0-9/+~%:._-]+\.deb"


class DebianComponent(Enum):
    """The parts of Debian's archive."""

    MAIN = "main"
    CONTRIB = "contrib"
    FIRMWARE = "non-free-firmware"
    NON_FREE = "non-free"


class SecurityUpdates(Enum):
    """What a build does about the suite of security updates."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


class ExpiredIndexes(Enum):
    """What a build does about signed indexes that have expired."""

    REFUSE = "refuse"
    ACCEPT = "accept"


@dataclass(frozen=True)
class PackageSource:
    """A repository in addition to Debian's.

    Attributes:
        name: Its name in the lock and the bill of materials.
        uris: The folders that hold `dists/`; each is an archive of its own, as in deb822.
        suites: Suites of each; one that ends in `/` is a flat repository, which has no components.
        components: Components of each suite.
        signed_by: The key file, armored or binary, by its path in the definition's folder.
        packages: Packages to take from here even if Debian or another source has them too.
    """

    name: SourceName
    uris: tuple[MirrorUrl, ...]
    suites: tuple[SuiteName, ...]
    signed_by: str
    components: tuple[Component, ...] = ()
    packages: tuple[PackageText, ...] = ()

    def __post_init__(self) -> None:
        if self.name in OWN_ARCHIVES:
            raise ValueError(f"the name {self.name} is taken by an archive of Twinhull's own, choose another")
        if not self.uris or not self.suites:
            raise ValueError("uris and suites must each name at least one")
        flat = [suite.endswith("/") for suite in self.suites]
        if any(flat) and (not all(flat) or self.components):
            raise ValueError("a suite that ends in / is a flat repository: it has no components and no other suites")
        if not any(flat) and not self.components:
            raise ValueError("components is missing; only a flat repository (suites: [./]) has none")
        key = PurePosixPath(self.signed_by)
        if key.is_absolute() or ".." in key.parts or not key.parts:
            raise ValueError(f"signed_by {self.signed_by!r} must be a path inside the definition's folder")

    @property
    def archives(self) -> tuple[tuple[str, str], ...]:
        """The name and the base URL of each archive: the source's name, numbered from the second on."""
        return tuple(
            (self.name if number == 1 else f"{self.name}.{number}", archive_url(uri))
            for number, uri in enumerate(self.uris, start=1)
        )


def archive_url(text: str) -> str:
    """A base URL as apt writes it back: no slash at its end, and one before the path of a local folder."""
    return re.sub(r"^(file|copy):/+", r"\1:/", text).rstrip("/")


def is_local(package: str) -> bool:
    """Whether an entry of `packages:` is a file of the definition's folder."""
    return package.startswith("./")


def problems_between(components: Collection[DebianComponent], sources: Iterable[PackageSource]) -> tuple[str, ...]:
    """Problems of components and sources together."""
    problems = [] if DebianComponent.MAIN in components else ["components must hold main, which every image needs"]
    names, listed = set[str](), dict[str, str]()
    for source in sources:
        if source.name in names:
            problems.append(f"the source {source.name} is named twice")
        names.add(source.name)
        problems += [
            f"{package} is listed by the sources {listed[package]} and {source.name}: only one can bring it"
            for package in source.packages
            if listed.setdefault(package, source.name) != source.name
        ]
    return tuple(problems)
