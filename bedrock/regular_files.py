"""Reading and removing a file that may be anything: a folder, endless, or a link to somewhere else."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file; a FIFO is not waited for, and a link is not followed.

    Raises:
        OSError: It cannot be read, is something else, or is longer than `limit_bytes`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"longer than {limit_bytes} bytes", str(path))
    return data


def is_regular(path: Path, limit_bytes: int | None = None) -> bool:
    """Whether there is a regular file, itself and not by a link, which is at most `limit_bytes` long.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and (limit_bytes is None or found.st_size <= limit_bytes)


def remove_any(path: Path) -> None:
    """Remove whatever is there from the disk: a file, a link and not what it leads to, or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
