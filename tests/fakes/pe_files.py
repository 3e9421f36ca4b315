"""Small programs in PE32+ form, which the code under test cannot tell from those of a linker."""

from __future__ import annotations

import struct

HEADERS = 0x400
ALIGNMENT = 0x200


def uki_file(root_hash: str, image: str, version: str, *, kernel: bytes = b"kernel", extra: str = "") -> bytes:
    """A UKI that boots this root hash; `extra` is added to its command line."""
    return pe_file(
        f"quiet roothash={root_hash}{extra}".encode(),
        f'ID=debian\nIMAGE_ID="{image}"\nIMAGE_VERSION="{version}"\n'.encode(),
        kernel,
        names=(".cmdline", ".osrel", ".linux"),
    )


def pe_file(
    *sections: bytes,
    magic: int = 0x20B,
    entries: int = 16,
    gap: int = 0,
    tail: bytes = b"",
    names: tuple[str, ...] = (),
) -> bytes:
    """A program with these sections.

    Args:
        sections: Their contents.
        magic: The kind of the optional header.
        entries: How many directories it has.
        gap: Bytes that belong to no section, before the last one.
        tail: Bytes after the last section.
        names: What the sections are called; by their numbers when empty.
    """
    contents = [content + bytes(-len(content) % ALIGNMENT) for content in sections]
    directories = {0x10B: 96, 0x20B: 112}.get(magic, 112)
    optional_size = directories + 8 * entries
    header = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40)
    header += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(contents), 0, 0, 0, optional_size, 0x22)
    optional = bytearray(optional_size)
    struct.pack_into("<H", optional, 0, magic)
    struct.pack_into("<I", optional, 60, HEADERS)
    struct.pack_into("<I", optional, 64, 0xDEADBEEF)
    struct.pack_into("<I", optional, directories - 4, entries)
    header += optional
    start = HEADERS
    for number, content in enumerate(contents):
        if gap and number == len(contents) - 1:
            start += gap
        name = names[number].encode() if names else b".s%d" % number
        size = len(sections[number])
        header += struct.pack("<8sIIII16x", name, size, 0x1000 * (number + 1), len(content), start)
        start += len(content)
    body = b"".join((*contents[:-1], bytes(gap), contents[-1])) if contents else b""
    return header + bytes(HEADERS - len(header)) + body + tail
