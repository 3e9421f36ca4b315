"""Unified diffs of files of `/etc`: bounded, as plain text, and without what not everybody may read."""

from __future__ import annotations

import difflib

from updater.agent.etcdiff.layers import Found, Kind, printable
from updater.agent.etcdiff.origins import Origin

_MAX_LINES = 2000
_MAX_SHOWN = 200


def compared(before: Found | None, after: Found | None, names: tuple[str, str], *, private: bool) -> str:
    """The unified diff of two files, or one line that says why there is none."""
    for found in (before, after):
        if found is not None and found.is_private and not private:
            return f"not shown: mode {found.mode:04o} (--private shows it)\n"
    if all(found is None or found.kind in (Kind.REMOVED, Kind.FILE) for found in (before, after)):
        return diff(_text(before), _text(after), names)
    return "not shown: not a plain file\n"


def since(origin: Origin, image: Found | None, *, private: bool) -> str:
    """The unified diff from what the image had at the edit to what it has now."""
    names = (f"image {origin.version}", "image now")
    if image is not None and image.is_private and not private:
        return f"not shown: mode {image.mode:04o} (--private shows it)\n"
    return diff("" if not origin.image else origin.text, _text(image), names)


def diff(before: str | None, after: str | None, names: tuple[str, str]) -> str:
    """The unified diff of two texts; None stands for what is not text or too large."""
    if before is None or after is None:
        return "not shown: too large, or not text\n"
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > _MAX_LINES:
        return f"not shown: more than {_MAX_LINES} lines\n"
    found = [_plain(line) for line in difflib.unified_diff(old, new, *names, lineterm="")]
    if not found:
        return "the same content: owner, mode or the end of the last line differs\n"
    rest = len(found) - _MAX_SHOWN
    kept = found if rest <= 0 else [*found[:_MAX_SHOWN], f"and {rest} more lines"]
    return "".join(f"{line}\n" for line in kept)


def _text(found: Found | None) -> str | None:
    if found is None or found.kind is Kind.REMOVED:
        return ""
    return found.text


def _plain(line: str) -> str:
    """A line without what a terminal would obey."""
    return "\t".join(printable(part) for part in line.split("\t"))
