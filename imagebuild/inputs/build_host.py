"""Checks what tools need of a build host: /proc, and a root folder that is or becomes a mount point.

In a plain chroot the root folder is an ordinary folder of another mount.  The kernel then neither changes mount
propagation nor lets a program choose another root, and isolating the tools from the host needs both.  There a build as
root gives each tool a root of its own (`own_root.py`); other users cannot, because the kernel makes no user namespaces
in a chroot.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from imagebuild.errors import ToolsError
from imagebuild.inputs import own_root

MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4  # proc(5): the fifth column of mountinfo


def require_build_host(mounts: Path = MOUNTS, *, as_root: bool | None = None) -> None:
    """Check that tools can be run here; `as_root`: by whom, this process's user when None.

    Raises:
        ToolsError: They cannot; the hint says what to do.
    """
    try:
        plain = in_plain_chroot(mounts)
    except FileNotFoundError as error:
        raise ToolsError(f"there is no {mounts}, so /proc is not mounted here").with_hint(
            "in a chroot: mount -t proc proc /proc"
        ) from error
    if plain and not (os.geteuid() == 0 if as_root is None else as_root):
        message = "the root folder is not a mount point (a plain chroot), and only root can build there"
        raise ToolsError(message).with_hint(
            "build as root, or outside the chroot in the folder DIR: mount --bind DIR DIR, and enter it again"
        )


def in_plain_chroot(mounts: Path = MOUNTS) -> bool:
    """Whether the root folder is not a mount point.

    Raises:
        FileNotFoundError: /proc is not mounted.
    """
    return not any(line.split()[_MOUNT_POINT] == "/" for line in mounts.read_text().splitlines())


def root_of_its_own(mounts: Path = MOUNTS) -> tuple[str, ...]:
    """The words before a program that root starts and that mounts something: none where the root is a mount point."""
    return (sys.executable, "-SI", own_root.__file__) if in_plain_chroot(mounts) else ()
