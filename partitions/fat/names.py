"""Long and short names: how they are written, compared and made.

A long name is in slots of 13 UTF-16 units before the slot with the short name, the last part first; each carries a
checksum of the short name.  Two names that differ only in case are the same name.
Source: Microsoft FAT Specification (2005), sections 6.1 and 7.  Pure: no I/O.
"""

from __future__ import annotations

import itertools
import string
import struct
from collections.abc import Container

from partitions.errors import FatError

LAST_PART = 0x40
ATTRIBUTE_LONG_NAME = 0x0F
UNITS_PER_SLOT = 13
MOST_UNITS = 255
MOST_LONG_SLOTS = 20
SHORT_NAME_BYTES = 11

_LONG_SLOT = struct.Struct("<B10sBBB12sH4s")
_FORBIDDEN = frozenset('"*/:<>?\\|') | {chr(code) for code in range(32)} | {"\x7f"}
_SHORT_LETTERS = frozenset(string.ascii_uppercase + string.digits + "$%'-_@~`!(){}^#&")
_BASE_LETTERS, _EXTENSION_LETTERS = 8, 3
_LOWER_BASE, _LOWER_EXTENSION = 0x08, 0x10
# The first byte 0xE5 means a deleted slot, so a name that begins with it is stored with 0x05.
_ESCAPED_E5 = 0x05
# More than a folder can have entries.
_MOST_TAIL = 70_000
_CODEPAGE = "cp437"


def folded(name: str) -> str:
    """The name as it is compared: without case, and without the dots and spaces at the end."""
    upper = (letter.upper() for letter in name.rstrip(" ."))
    return "".join(big if len(big) == 1 else letter for big, letter in zip(upper, name, strict=False))


def require_name(name: str) -> None:
    """Refuse what cannot be the long name of a file.

    Raises:
        FatError: It cannot.
    """
    try:
        units = len(name.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        units = 0
    if not 1 <= units <= MOST_UNITS or _FORBIDDEN & set(name) or name[-1] in " .":
        raise FatError(f"{name!r} cannot be the name of a file on FAT")


def checksum(short_name: bytes) -> int:
    """The checksum over the 11 bytes of a short name that its long name's slots carry."""
    total = 0
    for byte in short_name:
        total = ((total >> 1) | (total & 1) << 7) + byte & 0xFF
    return total


def slots_needed(name: str) -> int:
    """How many slots Linux and this package need for a name, the one with the short name included."""
    if is_short(name):
        return 1
    units = len(name.encode("utf-16-le")) // 2
    return 1 + -(-units // UNITS_PER_SLOT)


def is_short(name: str) -> bool:
    """Whether a name is its own short name: 8 and 3 capital letters, digits or signs."""
    base, dot, extension = name.partition(".")
    return (
        1 <= len(base) <= _BASE_LETTERS
        and len(extension) <= _EXTENSION_LETTERS
        and bool(dot) == bool(extension)
        and set(base + extension) <= _SHORT_LETTERS
    )


def long_slots(name: str, short_name: bytes) -> tuple[bytes, ...]:
    """The slots of a long name in their order on the disk, for the file with this short name."""
    units = name.encode("utf-16-le")
    if len(units) // 2 % UNITS_PER_SLOT:
        units += b"\0\0"
    step = UNITS_PER_SLOT * 2
    parts = [units[start : start + step].ljust(step, b"\xff") for start in range(0, len(units), step)]
    total = checksum(short_name)
    slots = []
    for number, part in enumerate(parts, start=1):
        ordinal = number | (LAST_PART if number == len(parts) else 0)
        slots.append(
            _LONG_SLOT.pack(ordinal, part[:10], ATTRIBUTE_LONG_NAME, 0, total, part[10:22], 0, part[22:]),
        )
    return tuple(reversed(slots))


def long_part(slot: bytes) -> bytes:
    """The 26 bytes of a name that a long-name slot holds."""
    _, one, _, _, _, two, _, three = _LONG_SLOT.unpack(slot)
    return bytes(one + two + three)


def read_long(slots: tuple[bytes, ...]) -> str:
    """The name in the slots, which come in their order on the disk."""
    units = b"".join(long_part(slot) for slot in reversed(slots))
    ends = (at for at in range(0, len(units), 2) if units[at : at + 2] == b"\0\0")
    return units[: next(ends, len(units))].decode("utf-16-le", errors="replace")


def read_short(short_name: bytes, case: int = 0) -> str:
    """The 11 bytes of a short name as people write it; `case` is byte 12 of its slot."""
    raw = (b"\xe5" if short_name[0] == _ESCAPED_E5 else short_name[:1]) + short_name[1:]
    base = raw[:_BASE_LETTERS].decode(_CODEPAGE).rstrip(" ")
    extension = raw[_BASE_LETTERS:].decode(_CODEPAGE).rstrip(" ")
    base = base.lower() if case & _LOWER_BASE else base
    extension = extension.lower() if case & _LOWER_EXTENSION else extension
    return f"{base}.{extension}" if extension else base


def make_short(name: str, taken: Container[str], checksums: Container[int]) -> bytes:
    """The 11 bytes of a fresh short name for a long name.

    Args:
        name: The long name; when it is its own short name, that is the result.
        taken: The folded names of the folder, long and short.
        checksums: Those that the long-name slots of the folder carry.  A slot that an interrupted change left behind
            must not be taken for a part of the new name.

    Raises:
        FatError: There is no free one.
    """
    if is_short(name):
        return _packed(*name.partition(".")[::2])
    stem, _, ending = name.strip(". ").rpartition(".")
    base = _short_letters(stem or ending)
    extension = _short_letters(ending)[:_EXTENSION_LETTERS] if stem else ""
    for number in itertools.islice(itertools.count(1), _MOST_TAIL):
        tail = f"~{number}"
        short = _packed(base[: _BASE_LETTERS - len(tail)] + tail, extension)
        if folded(read_short(short)) not in taken and checksum(short) not in checksums:
            return short
    raise FatError(f"there is no free short name for {name}")


def _short_letters(text: str) -> str:
    return "".join(
        letter if letter in _SHORT_LETTERS else "_" for letter in text.upper() if letter not in (" ", ".")
    ).replace("~", "_")


def _packed(base: str, extension: str) -> bytes:
    return base.encode("ascii").ljust(_BASE_LETTERS) + extension.encode("ascii").ljust(_EXTENSION_LETTERS)
