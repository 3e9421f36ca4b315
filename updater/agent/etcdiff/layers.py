"""Reads `/etc` as files by path: the image's own, the host's layer above it, and what the initrd set aside.

Bounded: the host's layer may have been written by anybody who had the disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path

from bedrock.digest import bytes_sha256
from updater.agent.host_paths import HostPaths
from updater.etc_policy import MAX_FILE_BYTES

MAX_PATHS = 2000
MAX_TEXT_BYTES = 64 << 10
_LAYER, _LAYER_IN_MEMORY, _REFUSED = "etc/upper", "etc/upper", "etc/refused"
# The host's identity and systemd's own marks, which say nothing about its configuration.
_MARKS = frozenset({"machine-id", ".updated", ".pwd.lock"})


class Kind(Enum):
    """What is at a path."""

    FILE = "file"
    LINK = "link"
    REMOVED = "removed"
    OTHER = "other"


@dataclass(frozen=True)
class Found:
    """What is at a path, by its content.

    Attributes:
        kind: What it is; `REMOVED` stands for overlayfs's mark of a removed name.
        mode: Permission bits.
        owner: Ids of its user and group.
        sha256: Of a file's content or a link's target; None of anything else, and of a file that is too large.
        text: Its content, unless it is too large or not text.
    """

    kind: Kind
    mode: int
    owner: tuple[int, int]
    sha256: str | None = None
    text: str | None = None

    @property
    def persists(self) -> bool:
        """Whether the initrd would copy it, if its name may persist."""
        return self.kind is Kind.FILE and self.sha256 is not None

    @property
    def is_private(self) -> bool:
        """Whether some users may not read it, so that its content may be a secret."""
        return self.kind is Kind.FILE and not self.mode & stat.S_IROTH


def host_layer(paths: HostPaths) -> Path:
    """The layer of this host's edits: on the disk, or in memory when that could not be written at this boot."""
    in_memory = paths.runtime / _LAYER_IN_MEMORY
    return in_memory if in_memory.is_dir() else paths.state / _LAYER


def refused_layer(paths: HostPaths) -> Path:
    """What the initrd set aside at the last boot that left something behind."""
    return paths.state / _REFUSED


def paths_in(layer: Path) -> tuple[str, ...]:
    """Everything in a layer but plain folders, by its path in it, sorted; at most so many, whatever is there."""
    return tuple(sorted(islice(_walk(layer), MAX_PATHS)))


def look(path: Path) -> Found | None:
    """What is at a path; None: nothing, or a folder."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return None
    common = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
    if stat.S_ISLNK(found.st_mode):
        return Found(Kind.LINK, *common, bytes_sha256(os.fsencode(path.readlink())))
    if stat.S_ISREG(found.st_mode):
        if found.st_size >= MAX_FILE_BYTES:
            return Found(Kind.FILE, *common)
        data = path.read_bytes()
        return Found(Kind.FILE, *common, bytes_sha256(data), _text(data))
    # Overlayfs marks a removed name with a character device 0:0.
    removed = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
    return Found(Kind.REMOVED if removed else Kind.OTHER, *common)


def shown(path: str) -> str:
    """A path as text that no terminal and no reader of JSON stumbles over."""
    return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """Text with everything that a terminal would obey written as an escape."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _walk(layer: Path) -> Iterator[str]:
    for folder, names, files in os.walk(layer):
        links = [name for name in names if Path(folder, name).is_symlink()]
        for name in (*files, *links):
            path = Path(folder, name).relative_to(layer)
            if str(path) not in _MARKS:
                yield str(path)


def _text(data: bytes) -> str | None:
    if len(data) > MAX_TEXT_BYTES or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
