"""Writing files so that a crash leaves the old content or the new one, never half of it.

Persist = temporary file, fsync, replace, fsync of the folder.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write `path` on the disk, durably and in one step; a reader sees the old content or the new one."""
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write_synced(temporary, raw, mode, os.O_TRUNC)
        temporary.replace(path)
    except OSError as error:
        # A full disk's error names no file, and a temporary one says nothing to anybody.
        error.filename, error.filename2 = str(path), None
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet, durably.

    Raises:
        FileExistsError: There is a file (or a link) of that name; it is left alone.
    """
    raw = data.encode() if isinstance(data, str) else data
    _write_synced(path, raw, mode, os.O_EXCL)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (writes to the disk)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, raw: bytes, mode: int, flag: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flag, mode)
    with os.fdopen(handle, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())


def free_bytes(folder: Path) -> int:
    """How much room there is on the disk that a folder is on."""
    return shutil.disk_usage(folder).free
