"""Whether the file system of containers and their data takes anything at all.

While it does not, no engine answers and no container starts, whatever the image is like: what they say then judges the
disk and not the image.
Asked without writing, because a unit of the agent sees `/var` read-only.
Source: proc_pid_mountinfo(5); the options after the hyphen are those of the file system, for all who mounted it.
"""

from __future__ import annotations

import os
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
# podman makes a few small files whenever it is asked something.
LEAST_BYTES = 1 << 20
LEAST_FILES = 16


def no_room(place: Path, mountinfo: Path = MOUNTINFO) -> str:
    """Why nothing can be written below `place`; empty when something can, or when it cannot be found out."""
    try:
        device, found = place.stat().st_dev, os.statvfs(place)
        text = mountinfo.read_text(errors="replace")
    except OSError:
        return ""
    if is_read_only(text, f"{os.major(device)}:{os.minor(device)}"):
        return f"{place} is read-only"
    if found.f_bfree * found.f_frsize < LEAST_BYTES:
        return f"{place} is full"
    # Some file systems count no files.
    if found.f_files and found.f_ffree < LEAST_FILES:
        return f"{place} takes no more files"
    return ""


def is_read_only(mountinfo: str, device: str) -> bool:
    """Whether the file system of a device, as `MAJOR:MINOR`, takes no writes from anybody; pure."""
    for line in mountinfo.splitlines():
        mount, _, filesystem = line.partition(" - ")
        fields, options = mount.split(), filesystem.split()[-1:] or [""]
        if len(fields) > 2 and fields[2] == device:  # noqa: PLR2004 - the third field
            return "ro" in options[0].split(",")
    return False


def of_containers() -> str:
    """Why no container of this host can write anything; empty when they can."""
    return no_room(Path("/var"))
