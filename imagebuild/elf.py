"""The dependencies that an ELF program or library names: its libraries, its interpreter, what it loads by itself.

Rules: only the headers, the dynamic section, the notes and a requested section are read, each with a bound; a file that
is not ELF is not an error, but a file that is cut off or points outside itself is.
It stands alone (standard library only), so that a script inside the tools tree can use it as well.
Sources: System V ABI, chapters 4 and 5 (gabi); "ELF Dlopen Metadata" of the UAPI group (`.note.dlopen`).
Not here: where the loader searches, and which names exist.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAGIC = b"\x7fELF"

_IDENT_BYTES = 16
_MOST_BYTES = 16 << 20  # of a table; the largest programs have some 100 KiB of names
_CLASS_32, _CLASS_64 = 1, 2
_LITTLE, _BIG = 1, 2
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29
_SHT_NOBITS = 8
_DLOPEN_OWNER, _DLOPEN_TYPE = b"FDO\0", 0x407C0C0A


class ElfError(ValueError):
    """The file begins like ELF and is damaged."""


@dataclass(frozen=True)
class Dlopen:
    """A library that a program may load while it runs, by its own note.

    Attributes:
        sonames: Names of the same library, the preferred one first.
        priority: `required`, `recommended` or `suggested`.
        feature: What it is for, if that is said.
    """

    sonames: tuple[str, ...]
    priority: str
    feature: str = ""


@dataclass(frozen=True)
class Elf:
    """The dependencies of an ELF file.

    Attributes:
        needed: Names of the libraries it is linked to.
        soname: Its own name as a library.
        search: Folders it looks into first (`RUNPATH`, else `RPATH`), with `$ORIGIN` as written.
        interpreter: Path of the loader that starts it; None for libraries and static programs.
        dlopen: What it may load while it runs.
    """

    needed: tuple[str, ...] = ()
    soname: str | None = None
    search: tuple[str, ...] = ()
    interpreter: str | None = None
    dlopen: tuple[Dlopen, ...] = ()


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True)
class _Form:
    """How a file of this class and byte order writes its tables."""

    wide: bool
    header: struct.Struct
    segment: struct.Struct
    dynamic: struct.Struct
    note: struct.Struct
    section: struct.Struct


def read_elf(stream: BinaryIO) -> Elf | None:
    """Read what a file needs; None when it is not ELF.

    Args:
        stream: A file that can be sought in; where it stands at the end is not defined.

    Raises:
        ElfError: It begins like ELF and is damaged.
    """
    stream.seek(0)
    ident = stream.read(_IDENT_BYTES)
    if not ident.startswith(MAGIC):
        return None
    form = _form(ident)
    segments = tuple(_segments(stream, form))
    interpreter = next((_text(_piece(stream, each), 0) for each in segments if each.kind == _PT_INTERP), None)
    notes = tuple(note for each in segments if each.kind == _PT_NOTE for note in _dlopen(_piece(stream, each), form))
    dynamic = next((each for each in segments if each.kind == _PT_DYNAMIC and each.size), None)
    if dynamic is None:
        return Elf(interpreter=interpreter, dlopen=notes)
    tags = tuple(_tags(_piece(stream, dynamic), form))
    names = _names(stream, segments, dict(tags))
    sonames, runpath, rpath = (_named(names, tags, kind) for kind in (_DT_SONAME, _DT_RUNPATH, _DT_RPATH))
    search = (folder for text in (runpath or rpath) for folder in text.split(":") if folder)
    return Elf(
        needed=_named(names, tags, _DT_NEEDED),
        soname=next(iter(sonames), None),
        search=tuple(search),
        interpreter=interpreter,
        dlopen=notes,
    )


def read_section(stream: BinaryIO, name: str) -> bytes | None:
    """The content of the section of a name; None when the file is not ELF or has none of it.

    Args:
        stream: A file that can be sought in; where it stands at the end is not defined.
        name: Such as `.comment`.

    Raises:
        ElfError: It begins like ELF and is damaged.
    """
    stream.seek(0)
    ident = stream.read(_IDENT_BYTES)
    if not ident.startswith(MAGIC):
        return None
    form = _form(ident)
    fields = form.header.unpack(_exactly(stream, _IDENT_BYTES, form.header.size))
    offset, entry_bytes, count, names_at = fields[5], *fields[10:]
    if not offset or not count:
        return None
    if entry_bytes != form.section.size:
        raise ElfError(f"section headers have {entry_bytes} bytes, not {form.section.size}")
    rows = [row[:6] for row in form.section.iter_unpack(_exactly(stream, offset, count * form.section.size))]
    if names_at >= count:
        raise ElfError(f"the names of sections are in section {names_at} of {count}")
    names = _exactly(stream, *rows[names_at][4:6])
    found = next((row for row in rows if row[1] != _SHT_NOBITS and row[0] and _text(names, row[0]) == name), None)
    return None if found is None else _exactly(stream, *found[4:6])


def _form(ident: bytes) -> _Form:
    if len(ident) < _IDENT_BYTES or ident[4] not in (_CLASS_32, _CLASS_64) or ident[5] not in (_LITTLE, _BIG):
        raise ElfError("the ELF header breaks off, or its class or byte order is not known")
    order, wide = "<" if ident[5] == _LITTLE else ">", ident[4] == _CLASS_64
    texts = ("HHIQQQIHHHHHH", "IIQQQQQQ", "qQ", "III", "IIQQQQIIQQ")
    if not wide:
        texts = ("HHIIIIIHHHHHH", "IIIIIIII", "iI", "III", "IIIIIIIIII")
    return _Form(wide, *(struct.Struct(order + text) for text in texts))


def _segments(stream: BinaryIO, form: _Form) -> Iterator[_Segment]:
    raw = _exactly(stream, _IDENT_BYTES, form.header.size)
    _, _, _, _, offset, _, _, _, entry_bytes, count, *_ = form.header.unpack(raw)
    if count and entry_bytes != form.segment.size:
        raise ElfError(f"program headers have {entry_bytes} bytes, not {form.segment.size}")
    table = _exactly(stream, offset, count * form.segment.size) if count else b""
    for row in form.segment.iter_unpack(table):
        if form.wide:
            kind, _, at, address, _, size, _, _ = row
        else:
            kind, at, address, _, size, _, _, _ = row
        yield _Segment(kind, at, address, size)


def _tags(table: bytes, form: _Form) -> Iterator[tuple[int, int]]:
    whole = len(table) - len(table) % form.dynamic.size
    for tag, value in form.dynamic.iter_unpack(table[:whole]):
        if tag == _DT_NULL:
            return
        yield tag, value


def _names(stream: BinaryIO, segments: tuple[_Segment, ...], tags: dict[int, int]) -> bytes:
    if _DT_STRTAB not in tags:
        return b""
    address = tags[_DT_STRTAB]
    for each in segments:
        if each.kind == _PT_LOAD and each.address <= address < each.address + each.size:
            return _exactly(stream, each.offset + address - each.address, tags.get(_DT_STRSZ, 0))
    raise ElfError(f"the names of the dynamic section are at {address:#x}, which no segment holds")


def _named(names: bytes, tags: tuple[tuple[int, int], ...], kind: int) -> tuple[str, ...]:
    return tuple(_text(names, value) for tag, value in tags if tag == kind)


def _dlopen(data: bytes, form: _Form) -> Iterator[Dlopen]:
    """The libraries that the notes of a segment name."""
    at = 0
    while at + form.note.size <= len(data):
        name_bytes, text_bytes, kind = form.note.unpack_from(data, at)
        name_at = at + form.note.size
        text_at = name_at + _aligned(name_bytes)
        if kind == _DLOPEN_TYPE and data[name_at : name_at + name_bytes] == _DLOPEN_OWNER:
            yield from _parsed(data[text_at : text_at + text_bytes])
        at = text_at + _aligned(text_bytes)


def _parsed(raw: bytes) -> Iterator[Dlopen]:
    try:
        rows = json.loads(raw.rstrip(b"\0"))
        for row in rows:
            sonames = tuple(str(name) for name in row["soname"])
            yield Dlopen(sonames, str(row.get("priority", "recommended")), str(row.get("feature", "")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ElfError(f"a note on what it loads cannot be read: {error}") from error


def _piece(stream: BinaryIO, segment: _Segment) -> bytes:
    return _exactly(stream, segment.offset, segment.size)


def _exactly(stream: BinaryIO, offset: int, size: int) -> bytes:
    if size > _MOST_BYTES:
        raise ElfError(f"a table of {size} bytes is longer than is believable")
    try:
        stream.seek(offset)
        data = stream.read(size)
    except (OverflowError, OSError, ValueError) as error:
        raise ElfError(f"nothing can be read at byte {offset}") from error
    if len(data) != size:
        raise ElfError(f"the file breaks off: {size} bytes at byte {offset} were expected, {len(data)} are left")
    return data


def _text(table: bytes, start: int) -> str:
    end = table.find(b"\0", start)
    if start >= len(table) or end < 0:
        raise ElfError(f"no text begins at byte {start} of a table of {len(table)}")
    return table[start:end].decode(errors="surrogateescape")


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
