"""What differs between two builds: packages, names, bytes, and what a host would have to download."""

from __future__ import annotations

from dataclasses import dataclass

from imagebuild.inspection.report import Inspection, PackageCost
from partitions.version import Version

NAMES = ("executables", "setuid", "units", "enabled", "kernel_arguments")


@dataclass(frozen=True)
class PackageChange:
    """A package that was added, removed, or changed in version or size; a version is None on the side that lacks it."""

    name: str
    old_version: str | None
    new_version: str | None
    raw_bytes: int
    wire_bytes: int


@dataclass(frozen=True)
class NameChanges:
    """Names that are only in the new build, and only in the old one."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """From `old` to `new`.

    Attributes:
        download_bytes: What a host on the old build downloads to get the new one.
        wire_bytes: New less old; the same holds for the byte counts of `packages`.
        names: Names added and removed, for each of `NAMES`.
    """

    old: Version
    new: Version
    download_bytes: int
    wire_bytes: int
    packages: tuple[PackageChange, ...]
    names: dict[str, NameChanges]


def compare(old: Inspection, new: Inspection) -> Comparison:
    """Compare two builds."""
    return Comparison(
        old=old.version,
        new=new.version,
        # A host downloads every artifact whole, whatever it has.
        download_bytes=new.wire_bytes,
        wire_bytes=new.wire_bytes - old.wire_bytes,
        packages=_packages(old, new),
        names={name: _change(getattr(old, name), getattr(new, name)) for name in NAMES},
    )


def _packages(old: Inspection, new: Inspection) -> tuple[PackageChange, ...]:
    before, after = ({each.name: each for each in side.brought} for side in (old, new))
    changes = (_package(name, before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys()))
    return tuple(each for each in changes if each.old_version != each.new_version or each.raw_bytes or each.wire_bytes)


def _package(name: str, old: PackageCost | None, new: PackageCost | None) -> PackageChange:
    raw = (new.cost.raw_bytes if new else 0) - (old.cost.raw_bytes if old else 0)
    sent = (new.cost.wire_bytes if new else 0) - (old.cost.wire_bytes if old else 0)
    return PackageChange(name, old.version if old else None, new.version if new else None, raw, sent)


def _change(old: tuple[str, ...], new: tuple[str, ...]) -> NameChanges:
    return NameChanges(tuple(sorted(set(new) - set(old))), tuple(sorted(set(old) - set(new))))
