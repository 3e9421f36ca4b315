"""The values that the steps of a build pass on: with checked members, never the name of a file to look for.

Each is made by the step whose docstring says so, once the files it names are complete; the paths are inside the working
folder or the cache and last as long as the build.
Pure: nothing is opened here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ROOT_HASH = re.compile(r"[0-9a-f]{64}")
_KERNEL_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~_-]*")


@dataclass(frozen=True)
class Kernel:
    """The kernel of an image: its version, which names the folder of its modules, and the file for the UKI."""

    version: str
    file: Path

    def __post_init__(self) -> None:
        if not _KERNEL_VERSION.fullmatch(self.version):
            raise ValueError(f"{self.version!r} is not the version of a kernel")


@dataclass(frozen=True)
class PackageTree:
    """The installed and arranged files of the root filesystem.

    Attributes:
        root: The folder that holds them.
        record: dpkg's record of them.
        kernel: The kernel that came with them.
        stripped: The programs that lost setuid or setgid bits or file capabilities.
        microcode: The files of microcode by the place where the kernel looks for what they make together.
    """

    root: Path
    record: Path
    kernel: Kernel
    stripped: tuple[str, ...] = ()
    microcode: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Half:
    """One of the archives of an initrd, in the cache: `names` lists its files and links, one a line."""

    folder: Path

    @property
    def archive(self) -> Path:
        """The compressed archive."""
        return self.folder / "archive.cpio.zst"

    @property
    def names(self) -> Path:
        """The list of names."""
        return self.folder / "names"

    @property
    def record(self) -> Path:
        """What dpkg would know of its packages; modules come from the image's own and have none."""
        return self.folder / "record"


@dataclass(frozen=True)
class Initrd:
    """The whole initrd; `record` is what dpkg would know of its packages, `names` its files and links."""

    archive: Path
    record: Path
    names: tuple[str, ...]


@dataclass(frozen=True)
class RootImage:
    """The root filesystem and its verity tree as files, and the root hash."""

    root_hash: str
    root: Path
    verity: Path

    def __post_init__(self) -> None:
        if not _ROOT_HASH.fullmatch(self.root_hash):
            raise ValueError(f"{self.root_hash!r} is not a root hash, which has 64 hexadecimal digits")


@dataclass(frozen=True)
class BootPrograms:
    """The UKI and the boot loader with their signatures attached."""

    uki: Path
    loader: Path


@dataclass(frozen=True)
class DiskImages:
    """The disk with the release in slot A, as a sparse file and for QEMU."""

    raw: Path
    qcow2: Path
