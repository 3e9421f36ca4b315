"""What the initrd did about `/var` and the state at this boot, beyond mounting them.

Source: imagebuild/data/initrd/usr/lib/twinhull/storage.sh, which writes a line for each thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bedrock.regular_files import read_regular

NOTES = "run/twinhull/storage"
LIMIT_BYTES = 64 << 10


class Treatment(Enum):
    """What was done."""

    REPAIRED = "repaired"
    RESET = "reset"
    VOLATILE = "volatile"
    ON_VAR = "on-var"


_MEANING = {
    Treatment.REPAIRED: "repaired",
    Treatment.RESET: "made anew",
    Treatment.VOLATILE: "in memory until the next boot",
    Treatment.ON_VAR: "a folder on /var",
}


@dataclass(frozen=True)
class StorageNote:
    """A thing that was done to `what` (`var`, `state`, or `/etc` when it was reset)."""

    what: str
    done: Treatment
    why: str

    def __str__(self) -> str:
        return f"{self.what} is {_MEANING[self.done]}: {self.why}"


def read_notes(root: Path) -> tuple[StorageNote, ...]:
    """The notes of this boot, in order; a line that cannot be read is left out, and so is a file that cannot."""
    try:
        text = read_regular(root / NOTES, LIMIT_BYTES).decode(errors="replace")
    except OSError:
        return ()
    words = (line.split(" ", 2) for line in text.splitlines())
    known = {done.value: done for done in Treatment}
    return tuple(StorageNote(each[0], known[each[1]], each[2]) for each in words if len(each) == 3 and each[1] in known)  # noqa: PLR2004 - what, done, why
