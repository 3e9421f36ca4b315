"""Files and folders that appear complete or not at all.

Unfinished work has a temporary name next to its target (`.NAME.….partial`) and is locked while its maker lives; it
gets its final name in one step, when all of it is on the disk.  The next maker of the same target removes what a
killed process left.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bedrock.locks import FileLock
from bedrock.persist import sync_folder

_SUFFIX = ".partial"


@contextmanager
def partial_folder(target: Path, *, remove: Callable[[Path], object] = shutil.rmtree) -> Iterator[Path]:
    """A new folder next to `target`, on the same disk, removed at the end of the block.

    Args:
        target: What is being made; its parent folder is made.
        remove: Removes a folder with all that is in it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent, target.name, remove=remove)
    folder, handle = _locked(target, _empty_folder)
    try:
        yield folder
    finally:
        if folder.exists():
            remove(folder)
        os.close(handle)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` on the disk when the block ends well.

    When somebody else was faster, their folder stays and ours is removed.
    """
    with partial_folder(target) as partial:
        made = partial / "new"
        made.mkdir()
        yield made
        _sync_tree(made)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        sync_folder(target.parent)


@contextmanager
def new_file(target: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """An empty file to write, which becomes (or replaces) `target` on the disk when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent, target.name)
    partial, handle = _locked(target, _empty_file)
    try:
        yield partial
        partial.chmod(mode)
        _sync_file(partial)
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)


def _empty_folder(target: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent))


def _empty_file(target: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent)
    os.close(handle)
    return Path(name)


def _locked(target: Path, make: Callable[[Path], Path]) -> tuple[Path, int]:
    """What `make` made next to `target`, and the open handle that holds its lock."""
    while True:
        path = make(target)
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # In the moment before it is locked, another maker may take it for abandoned.
        if FileLock(handle).take() and path.exists():
            return path, handle
        os.close(handle)


def remove_abandoned(
    folder: Path, name: str | None = None, *, remove: Callable[[Path], object] = shutil.rmtree
) -> None:
    """Remove from the disk what killed makers left unfinished.

    Args:
        folder: Where it is; when `name` is None, a folder of our own, in which nobody else calls files like this.
        name: What they were making.
        remove: Removes a folder with all that is in it.
    """
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.*{_SUFFIX}"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if FileLock(handle).take():
                (remove if path.is_dir() else Path.unlink)(path)
        finally:
            os.close(handle)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            sync_folder(path)
        elif path.is_file() and not path.is_symlink():
            _sync_file(path)
    sync_folder(folder)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
