"""Where verified metadata are kept: with the host's state, or in memory while its disk takes nothing.

A full or read-only `/var` must not end a host's security updates; what it knew before still counts meanwhile.
What is in the folder and is not metadata, by its kind or its length, is removed: the library would read all of it.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from bedrock import persist
from bedrock.regular_files import is_regular, remove_any

# More than one refresh writes.
ROOM_BYTES = 1 << 20
# A document is read into memory, however long the one that names it says it is.
MAX_METADATA_BYTES = 8 << 20
_ROOTS = "root_history"
_PROBE = ".room"
_log = logging.getLogger(__name__)


def usable_folder(usual: Path, volatile: Path) -> Path:
    """The folder to keep metadata in: `usual` where it can be written, else `volatile` with what `usual` holds.

    What was kept in `volatile` meanwhile moves to the disk when that can be written again.

    Raises:
        OSError: Neither can be written.
    """
    trouble = _trouble(usual)
    if trouble is None:
        if volatile.is_dir():
            _move(volatile, usual)
        return usual
    _log.warning("%s cannot be written (%s): metadata are kept in %s until it can", usual, trouble, volatile)
    if not volatile.is_dir():
        partial = volatile.with_name(f"{volatile.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        if usual.is_dir():
            shutil.copytree(usual, partial, symlinks=True, ignore=_foreign)
        else:
            partial.mkdir(parents=True)
        partial.rename(volatile)
    return volatile


def _trouble(folder: Path) -> str | None:
    """Why a folder cannot be written; None when it can (writes a file to the disk, and removes it)."""
    probe = folder / _PROBE
    try:
        if folder.is_symlink() or not folder.is_dir():
            remove_any(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        _drop_foreign(folder)
        with probe.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def _drop_foreign(folder: Path) -> None:
    """Remove from the disk what is not metadata."""
    for inner in (folder, folder / _ROOTS):
        for path in inner.iterdir() if inner.is_dir() else ():
            if not _is_metadata(path):
                _log.warning("%s is not metadata and is removed", path)
                remove_any(path)


def _foreign(folder: str, names: list[str]) -> list[str]:
    """Names in a folder of metadata that are none."""
    return [name for name in names if not _is_metadata(Path(folder) / name)]


def _is_metadata(path: Path) -> bool:
    if path.name == _ROOTS and path.parent.name != _ROOTS:
        return path.is_dir() and not path.is_symlink()
    if path.name == "root.json" and path.is_symlink():
        # The library's own; it is not read, for the image's root comes first.
        return path.readlink().parent == Path(_ROOTS)
    return is_regular(path, MAX_METADATA_BYTES)


def _move(volatile: Path, usual: Path) -> None:
    """Replace what is on the disk by what was kept in memory, durably."""
    for path in sorted(volatile.rglob("*.json")):
        if path.is_symlink() or not path.is_file():
            continue
        target = usual / path.relative_to(volatile)
        target.parent.mkdir(parents=True, exist_ok=True)
        persist.write_atomic(target, path.read_bytes(), mode=0o644)
    shutil.rmtree(volatile)
