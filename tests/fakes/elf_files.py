"""Small files in ELF, for tests of what programs need."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

_HEADER_BYTES, _SEGMENT_BYTES, _BASE = 64, 56, 0x10000


def elf_file(
    *needed: str,
    soname: str | None = None,
    runpath: str | None = None,
    rpath: str | None = None,
    interpreter: str | None = None,
    dlopen: Sequence[object] = (),
    order: str = "<",
) -> bytes:
    """A 64-bit program that is linked to these libraries; without any of it a static one."""
    names = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, name in (*((1, each) for each in needed), (14, soname), (29, runpath), (15, rpath)):
        if name is not None:
            tags.append((tag, len(names)))
            names += name.encode() + b"\0"
    pieces: list[tuple[int, bytes]] = []
    if interpreter is not None:
        pieces.append((3, interpreter.encode() + b"\0"))
    if dlopen:
        text = json.dumps(list(dlopen)).encode() + b"\0"
        head = struct.pack(f"{order}III", 4, len(text), 0x407C0C0A)
        pieces.append((4, head + b"FDO\0" + text + bytes(-len(text) % 4)))
    count = len(pieces) + (2 if tags else 0)
    start = _HEADER_BYTES + count * _SEGMENT_BYTES
    if tags:
        tags += [(5, _BASE + start), (10, len(names)), (0, 0)]
        pieces = [(1, names), (2, b"".join(struct.pack(f"{order}qQ", *tag) for tag in tags)), *pieces]
    table, body = b"", b""
    for kind, data in pieces:
        offset = start + len(body)
        table += struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, _BASE + offset, 0, len(data), len(data), 8)
        body += data
    ident = b"\x7fELF" + bytes((2, 1 if order == "<" else 2, 1)) + bytes(9)
    fields = (2, 62, 1, 0, _HEADER_BYTES if count else 0, 0, 0, _HEADER_BYTES, _SEGMENT_BYTES, count, 0, 0, 0)
    return ident + struct.pack(f"{order}HHIQQQIHHHHHH", *fields) + table + body


def sections_file(sections: Mapping[str, bytes]) -> bytes:
    """A 64-bit file with these sections, and no program headers."""
    contents = {"": b"", **sections, ".shstrtab": b""}
    names = b"".join(name.encode() + b"\0" for name in contents)
    contents[".shstrtab"] = names
    table, body, name_at = b"", b"", 0
    for name, data in contents.items():
        kind = 0 if not name else 1
        table += struct.pack("<IIQQQQIIQQ", name_at, kind, 0, 0, _HEADER_BYTES + len(body), len(data), 0, 0, 1, 0)
        name_at += len(name) + 1
        body += data
    fields = (2, 62, 1, 0, 0, _HEADER_BYTES + len(body), 0, _HEADER_BYTES, 0, 0, 64, len(contents), len(contents) - 1)
    return b"\x7fELF" + bytes((2, 1, 1)) + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *fields) + body + table
