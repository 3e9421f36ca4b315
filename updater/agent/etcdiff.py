"""What this host changed in `/etc`: the upper folder of the overlay, compared with the image's own `/etc`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class DifferenceKind(Enum):
    """How a path differs from the image's."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True)
class Difference:
    """One path below `/etc` that the host changed."""

    path: str
    change: DifferenceKind


def differences(upper: Path, lower: Path) -> tuple[Difference, ...]:
    """Every changed file, link and removal in `upper`, sorted by path; an unchanged copy of a file does not count."""
    found = []
    for folder, _, names in os.walk(upper):
        for name in (*names, *_links(Path(folder))):
            path = Path(folder) / name
            relative = path.relative_to(upper)
            change = _change(path, lower / relative)
            if change is not None:
                found.append(Difference(str(relative), change))
    return tuple(sorted(set(found), key=lambda difference: difference.path))


def _links(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_symlink()]


def _change(path: Path, original: Path) -> DifferenceKind | None:
    kind = path.lstat()
    # Overlayfs marks a removed name with a character device 0:0.
    if stat.S_ISCHR(kind.st_mode) and kind.st_rdev == 0:
        return DifferenceKind.REMOVED
    if not os.path.lexists(original):
        return DifferenceKind.ADDED
    if path.is_symlink() or original.is_symlink():
        same = path.is_symlink() and original.is_symlink() and path.readlink() == original.readlink()
        return None if same else DifferenceKind.CHANGED
    before = original.lstat()
    same_owner = (kind.st_mode, kind.st_uid, kind.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    if stat.S_ISREG(kind.st_mode) and same_owner and path.read_bytes() == original.read_bytes():
        return None
    return DifferenceKind.CHANGED
