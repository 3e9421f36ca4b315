"""Reading a file that may be anything: not a regular one, endless, or a link to somewhere else."""

from __future__ import annotations

import errno
import os
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
