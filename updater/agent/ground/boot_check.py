"""Repairs the file system of the boot partition before it is written to.

FAT has no journal, so a cut of power leaves lost or shared cluster chains; the kernel finds them in the middle of an
update and makes the file system read-only.  What belongs to an entry that is named as untouchable is never repaired,
because a repair shortens files: then nothing is, and it is said.  What was salvaged is of no use and is removed.
Source: fsck.fat(8) of dosfstools 4.2, its exit codes and where it puts what it salvages.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError

FSCK_TIMEOUT_S = 120.0
_CLEAN, _ERRORS = 0, 1
_SALVAGED = re.compile(r"FSCK[0-9]{4}\.REC", re.IGNORECASE)
_log = logging.getLogger(__name__)


class Checked(Enum):
    """How the check of a boot partition ended."""

    SOUND = "sound"
    REPAIRED = "its file system was repaired"
    LEFT_ALONE = "its file system has errors in an entry that must not be touched, and was not repaired"
    UNREPAIRED = "its file system has errors that could not be repaired"
    UNCHECKED = "its file system could not be checked"


def check_fat(
    partition: Path, untouchable: Collection[str], run: Callable[..., process.Finished] = process.run
) -> Checked:
    """Check a FAT partition that nobody has mounted, and repair it (writes to the disk).

    Args:
        partition: Its device.
        untouchable: Names of boot entries that a repair must not change.
        run: Starts programs.
    """
    try:
        looked = _fsck(run, "-n", partition)
        if looked.returncode == _CLEAN:
            return Checked.SOUND
        if looked.returncode != _ERRORS:
            return Checked.UNCHECKED
        if _names_any(looked.stdout, untouchable):
            return Checked.LEFT_ALONE
        _fsck(run, "-a", partition)
        return Checked.REPAIRED if _fsck(run, "-n", partition).returncode == _CLEAN else Checked.UNREPAIRED
    except ProcessError as error:
        _log.warning("%s cannot be checked: %s", partition, error)
        return Checked.UNCHECKED


def remove_salvaged(mount: Callable[[], AbstractContextManager[Path]]) -> int:
    """Remove from the disk what a repair salvaged into the root folder; how many files.

    Raises:
        OSError: The file system takes no change.
        ProcessError: It cannot be mounted.
    """
    with mount() as root:
        found = [path for path in root.iterdir() if _SALVAGED.fullmatch(path.name) and path.is_file()]
        for path in found:
            path.unlink()
    return len(found)


def _fsck(run: Callable[..., process.Finished], mode: str, partition: Path) -> process.Finished:
    return run(("fsck.fat", mode, partition), timeout_s=FSCK_TIMEOUT_S, check=False, env={"LC_ALL": "C"})


def _names_any(output: str, names: Collection[str]) -> bool:
    """Whether fsck.fat speaks of one of these files; it names a file by the path whose entry is at fault."""
    text = output.lower()
    return any(name.lower() in text for name in names)
