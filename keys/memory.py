"""A folder in memory only, for the short life of a decrypted key.

Rules: never on a disk (a file system that is not tmpfs or ramfs is refused), mode 0700, removed on every way out.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from keys.errors import KeysError

_MEMORY_TYPES = frozenset({"tmpfs", "ramfs"})
MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4
_ESCAPE = re.compile(r"\\([0-7]{3})")


@contextmanager
def memory_folder(candidates: Sequence[Path] | None = None, *, mounts: Path = MOUNTS) -> Iterator[Path]:
    """A fresh, empty 0700 folder below the first usable candidate; removed with its content at the end.

    Args:
        candidates: Folders to try, best first; `/dev/shm` and the runtime folders when None.
        mounts: The kernel's list of mounts.

    Raises:
        KeysError: No candidate is in memory and writable.
    """
    parents = _candidates() if candidates is None else tuple(candidates)
    mountinfo = mounts.read_text()
    for parent in parents:
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK) and in_memory(parent.resolve(), mountinfo):
            folder = Path(tempfile.mkdtemp(prefix="twinhull-key-", dir=parent))
            try:
                yield folder
            finally:
                shutil.rmtree(folder)
            return
    names = ", ".join(map(str, parents))
    error = KeysError(f"no writable folder in memory for a decrypted key (tried {names})")
    raise error.with_hint("mount a tmpfs at /dev/shm, or keep the Secure Boot key in a token and name it by its URI")


def in_memory(path: Path, mountinfo: str) -> bool:
    """Whether an absolute path is on a memory file system, from the text of `/proc/self/mountinfo` (proc(5))."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        words = left.split(" ")
        if len(words) <= _MOUNT_POINT or not right:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), words[_MOUNT_POINT]))
        # Later lines hide earlier ones at the same mount point.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), right.split(" ")[0]
    return kind in _MEMORY_TYPES


def _candidates() -> tuple[Path, ...]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (Path("/dev/shm"), *((Path(runtime),) if runtime else ()), Path("/run"))  # noqa: S108 - checked to be memory
