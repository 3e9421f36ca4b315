"""SHA-256 of Debian packages: from the build's own selection or its lock, else from the indexes that apt fetched.

All three come from indexes that Debian signed.
A package in none of them (it left the archive after the tools tree was made) has no hash here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from imagebuild.definition.sources import DEBIAN
from imagebuild.inputs.archives import source_of
from imagebuild.inputs.resolve import lists_in
from imagebuild.inputs.supply import Supply

_FIELD = re.compile(rb"^(Package|Version|Architecture|SHA256): (.*)$", re.MULTILINE)


class PackageId(NamedTuple):
    """The identity of a binary package in the archive."""

    name: str
    version: str
    architecture: str


def package_hashes(wanted: Collection[PackageId], supply: Supply) -> dict[PackageId, str]:
    """The hashes of those packages that are known to what a build is made from."""
    known = (*supply.packages.packages, *(supply.locked.packages if supply.locked else ()))
    named = {PackageId(each.name, each.version, each.architecture): each.sha256 for each in known}
    found = {package: named[package] for package in wanted if package in named}
    missing = set(wanted) - found.keys()
    for path in lists_in(supply.cache) if missing and supply.locked is None else ():
        found |= {package: digest for package, digest in listed_hashes(path, missing).items() if package not in found}
    return found


def package_archives(supply: Supply) -> dict[PackageId, str]:
    """The archive that each package of the image came from, where that is not one of Debian's: a source, or `local`."""
    return {
        PackageId(each.name, each.version, each.architecture): each.archive
        for each in supply.packages.packages
        if source_of(each.archive) != DEBIAN
    }


def listed_hashes(path: Path, wanted: Collection[PackageId]) -> dict[PackageId, str]:
    """The hashes that one list of the archive names for some packages."""
    names = {package.name.encode() for package in wanted}
    found = {}
    # Tens of thousands of paragraphs, of which a few are wanted: their first line decides, the rest is not parsed.
    for paragraph in path.read_bytes().split(b"\n\n"):
        if paragraph.partition(b"\n")[0].removeprefix(b"Package: ") not in names:
            continue
        fields = {key.decode(): value.decode() for key, value in _FIELD.findall(paragraph)}
        package = PackageId(fields.get("Package", ""), fields.get("Version", ""), fields.get("Architecture", ""))
        if package in wanted and "SHA256" in fields:
            found[package] = fields["SHA256"]
    return found
