"""Reads a guest's serial console: clean text, markers, and the lines after which waiting is pointless.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL_LINES = 40

# Lines after which a guest does nothing more, or restarts in vain.
FATAL = re.compile(
    r"Kernel panic - not syncing"
    r"|You are in emergency mode"
    r"|Entering emergency mode"
    r"|Freezing execution"
    r"|twinhull: the initrd cannot go on"
    r"|BdsDxe: No bootable option or device was found"
    r"|Press any key to enter the Boot Manager Menu"
)
# The firmware's messages for an untrusted signature.
SECURITY_VIOLATION = re.compile(r"Access Denied|Security Violation|Security Policy Violation", re.IGNORECASE)

# CSI sequences, OSC sequences (up to BEL or ST), and the two-character ones.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|P[^\x1b]*\x1b\\|[()*+][0-9A-Z]|[@-Z\\-_=>78])"
)


@dataclass(frozen=True)
class Hit:
    """A marker that was found: the matching text, and where in the console (in characters) it ends."""

    text: str
    end: int


def clean(raw: bytes) -> str:
    """The console's text without terminal control sequences and carriage returns."""
    text = raw.decode("utf-8", errors="replace")
    return _ESCAPES.sub("", text).replace("\r", "").replace("\0", "")


def find(text: str, marker: re.Pattern[str], *, since: int = 0) -> Hit | None:
    """The first match of the marker at or after `since`."""
    match = marker.search(text, since)
    return Hit(match[0], match.end()) if match else None


def fatal_line(text: str, *, since: int = 0) -> str | None:
    """The line that shows that this guest is stuck, if there is one at or after `since`."""
    match = FATAL.search(text, since)
    if match is None:
        return None
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[start : end if end >= 0 else len(text)].strip()


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines, for an error message."""
    return "\n".join(text.rstrip().splitlines()[-lines:])
