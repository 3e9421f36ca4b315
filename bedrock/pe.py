"""The section table of programs for firmware (PE32 and PE32+): which part of the file is called what.

Source: Microsoft PE format, "Section Table".  Pure: no I/O.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# What a program's headers may take of it, and how many sections it may have.
HEADERS_MAX = 1 << 16
SECTIONS_MAX = 96
_SECTION = struct.Struct("<8sIIII16x")


@dataclass(frozen=True)
class Section:
    """A section of a program: its name, where it is in the file, and how many bytes of it count."""

    name: str
    offset: int
    size_bytes: int


def section_table(head: bytes) -> tuple[Section, ...]:
    """The sections of a program in the order of its headers; names may come twice.

    Args:
        head: The beginning of the file, with all its headers.

    Raises:
        ValueError: It is not a program, or has too many sections.
        struct.error: Its headers are cut off.
    """
    if head[:2] != b"MZ":
        raise ValueError("it does not begin with MZ")
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if head[pe : pe + 4] != b"PE\0\0":
        raise ValueError("it has no PE header")
    count, optional_size = struct.unpack_from("<H12xH", head, pe + 6)
    if count > SECTIONS_MAX:
        raise ValueError(f"it has {count} sections")
    found = []
    for number in range(count):
        name, size, _, length, start = _SECTION.unpack_from(head, pe + 24 + optional_size + _SECTION.size * number)
        # Those of which nothing is in the file hold nothing that a UKI carries.
        if length:
            found.append(Section(name.rstrip(b"\0").decode("ascii", "replace"), start, min(size, length)))
    return tuple(found)
