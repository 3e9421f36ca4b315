"""What a build host must be before any tool can run: one whose root folder is a mount point, with /proc.

In a plain chroot the root folder is some folder of another mount.  The kernel then neither changes how mounts spread
nor lets a program choose another root, and both are how tools are kept apart from the host.  It cannot be mended
from inside: a bind mount made there could appear on the host as well.
"""

from __future__ import annotations

from pathlib import Path

from imagebuild.errors import ToolsError

MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4  # proc(5): the fifth column of mountinfo


def require_build_host(mounts: Path = MOUNTS) -> None:
    """Check that tools can be run here.

    Raises:
        ToolsError: They cannot; the hint says what to do.
    """
    try:
        lines = mounts.read_text().splitlines()
    except FileNotFoundError as error:
        raise ToolsError(f"there is no {mounts}, so /proc is not mounted here").with_hint(
            "in a chroot: mount -t proc proc /proc"
        ) from error
    if not any(line.split()[_MOUNT_POINT] == "/" for line in lines):
        raise ToolsError("the root folder is not a mount point (a plain chroot), and the tools need one").with_hint(
            "outside the chroot in the folder DIR: mount --bind DIR DIR, and enter it again"
        )
