"""`image.lock`: all inputs of a build, each file with its SHA-256, size and origin.

The lock names no host: `path` is relative to the base of an archive, which this machine's mirror or a source in
`image.yaml` provides.  The chain is signed `InRelease` (checked by apt when the lock is made, with Debian's keyring or
the source's key) → `Packages` (its hash is in `InRelease`) → file (its hash is in `Packages`); the hashes of all three
are kept.  A package from the definition's own folder has only its hash.
Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from bedrock import strict
from bedrock.digest import bytes_sha256
from imagebuild.definition.sources import LOCAL, PackageText, SuiteName
from updater.documents.release import Name, Sha256

FORMAT = 2

FileBytes = Annotated[int, strict.Range(1, 1 << 33)]
# No path leads out of a folder, whatever a foreign lock says.
ArchivePath = Annotated[
    str, strict.Pattern(r"(?!/)(?!(.*/)?\.\.(/|$))[A-Za-z0-9/+~%:._-]+", "a path below an archive's base")
]
WheelName = Annotated[str, strict.Pattern(r"[A-Za-z0-9][A-Za-z0-9_.+!-]*\.whl", "the file name of a wheel")]
VersionText = Annotated[str, strict.Pattern(r"[0-9A-Za-z.+:~-]+", "a Debian version")]


# `debian`, `debian-security`, `local` (the definition's folder), or a source by its name.
ArchiveName = Annotated[str, strict.Pattern(r"[a-z][a-z0-9-]*(\.[0-9]+)?", "the name of an archive")]
Fingerprint = Annotated[str, strict.Pattern(r"[0-9A-F]{40,64}", "the fingerprint of a key")]


@dataclass(frozen=True)
class Suite:
    """The state of one suite of an archive: what was signed by whom, and the indexes of packages it names.

    Attributes:
        archive: The archive it is a suite of.
        name: The suite as it was asked for.
        label: What the suite calls itself (`stable`, `unstable`, …).
        origin: Whom it says it is from.
        date: When it was signed.
        signed_by: Fingerprints of the keys whose signature of it was verified.
        inrelease_sha256: Hash of what was signed.
        indexes: Hashes of the indexes by their path, as it names them.
    """

    archive: ArchiveName
    name: SuiteName
    label: str
    origin: str
    date: str
    signed_by: tuple[Fingerprint, ...]
    inrelease_sha256: Sha256
    indexes: dict[ArchivePath, Sha256]


@dataclass(frozen=True)
class LockedPackage:
    """A Debian package: its file's hash, and its path below its archive's base."""

    name: PackageText
    version: VersionText
    architecture: PackageText
    archive: ArchiveName
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
        return bytes_sha256("\n".join((self.release, *sorted(lines))).encode())

    @property
    def local(self) -> dict[str, str]:
        """The package that each file of the definition's own folder holds, by the file's path."""
        return {package.path: package.name for package in self.packages if package.archive == LOCAL}


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
        DocumentError: It is not a lock, of another format, or has errors; all are listed.
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
