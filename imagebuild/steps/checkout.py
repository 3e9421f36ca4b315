"""Copies of checked-out files as git would hand them out to anybody.

Of a mode only whether the file can be executed counts: the rest depends on the umask of whoever checked it out, and an
image must not.  Folders are made anew, with the umask of the build.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from imagebuild.definition.image import is_executable


def copy_files(folder: Path, target: Path) -> None:
    """Write copies of the files and links of a checked-out folder into `target`, which may hold others."""
    for source in sorted(folder.rglob("*")):
        if source.is_symlink() or source.is_file():
            copy_file(source, target / source.relative_to(folder))


def copy_file(source: Path, copy: Path) -> None:
    """Write a copy of one file or link, and make the folders above it."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        copy.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, copy)
        copy.chmod(0o755 if is_executable(source) else 0o644)
