"""Programs for firmware (PE32 and PE32+): the digest that is signed, and the table of signatures at their end.

Rules: a file is refused when readers could disagree about what of it is signed: its sections must follow each other
without gaps, and its table must end it.  Files are read in parts, for a UKI is tens of megabytes.
Source: Microsoft PE format; "Windows Authenticode Portable Executable Signature Format", "Calculating the PE Image
Hash"; EDK2, `HashPeImage`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bedrock.partial import new_file
from bedrock.pe import HEADERS_MAX, SECTIONS_MAX, Section, section_table
from keys.errors import PeFormatError

_TABLE_MAX = 1 << 20
_CHUNK = 1 << 20
_ALIGNMENT = 8
_SIGNATURE_ENTRY = 4
# From the start of the optional header: where the directories begin, by its magic number.
_DIRECTORIES = {0x10B: 96, 0x20B: 112}
_CHECKSUM, _HEADERS_SIZE = 64, 60
_WIN_CERTIFICATE = struct.Struct("<IHH")
_REVISION, _PKCS_SIGNED_DATA = 0x0200, 0x0002


@dataclass(frozen=True)
class Program:
    """Where the parts of a program are that a signature treats specially; offsets and lengths in bytes.

    Attributes:
        checksum: Offset of the checksum, four bytes that are not signed.
        entry: Offset of the entry for the table of signatures, eight bytes that are not signed.
        content: Length of the file without that table.
        table: Length of the table; 0 when the program is unsigned.
    """

    checksum: int
    entry: int
    content: int
    table: int


def read_program(stream: BinaryIO, *, source: str) -> Program:
    """Find the parts of a program in a file that is open for reading.

    Raises:
        PeFormatError: It is not a PE file, or one whose signed part is ambiguous.
        OSError: It cannot be read.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(HEADERS_MAX)
    try:
        return _parsed(head, size)
    except (struct.error, ValueError) as error:
        raise PeFormatError(f"{source} is not a program that firmware could start: {error}") from error


def authenticode_digest(path: Path) -> bytes:
    """The SHA-256 that a signature of a program is made for, and by which dbx names it; 32 bytes.

    The same for the unsigned and the signed file.

    Raises:
        PeFormatError: It is not a PE file, or one whose signed part is ambiguous.
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        program = read_program(stream, source=str(path))
        for start, end in (
            (0, program.checksum),
            (program.checksum + 4, program.entry),
            (program.entry + 8, program.content),
        ):
            stream.seek(start)
            for chunk in _chunks(stream, end - start, source=str(path)):
                digest.update(chunk)
    digest.update(bytes(-program.content % _ALIGNMENT))
    return digest.digest()


def sections_of(path: Path) -> tuple[Section, ...]:
    """The sections of a program in the order of its headers; names may come twice.

    Raises:
        PeFormatError: It is not a PE file, or its sections cannot be read in one way only.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        read_program(stream, source=str(path))
        stream.seek(0)
        return section_table(stream.read(HEADERS_MAX))


def section_bytes(path: Path, name: str, *, limit: int = 1 << 20) -> bytes | None:
    """What the first section of this name holds; None when the program has none.

    Raises:
        PeFormatError: It is not a PE file, or the section is larger than `limit` bytes.
        OSError: It cannot be read.
    """
    section = next((each for each in sections_of(path) if each.name == name), None)
    if section is None:
        return None
    if section.size_bytes > limit:
        raise PeFormatError(f"the section {name} of {path} has {section.size_bytes} bytes, more than {limit}")
    with path.open("rb") as stream:
        stream.seek(section.offset)
        return stream.read(section.size_bytes)


def attach(signature: bytes, unsigned: Path, signed: Path) -> None:
    """Write `signed`: the program `unsigned` with a signature (PKCS #7, DER) in its table.

    Raises:
        PeFormatError: It is not a PE file, or is signed already.
        OSError: The disk is full.
    """
    with unsigned.open("rb") as stream:
        program = read_program(stream, source=str(unsigned))
    if program.table:
        raise PeFormatError(f"{unsigned} is signed already")
    certificate = (
        _WIN_CERTIFICATE.pack(_WIN_CERTIFICATE.size + len(signature), _REVISION, _PKCS_SIGNED_DATA) + signature
    )
    certificate += bytes(-len(certificate) % _ALIGNMENT)
    padding = bytes(-program.content % _ALIGNMENT)
    with new_file(signed) as partial:
        shutil.copyfile(unsigned, partial)
        with partial.open("r+b") as stream:
            stream.seek(program.entry)
            stream.write(struct.pack("<II", program.content + len(padding), len(certificate)))
            stream.seek(0, os.SEEK_END)
            stream.write(padding + certificate)


def signatures_of(path: Path) -> tuple[bytes, ...]:
    """The signatures in the table of a program (PKCS #7, DER), in their order.

    Raises:
        PeFormatError: It is not a PE file, or its table is damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        program = read_program(stream, source=str(path))
        stream.seek(program.content)
        table = stream.read(min(program.table, _TABLE_MAX))
    found: list[bytes] = []
    offset = 0
    while offset + _WIN_CERTIFICATE.size <= len(table):
        length, _, kind = _WIN_CERTIFICATE.unpack_from(table, offset)
        if not _WIN_CERTIFICATE.size <= length <= len(table) - offset:
            raise PeFormatError(f"the table of signatures of {path} is damaged")
        if kind == _PKCS_SIGNED_DATA:
            found.append(table[offset + _WIN_CERTIFICATE.size : offset + length])
        offset += length + -length % _ALIGNMENT
    return tuple(found)


def _parsed(head: bytes, size: int) -> Program:
    if head[:2] != b"MZ":
        raise ValueError("it does not begin with MZ")
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if head[pe : pe + 4] != b"PE\0\0":
        raise ValueError("it has no PE header")
    count, optional_size = struct.unpack_from("<H12xH", head, pe + 6)
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", head, optional)
    if magic not in _DIRECTORIES:
        raise ValueError(f"its optional header has the unknown kind {magic:#x}")
    directories = optional + _DIRECTORIES[magic]
    (entries,) = struct.unpack_from("<I", head, directories - 4)
    if entries <= _SIGNATURE_ENTRY or directories + 8 * entries > optional + optional_size:
        raise ValueError("it has no entry for signatures")
    entry = directories + 8 * _SIGNATURE_ENTRY
    offset, table = struct.unpack_from("<II", head, entry)
    content = offset if table else size
    if table and (offset % _ALIGNMENT or offset + table != size):
        raise ValueError(f"its table of signatures at {offset} of {table} bytes does not end the file of {size} bytes")
    (headers,) = struct.unpack_from("<I", head, optional + _HEADERS_SIZE)
    _require_whole(head, optional + optional_size, count, headers, content)
    return Program(optional + _CHECKSUM, entry, content, table)


def _require_whole(head: bytes, table: int, count: int, headers: int, content: int) -> None:
    """Check that headers and sections follow each other, so that hashing by section hashes all bytes in their order."""
    if count > SECTIONS_MAX:
        raise ValueError(f"it has {count} sections")
    if headers < table + 40 * count:
        raise ValueError("its headers are longer than they say")
    sections = sorted(
        (start, length)
        for length, start in (struct.unpack_from("<II", head, table + 40 * number + 16) for number in range(count))
        if length
    )
    end = headers
    for start, length in sections:
        if start != end:
            raise ValueError(f"a section begins at {start} and the part before it ends at {end}")
        end += length
    if end > content:
        raise ValueError(f"it is cut off: {content} bytes, and its sections end at {end}")


def _chunks(stream: BinaryIO, length: int, *, source: str) -> Iterator[bytes]:
    while length:
        chunk = stream.read(min(length, _CHUNK))
        if not chunk:
            raise PeFormatError(f"{source} became shorter while it was read")
        length -= len(chunk)
        yield chunk
