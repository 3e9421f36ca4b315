"""Reads dpkg's record of an image's packages, copied before its database was removed.

Not here: which of a package's files are still in the image; that is decided later (`leave_out/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822, PkgRelation

from imagebuild.errors import BuildError

_INSTALLED = "install ok installed"
# Debian policy, section 7.8.  Both may name the same source, because Built-Using is about licences.
_STATIC = ("Built-Using", "Static-Built-Using")


@dataclass(frozen=True)
class InstalledPackage:
    """A package as dpkg unpacked it.

    Attributes:
        essential: Whether Debian installs it on every system.
        source: Name of the source package, with `source_version`.
        depends: `Pre-Depends` and `Depends`; each entry holds the names of its alternatives, versions left aside.
        provides: Virtual packages.
        files: Absolute paths of everything it brought, folders among them.
        built_using: Statically linked source packages, with their versions.
    """

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    section: str
    summary: str
    essential: bool
    depends: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]
    files: tuple[str, ...]
    built_using: tuple[tuple[str, str], ...] = ()


def read_database(folder: Path) -> tuple[InstalledPackage, ...]:
    """Read `status` and `info/*.list` from a copy of dpkg's database; packages by name.

    Raises:
        BuildError: It is incomplete or not a dpkg database.
    """
    try:
        with (folder / "status").open(encoding="utf-8") as stream:
            rows = [row for row in Deb822.iter_paragraphs(stream) if row.get("Status") == _INSTALLED]
        return tuple(sorted((_package(row, folder / "info") for row in rows), key=lambda each: each.name))
    except (OSError, KeyError, ValueError) as error:
        raise BuildError(f"dpkg's record of the image {folder} cannot be read: {error}") from error


def _package(row: Mapping[str, str], info: Path) -> InstalledPackage:
    name, version, architecture = row["Package"], row["Version"], row["Architecture"]
    source, _, source_version = row.get("Source", name).partition(" ")
    relations = ", ".join(filter(None, (row.get("Pre-Depends", ""), row.get("Depends", ""))))
    return InstalledPackage(
        name=name,
        version=version,
        architecture=architecture,
        source=source,
        source_version=source_version.strip("()") or version,
        section=row.get("Section", ""),
        summary=row.get("Description", "").partition("\n")[0],
        essential=row.get("Essential") == "yes",
        depends=_names(relations),
        provides=tuple(alternatives[0] for alternatives in _names(row.get("Provides", ""))),
        files=_files(info, name, architecture),
        built_using=tuple(_sources(", ".join(filter(None, (row.get(key) for key in _STATIC))))),
    )


def _names(relations: str) -> tuple[tuple[str, ...], ...]:
    parsed = PkgRelation.parse_relations(relations) if relations else []
    return tuple(tuple(each["name"] for each in alternatives) for alternatives in parsed)


def _sources(relations: str) -> Iterator[tuple[str, str]]:
    """Source packages and their versions, each once, sorted."""
    parsed = PkgRelation.parse_relations(relations) if relations else []
    found = {(each["name"], each["version"][1]) for (each, *_) in parsed if each["version"]}
    yield from sorted(found)


def _files(info: Path, name: str, architecture: str) -> tuple[str, ...]:
    """The paths in a package's list; packages of many architectures carry theirs in the name."""
    plain = info / f"{name}.list"
    found = plain if plain.is_file() else info / f"{name}:{architecture}.list"
    return tuple(line for line in found.read_text().splitlines() if line != "/.")
