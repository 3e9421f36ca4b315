"""Which entry systemd-boot starts: a model of its rules, for the judge of power cuts.

An entry is a file `*.efi` of `/EFI/Linux` with an os-release inside; others are skipped, an empty file too.  Entries
without tries left come last; then the sort key, the newest version, the newest id, and the counter decide.  A `default`
pattern of loader.conf is looked for in that order, and the first entry is taken when none matches.
Sources: Boot Loader Specification, "Boot counting", "Sorting" and "Type #2 EFI Unified Kernel Images"; systemd 257,
src/boot/boot.c: boot_entry_add_unified, boot_entry_parse_tries, boot_entry_compare, config_select_default_entry.

Pure: no I/O.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cmp_to_key

from partitions.version import compare

_TRIES = re.compile(r"(?P<prefix>.*\+)(?P<left>[0-9]+)(?:-(?P<done>[0-9]+))?(?P<suffix>\.efi)", re.IGNORECASE)
_SECTION = struct.Struct("<8sIIII16x")
_MOST_SECTIONS = 96
_LINE = re.compile(r"""(?P<key>[A-Z0-9_]+)=(?P<quote>["']?)(?P<value>.*)(?P=quote)""")


@dataclass(frozen=True)
class LoaderEntry:
    """An entry as the loader sees it; `tries_left` is None for one that is not counted."""

    file_name: str
    sort_key: str
    version: str
    tries_left: int | None
    tries_done: int

    @property
    def id(self) -> str:
        """What `default` is compared with: the file's name, in lower case, counter included."""
        return self.file_name.lower()

    @property
    def exhausted(self) -> bool:
        """Counted, and no tries left."""
        return self.tries_left == 0

    def bumped(self) -> LoaderEntry:
        """The entry after it was started once more."""
        match = _TRIES.fullmatch(self.file_name)
        if match is None or self.tries_left is None:
            return self
        left, done = max(self.tries_left - 1, 0), self.tries_done + 1
        name = f"{match['prefix']}{left}-{done}{match['suffix']}"
        return replace(self, file_name=name, tries_left=left, tries_done=done)


def make_entry(file_name: str, os_release: Mapping[str, str] | None) -> LoaderEntry | None:
    """The entry that a file is, or None for a file that the loader skips."""
    name = file_name.lower()
    if os_release is None or not name.endswith(".efi") or name.startswith((".", "auto-")):
        return None
    if not (os_release.get("PRETTY_NAME") or os_release.get("IMAGE_ID") or os_release.get("NAME")):
        return None
    version = next((os_release[key] for key in ("IMAGE_VERSION", "VERSION", "VERSION_ID") if os_release.get(key)), "")
    match = _TRIES.fullmatch(file_name)
    return LoaderEntry(
        file_name,
        os_release.get("IMAGE_ID") or os_release.get("ID") or "",
        version,
        int(match["left"]) if match else None,
        int(match["done"] or 0) if match else 0,
    )


def in_order(entries: Iterable[LoaderEntry]) -> list[LoaderEntry]:
    """The entries as the loader sorts them."""
    return sorted(entries, key=cmp_to_key(_compare))


def pick(entries: Iterable[LoaderEntry], *, default: str | None = None) -> LoaderEntry | None:
    """The entry that the loader starts by itself; None when there is none."""
    ordered = in_order(entries)
    wanted = [entry for entry in ordered if default is not None and fnmatchcase(entry.id, default)]
    return next(iter(wanted or ordered), None)


def default_of(loader_conf: bytes) -> str | None:
    """The pattern of `default` in a loader.conf; the last one counts."""
    found = None
    for line in loader_conf.decode(errors="replace").splitlines():
        key, _, value = line.strip().partition(" ")
        if key == "default" and value.strip():
            found = value.strip()
    return found


def os_release_of(program: bytes) -> dict[str, str] | None:
    """The os-release in a UKI (PE section `.osrel`); None when there is none to be read."""
    section = _section(program, b".osrel")
    if section is None:
        return None
    lines = section.rstrip(b"\0").decode(errors="replace").splitlines()
    matches = (_LINE.fullmatch(line.strip()) for line in lines)
    return {match["key"]: match["value"] for match in matches if match}


def _section(program: bytes, name: bytes) -> bytes | None:
    """The content of a section of a PE program (PE Format, "COFF File Header" and "Section Table")."""
    try:
        (header,) = struct.unpack_from("<I", program, 0x3C)
        magic, count, optional = struct.unpack_from("<4s2xH12xH2x", program, header)
        if program[:2] != b"MZ" or magic != b"PE\0\0" or count > _MOST_SECTIONS:
            return None
        for number in range(count):
            found = _SECTION.unpack_from(program, header + 24 + optional + number * _SECTION.size)
            if found[0].rstrip(b"\0") == name:
                size = min(found[1], found[3])
                return program[found[4] : found[4] + size]
    except struct.error:
        return None
    return None


def _compare(a: LoaderEntry, b: LoaderEntry) -> int:
    if a.exhausted != b.exhausted:
        return 1 if a.exhausted else -1
    if bool(a.sort_key) != bool(b.sort_key):
        return -1 if a.sort_key else 1
    if a.sort_key != b.sort_key:
        return -1 if a.sort_key < b.sort_key else 1
    ranked = (compare(b.version, a.version) if a.sort_key else 0) or compare(b.id, a.id)
    if ranked:
        return ranked
    left = [-1 if each.tries_left is None else each.tries_left for each in (a, b)]
    return (left[1] > left[0]) - (left[1] < left[0]) or (a.tries_done > b.tries_done) - (a.tries_done < b.tries_done)
