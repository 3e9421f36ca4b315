"""SHA-256 of Debian packages: of the files apt kept, else as apt's own lists of the archive name them.

Both were checked by apt against the archive's signature before anything was installed.
A package that is in neither (it left the archive since the tools tree was made) has no hash here, and none is made up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_FIELD = re.compile(rb"^(Package|Version|Architecture|SHA256): (.*)$", re.MULTILINE)


class PackageId(NamedTuple):
    """What tells one binary package from every other in the archive."""

    name: str
    version: str
    architecture: str

    @property
    def file_name(self) -> str:
        """How apt names the package's file in its cache: an epoch's colon is written as a percent code."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def package_hashes(wanted: Collection[PackageId], packages: Path) -> dict[PackageId, str]:
    """The hashes of those packages that are known in mkosi's package cache."""
    found: dict[PackageId, str] = {}
    for package in wanted:
        path = packages / "cache/apt/archives" / package.file_name
        if path.is_file():
            with path.open("rb") as stream:
                found[package] = hashlib.file_digest(stream, "sha256").hexdigest()
    missing = set(wanted) - found.keys()
    for path in sorted((packages / "lib/apt/lists").glob("*_Packages")) if missing else ():
        found |= {package: digest for package, digest in listed_hashes(path, missing).items() if package not in found}
    return found


def listed_hashes(path: Path, wanted: Collection[PackageId]) -> dict[PackageId, str]:
    """The hashes that one list of the archive names for some packages."""
    names = {package.name.encode() for package in wanted}
    found = {}
    # Tens of thousands of paragraphs, of which a few are wanted: their first line tells, the rest is not parsed.
    for paragraph in path.read_bytes().split(b"\n\n"):
        if paragraph.partition(b"\n")[0].removeprefix(b"Package: ") not in names:
            continue
        fields = {key.decode(): value.decode() for key, value in _FIELD.findall(paragraph)}
        package = PackageId(fields.get("Package", ""), fields.get("Version", ""), fields.get("Architecture", ""))
        if package in wanted and "SHA256" in fields:
            found[package] = fields["SHA256"]
    return found
