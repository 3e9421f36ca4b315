"""The contents of the initrd: `data/initrd.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from bedrock import strict
from imagebuild.definition.drivers import Disks
from imagebuild.definition.sources import PackageText
from imagebuild.paths import DATA

CONTENT_FILE = DATA / "initrd.yaml"
FILES = DATA / "initrd"

PathText = Annotated[str, strict.Pattern(r"(/[A-Za-z0-9_.+-]+)+", "an absolute path")]
FileName = Annotated[str, strict.Pattern(r"[A-Za-z0-9_.+-]+", "the name of a file")]


@dataclass(frozen=True)
class InitrdContent:
    """What the initrd holds besides its first program.

    Attributes:
        programs: Files by the package that brings them; what they are linked to comes along.
        libraries: Names of libraries that programs load while they run.
        links: Paths and where they lead.
        applets: Names that busybox goes by.
        modules: Kernel modules by name that every kernel must have; those they need come along.
        extras: Kernel modules by name that are taken where the kernel has them.
        disks: How drivers that lead to a disk are found, by the kind of disk.
    """

    programs: dict[PackageText, tuple[PathText, ...]]
    libraries: tuple[FileName, ...]
    links: dict[PathText, str]
    applets: tuple[FileName, ...]
    modules: tuple[FileName, ...]
    extras: tuple[FileName, ...]
    disks: dict[str, Disks]

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose programs are wanted, by name."""
        return tuple(sorted(self.programs))

    @property
    def wanted(self) -> frozenset[str]:
        """The files that are wanted, without the leading slash."""
        return frozenset(path.lstrip("/") for paths in self.programs.values() for path in paths)


def load_content(path: Path = CONTENT_FILE) -> InitrdContent:
    """Twinhull's own initrd, or what another list says.

    Raises:
        DocumentError: The list has errors.
    """
    return strict.load_yaml(InitrdContent, path)
