"""The record of an image's contents: `contents.json` next to a build.

A package is *shipped* when the image holds a file or a link of it; the others were installed and then removed entirely,
but are listed as well, because chains of dependencies lead through them.
Pure: derives the owner and the reason of each file from dpkg's record and the file system.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from imagebuild.steps.dpkg import InstalledPackage
from imagebuild.steps.leave_out.patterns import merged
from imagebuild.steps.leave_out.reach import Reason
from partitions.version import Version

CONTENTS_FILE = "contents.json"
FORMAT = 2
# Owners that are not packages; a package's name cannot hold a parenthesis.
AGENT, DEFINITION, BUILD = "(agent)", "(image.yaml)", "(build)"


class EntryKind(enum.Enum):
    """What a name in the image is."""

    FILE = "file"
    LINK = "link"
    FOLDER = "folder"


@dataclass(frozen=True)
class ImageEntry:
    """A name in the image; `size_bytes` counts the content of files only; `owner` is a package or one of our own."""

    path: str
    kind: EntryKind
    mode: int
    size_bytes: int
    owner: str


@dataclass(frozen=True)
class Package:
    """An installed package; `depends` names alternatives, versions left aside."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    summary: str
    depends: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """Everything in an image.

    Attributes:
        asked: The requested packages, and where each request is written.
        stays: Files of the leave-out set (data/leave-out.yaml) that this image needs, and why.
    """

    format: int
    image: str
    version: Version
    asked: dict[str, str]
    packages: tuple[Package, ...]
    entries: tuple[ImageEntry, ...]
    stays: dict[str, Reason] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not known here, only {FORMAT} is")

    @cached_property
    def shipped(self) -> tuple[Package, ...]:
        """The packages of which the image holds something, by name."""
        owners = {entry.owner for entry in self.entries if entry.kind is not EntryKind.FOLDER}
        return tuple(package for package in self.packages if package.name in owners)

    @cached_property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """For each package the shortest chain to it: from where it is requested, over other packages, to itself."""
        providers: dict[str, list[str]] = {}
        by_name = {package.name: package for package in self.packages}
        for package in self.packages:
            for name in (package.name, *package.provides):
                providers.setdefault(name, []).append(package.name)
        found: dict[str, tuple[str, ...]] = {
            name: (where, name) for name, where in sorted(self.asked.items()) if name in by_name
        }
        waiting = deque(found)
        while waiting:
            package = by_name[waiting.popleft()]
            wanted = (
                each for alternatives in package.depends for name in alternatives for each in providers.get(name, ())
            )
            for name in wanted:
                if name not in found:
                    found[name] = (*found[package.name], name)
                    waiting.append(name)
        return found


def make_contents(
    *,
    image: str,
    version: Version,
    asked: Mapping[str, str],
    installed: Iterable[InstalledPackage],
    names: Iterable[tuple[str, EntryKind, int, int]],
    agent: Collection[str],
    definition: Collection[str],
    stays: Mapping[str, Reason] = MappingProxyType({}),
) -> Contents:
    """Put together the contents.

    Args:
        image: The image's id.
        version: Its version.
        asked: The requested packages, and where each request is written.
        installed: What dpkg recorded.
        names: Path, kind, mode and size in bytes of everything in the image.
        agent: Paths that Twinhull puts into every image.
        definition: Paths that the image definition puts there.
        stays: Files of the leave-out set that stay, and why.
    """
    packages = tuple(installed)
    owners = {merged(path): package.name for package in packages for path in package.files}
    owners |= dict.fromkeys(agent, AGENT) | dict.fromkeys(definition, DEFINITION)
    # Kernel modules come compressed and are stored plain.
    owners |= {path.removesuffix(".xz"): owner for path, owner in owners.items() if path.endswith(".ko.xz")}
    entries = (ImageEntry(path, kind, mode, size, owners.get(path, BUILD)) for path, kind, mode, size in names)
    return Contents(
        format=FORMAT,
        image=image,
        version=version,
        asked=dict(asked),
        packages=tuple(
            Package(
                name=each.name,
                version=each.version,
                architecture=each.architecture,
                source=each.source,
                source_version=each.source_version,
                summary=each.summary,
                depends=each.depends,
                provides=each.provides,
            )
            for each in packages
        ),
        entries=tuple(sorted(entries, key=lambda entry: entry.path)),
        stays=dict(stays),
    )
