"""`image.lock`: everything a build is made from, each file with its SHA-256, size and origin.

The lock names no host: `path` is relative to the base of an archive, and which mirror of that archive serves it is this
machine's business.  The chain is signed `InRelease` (checked by apt with Debian's keyring when the lock is made) →
`Packages` (its hash is in `InRelease`) → file (its hash is in `Packages`); the hashes of all three are kept.
Pure: no I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Annotated

from bedrock import strict
from imagebuild.definition.initrd import PackageText
from updater.release import Name, Sha256

FORMAT = 1

FileBytes = Annotated[int, strict.Range(1, 1 << 33)]
# No way out of a folder, whatever a lock from elsewhere says.
ArchivePath = Annotated[
    str, strict.Pattern(r"(?!/)(?!(.*/)?\.\.(/|$))[A-Za-z0-9/+~%:._-]+", "a path below an archive's base")
]
WheelName = Annotated[str, strict.Pattern(r"[A-Za-z0-9][A-Za-z0-9_.+!-]*\.whl", "the file name of a wheel")]
VersionText = Annotated[str, strict.Pattern(r"[0-9A-Za-z.+:~-]+", "a Debian version")]


class Archive(Enum):
    """The two archives a Debian release is made of; mirrors are named for each."""

    MAIN = "main"
    SECURITY = "security"


@dataclass(frozen=True)
class Suite:
    """One suite of an archive as it stood: what was signed, and the index of packages it names."""

    archive: Archive
    name: str
    origin: str
    date: str
    inrelease_sha256: Sha256
    packages_sha256: Sha256


@dataclass(frozen=True)
class LockedPackage:
    """A Debian package: the very file, and where it lies below its archive's base."""

    name: PackageText
    version: VersionText
    architecture: PackageText
    archive: Archive
    path: ArchivePath
    size_bytes: FileBytes
    sha256: Sha256


@dataclass(frozen=True)
class LockedWheel:
    """A Python package of the agent."""

    file: WheelName
    size_bytes: FileBytes
    sha256: Sha256


@dataclass(frozen=True)
class Selection:
    """A closed set of packages that was asked for, by name, and the state of the archives it was chosen from."""

    release: str
    asked: tuple[str, ...]
    suites: tuple[Suite, ...]
    packages: tuple[LockedPackage, ...]

    def __post_init__(self) -> None:
        names = [package.name for package in self.packages]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(doubled)} is named more than once")

    @cached_property
    def digest(self) -> str:
        """A hash of the packages alone: equal selections install equally, whatever else the archives offered."""
        lines = (f"{each.name} {each.version} {each.architecture} {each.sha256}" for each in self.packages)
        return hashlib.sha256("\n".join((self.release, *sorted(lines))).encode()).hexdigest()


@dataclass(frozen=True)
class Lock:
    """The whole lock of one image."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    image: Name
    definition_asks: tuple[str, ...]
    image_packages: Selection
    tools_packages: Selection
    wheels: tuple[LockedWheel, ...]

    @property
    def packages(self) -> tuple[LockedPackage, ...]:
        """Every Debian package named here, each file once."""
        both = (*self.image_packages.packages, *self.tools_packages.packages)
        return tuple({package.sha256: package for package in both}.values())


@dataclass(frozen=True)
class VersionChange:
    """A package or wheel that came, went or changed; a side that lacks it has None."""

    part: str
    name: str
    old: str | None
    new: str | None


def read_lock(data: bytes, *, source: str) -> Lock:
    """Read a lock strictly.

    Raises:
        DocumentError: It is no lock, of another format, or has mistakes; all are listed.
    """
    return strict.read_json(Lock, data, source=source)


def write_lock(lock: Lock) -> bytes:
    """The lock as it is stored: the same bytes for the same lock."""
    return strict.dump_json(lock)


def changes(old: Lock, new: Lock) -> tuple[VersionChange, ...]:
    """What another lock would install, by part and name; a rebuilt file of the same version counts as well."""
    found: list[VersionChange] = []
    for part in ("image", "tools", "agent"):
        before, after = _versions(old, part), _versions(new, part)
        found += (
            VersionChange(part, name, _shown(before.get(name)), _shown(after.get(name)))
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        )
    return tuple(found)


def _versions(lock: Lock, part: str) -> dict[str, tuple[str, str]]:
    if part == "agent":
        return {wheel.file.split("-")[0]: (wheel.file.split("-")[1], wheel.sha256) for wheel in lock.wheels}
    selection = lock.image_packages if part == "image" else lock.tools_packages
    return {package.name: (package.version, package.sha256) for package in selection.packages}


def _shown(value: tuple[str, str] | None) -> str | None:
    return f"{value[0]} ({value[1][:12]})" if value else None
