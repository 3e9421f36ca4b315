"""Files that packages ship below `/var`, made at the first boot by systemd-tmpfiles.

`/var` is a file system of its own, empty at the first boot.  A service that expects `/var/lib/redis` with its owner,
and a program that expects `/var/lib/nfs/sm`, find them because the image has a tmpfiles.d file that recreates what the
packages had there when they were installed.
Left out: files that only the packages' own tools use, files that the image's own tmpfiles.d makes, and files that a
maintainer script wrote, because they belong to one machine.
Pure.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from bedrock import strict
from imagebuild.definition.paths import FACTORY, is_below, tmpfiles_word

TMPFILES_FILE = "/usr/lib/tmpfiles.d/twinhull-state.conf"
RECORD_FILE = "var.json"
# The tools of packages and their traces; folders that systemd makes; what is in memory; and what has no owner but root
# and is made by whoever needs it.
_LEFT_OUT = (
    "/var/backups",
    "/var/cache/adduser",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/ldconfig",
    "/var/cache/man",
    "/var/cache/private",
    "/var/lib/apt",
    "/var/lib/dbus",
    "/var/lib/dpkg",
    "/var/lib/initramfs-tools",
    "/var/lib/misc",
    "/var/lib/pam",
    "/var/lib/private",
    "/var/lib/python",
    "/var/lib/shells.state",
    "/var/lib/systemd",
    "/var/lib/ucf",
    "/var/lib/vim",
    "/var/local",
    "/var/lock",
    "/var/log/README",
    "/var/log/apt",
    "/var/log/btmp",
    "/var/log/journal",
    "/var/log/lastlog",
    "/var/log/private",
    "/var/log/runit",
    "/var/log/wtmp",
    "/var/mail",
    "/var/run",
    "/var/spool/mail",
    "/var/tmp",  # noqa: S108 - a name
)
_OF_FILES = ("/var/log/dpkg.log", "/var/log/alternatives.log", "/var/log/bootstrap.log", "/var/log/faillog")


@dataclass(frozen=True)
class StateEntry:
    """A name below `/var` as the packages left it; `content` of what a package ships, `target` of links."""

    path: str
    kind: str
    mode: Annotated[int, strict.Range(0, 0o7777)]
    user: str
    group: str
    shipped: bool
    size_bytes: int
    content: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class FirstBootState:
    """What the first boot must make.

    Attributes:
        lines: Lines of a tmpfiles.d file.
        factory: Texts that are copied from the image, by their path in it, with their modes.
        left_behind: Files that a maintainer's script wrote and that are not in the image.
    """

    lines: tuple[str, ...]
    factory: dict[str, tuple[int, str]]
    left_behind: tuple[str, ...]

    @property
    def text(self) -> str:
        """The tmpfiles.d file; empty when there is nothing to make."""
        head = "# What the packages of this image have below /var, made when it is missing."
        return "".join(f"{line}\n" for line in (head, *self.lines)) if self.lines else ""


def read_record(data: bytes, *, source: str) -> tuple[StateEntry, ...]:
    """Parse the record that `state.postinst` wrote.

    Raises:
        DocumentError: It is something else.
    """
    return strict.read(_Record, {"entries": strict.parse_json(data, source=source)}, source=source).entries


@dataclass(frozen=True)
class _Record:
    entries: tuple[StateEntry, ...]


def state_of(entries: Iterable[StateEntry], known: Iterable[str]) -> FirstBootState:
    """What the first boot must make of what the packages had.

    Args:
        entries: Everything below `/var`.
        known: The paths that tmpfiles.d files of the image name already; they may hold `*`.
    """
    lines: list[str] = []
    factory: dict[str, tuple[int, str]] = {}
    left: list[str] = []
    patterns = tuple(known)
    for entry in sorted(entries, key=lambda each: each.path):
        if _is_left_out(entry.path) or any(fnmatch.fnmatchcase(entry.path, pattern) for pattern in patterns):
            continue
        path, owner = tmpfiles_word(entry.path), f"{entry.mode:04o} {entry.user} {entry.group} -"
        if entry.kind == "folder":
            lines.append(f"d {path} {owner}")
        elif entry.kind == "link" and entry.target is not None:
            lines.append(f"L {path} - - - - {tmpfiles_word(entry.target)}")
        elif entry.kind == "file" and entry.size_bytes == 0:
            lines.append(f"f {path} {owner}")
        elif entry.kind == "file" and entry.content is not None:
            copy = FACTORY + entry.path
            factory[copy] = (entry.mode, entry.content)
            lines.append(f"C {path} {owner} {tmpfiles_word(copy)}")
        else:
            left.append(entry.path)
    return FirstBootState(tuple(lines), factory, tuple(left))


def tmpfiles_paths(texts: Iterable[str]) -> Iterator[str]:
    """The paths that tmpfiles.d files name, specifiers left as they are."""
    for text in texts:
        for line in text.splitlines():
            words = line.split()
            if len(words) > 1 and not words[0].startswith("#"):
                yield words[1].strip('"').rstrip("/")


def _is_left_out(path: str) -> bool:
    return path in _OF_FILES or any(is_below(path, folder) for folder in _LEFT_OUT)
