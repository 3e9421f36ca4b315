"""What a UKI says of itself: the root hash it boots, its image and version.

A name proves nothing: files are renamed, names are lost on FAT.  So whoever wants to know what a file boots reads it
here.  Only the headers and two small sections are read; whether the rest is whole is not judged.
Sources: Microsoft PE format (section table); UAPI Unified Kernel Image specification (`.cmdline`, `.osrel`,
`.profile`).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from partitions.errors import UkiError
from partitions.version import Version

_HEADERS_MAX = 1 << 16
_SECTIONS_MAX = 96
_TEXT_MAX = 1 << 16
_SECTION = struct.Struct("<8sIIII16x")
_COMMAND_LINE, _OS_RELEASE = b".cmdline", b".osrel"
_ROOT_HASH = re.compile(r"(?:^|\s)roothash=([0-9a-fA-F]{64})(?=\s|$)")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class UkiContent:
    """What a UKI boots; `root_hash` is 64 lowercase hexadecimal digits."""

    root_hash: str
    image: str
    version: Version


def read_uki(stream: BinaryIO, *, source: str) -> UkiContent:
    """Read what a UKI boots from a file that is open for reading.

    Raises:
        UkiError: It is not a UKI of a Twinhull image: not a PE file, damaged, or without one root hash.
        OSError: It cannot be read.
    """
    try:
        return _content(list(_texts(stream)))
    except (struct.error, ValueError) as error:
        raise UkiError(f"{source} is not a UKI of a Twinhull image: {error}") from error


def _content(texts: list[tuple[bytes, str]]) -> UkiContent:
    lines = [text for name, text in texts if name == _COMMAND_LINE]
    hashes = {found.lower() for line in lines for found in _ROOT_HASH.findall(line)}
    # Further profiles of the same UKI (a rescue entry) have a command line of their own, and the same root.
    if len(hashes) != 1 or not all(_ROOT_HASH.search(line) for line in lines):
        raise ValueError(f"its command lines name {len(hashes)} root hashes")
    release = next((text for name, text in texts if name == _OS_RELEASE), "")
    image, version = _value(release, "IMAGE_ID"), _value(release, "IMAGE_VERSION")
    if not _IMAGE.fullmatch(image):
        raise ValueError(f"its IMAGE_ID is {image[:80]!r}")
    return UkiContent(hashes.pop(), image, Version.from_text(version))


def _texts(stream: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """The names and contents of the sections that are text."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(_HEADERS_MAX)
    if head[:2] != b"MZ":
        raise ValueError("it does not begin with MZ")
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if head[pe : pe + 4] != b"PE\0\0":
        raise ValueError("it has no PE header")
    count, optional_size = struct.unpack_from("<H12xH", head, pe + 6)
    if count > _SECTIONS_MAX:
        raise ValueError(f"it has {count} sections")
    for number in range(count):
        raw, virtual, _, length, start = _SECTION.unpack_from(head, pe + 24 + optional_size + _SECTION.size * number)
        name = raw.rstrip(b"\0")
        if name not in (_COMMAND_LINE, _OS_RELEASE):
            continue
        used = min(virtual, length)
        if used > _TEXT_MAX or start + used > size:
            raise ValueError(f"its section {name.decode()} has {used} bytes at {start}")
        stream.seek(start)
        yield name, stream.read(used).rstrip(b"\0").decode()


def _value(release: str, key: str) -> str:
    """A variable of an os-release file, without quotes; empty when it is missing."""
    for line in release.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == key:
            return value.strip().strip("\"'")
    return ""
