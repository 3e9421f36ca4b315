"""Where mkosi works, and what is cached for the next build.

mkosi creates and removes some ten thousand files, so it works in memory if enough is free, else in the cache folder.
The tree of installed packages, from which it can start again, is cached as one file, which is complete or missing,
whatever happened to the build or the machine.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bedrock import process
from bedrock.errors import ProcessError
from bedrock.locks import held_folder, only_one
from bedrock.partial import new_file, remove_abandoned
from imagebuild.inputs.tools import Access, ToolsTree, inside_user_namespace

# Trees as they are installed, copied and arranged, by the size of what was downloaded.
_UNPACKED = 10
_BASE_BYTES = 1 << 30
_TIMEOUT_S = 600
_KEPT_TREES = 4
_PACKED = ("--use-compress-program=zstd -1 -T0 -q", "--numeric-owner", "--xattrs", "--xattrs-include=*")


@dataclass(frozen=True)
class Memory:
    """Where files are kept in memory, and what the kernel says of how much there is."""

    folder: Path = Path("/dev/shm")  # noqa: S108 - a folder of our own is made below it
    info: Path = Path("/proc/meminfo")

    def fits(self, download_bytes: int) -> bool:
        """Whether there is memory for a build, and twice as much is left for everything else."""
        need = _BASE_BYTES + _UNPACKED * download_bytes
        match = re.search(r"^MemAvailable: *(\d+) kB$", self.info.read_text(), re.MULTILINE)
        if match is None or not os.access(self.folder, os.W_OK | os.X_OK):
            return False
        room = os.statvfs(self.folder)
        return room.f_bavail * room.f_frsize >= need and int(match[1]) << 10 >= 3 * need


MEMORY: Final = Memory()


@contextmanager
def scratch_folder(cache: Path, *, download_bytes: int, memory: Memory = MEMORY) -> Iterator[Path]:
    """A new folder for one build, in memory or below `cache`, removed at the end.

    Folders of killed builds, and their unfinished files in the cache, are removed first.

    Args:
        cache: Twinhull's cache folder.
        download_bytes: The size of all packages that may be installed.
        memory: This machine's.
    """
    slow = cache / "scratch"
    place = memory.folder if memory.fits(download_bytes) else slow
    place.mkdir(parents=True, exist_ok=True)
    prefix = f"twinhull-{os.getuid()}-"
    with ExitStack() as stack:
        with only_one(place / f"{prefix}lock"):
            for stale in (*memory.folder.glob(f"{prefix}*/"), *slow.glob(f"{prefix}*/")):
                with held_folder(stale) as free:
                    if free:
                        remove_tree(stale)
            for kept in cache.glob("*/"):
                remove_abandoned(kept)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            stack.enter_context(held_folder(folder))
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            remove_tree(folder)


def restore_tree(kept: Path, folder: Path, tools: ToolsTree) -> bool:
    """Unpack a kept tree into `folder`; False when there is none, or none that can be read."""
    if not kept.is_file():
        return False
    words = ["tar", "--extract", "--preserve-permissions", "--same-owner", *_PACKED, f"--directory={folder}"]
    try:
        tools.run([*words, f"--file={kept}"], Access(read=(kept,), write=(folder,)), timeout_s=_TIMEOUT_S)
    except ProcessError:
        kept.unlink()
        remove_tree(folder)
        folder.mkdir()
        return False
    os.utime(kept)
    return True


def keep_tree(kept: Path, folder: Path, tools: ToolsTree) -> None:
    """Pack `folder` into the file `kept`, unless it exists, and remove the least recently used trees."""
    if kept.is_file():
        return
    with new_file(kept) as partial:
        words = ["tar", "--create", "--format=posix", *_PACKED, f"--directory={folder}", f"--file={partial}", "."]
        tools.run(words, Access(read=(folder,), write=(kept.parent,)), timeout_s=_TIMEOUT_S)
    trees = sorted(kept.parent.glob("*.tar.zst"), key=lambda path: path.stat().st_mtime)
    for old in trees[:-_KEPT_TREES]:
        old.unlink()


def remove_tree(folder: Path) -> None:
    """Remove a folder whose files may belong to the build's user namespace."""
    process.run([*inside_user_namespace(), "rm", "-rf", "--one-file-system", folder], timeout_s=300)
